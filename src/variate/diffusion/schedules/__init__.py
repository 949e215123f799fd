"""Schedules: the times at which a solver works, as plain arrays."""

from .beta import beta as beta
from .cosine import cosine as cosine
from .edm import edm as edm
from .uniform import uniform as uniform
from .uniform import uniform_log_snr as uniform_log_snr
