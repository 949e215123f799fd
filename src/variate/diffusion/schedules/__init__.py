"""Schedules: the times at which a solver works, as plain arrays."""

from .edm import edm as edm
from .uniform import uniform as uniform
from .uniform import uniform_log_snr as uniform_log_snr
