"""Nine posteriors of real data, as programs, each with the moments that its draws are to have."""

from .base import Moments as Moments
from .base import Posterior as Posterior
from .base import found as found
from .table import TABLE as TABLE
