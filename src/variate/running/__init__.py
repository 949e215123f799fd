"""Markov chains on a target; long samplings in pieces, with progress and checkpoints, on one process or machines."""

from .base import Lost as Lost
from .base import Workers as Workers
from .chains import Draws as Draws
from .chains import sample as sample
from .devices import Devices as Devices
from .processes import Processes as Processes
from .ray import Ray as Ray
from .runner import Runner as Runner
