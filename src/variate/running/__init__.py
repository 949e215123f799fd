"""Long samplings: in pieces, with progress, checkpoints and limits of time, on one process or many machines."""

from .base import Lost as Lost
from .base import Workers as Workers
from .devices import Devices as Devices
from .processes import Processes as Processes
from .ray import Ray as Ray
from .runner import Runner as Runner
