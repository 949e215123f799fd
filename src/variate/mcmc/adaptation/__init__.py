"""What a kernel leaves open, found while chains warm up."""

from .pathfinder import Pathfinder as Pathfinder
from .step_size import DualAveraging as DualAveraging
from .turns import TurnsWarmup as TurnsWarmup
from .warmup import Warmup as Warmup
