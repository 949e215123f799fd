"""Markov chains on a target; long samplings in pieces, with progress and checkpoints, on one process or machines."""

from .base import Lost as Lost
from .base import Workers as Workers
from .devices import Devices as Devices
from .draws import Draws as Draws
from .folded import Folded as Folded
from .processes import Processes as Processes
from .ray import Ray as Ray
from .runner import Runner as Runner
from .store import Stored as Stored
from .summary import Summary as Summary
from .until import ESS as ESS
from .until import RHat as RHat
from .until import Seconds as Seconds
from .until import Until as Until
