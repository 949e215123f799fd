"""Draws from other distributions than the program's, the weights that make up for it, and whether they can."""

from .importance import Importance as Importance
from .importance import defended as defended
from .mixture import Mixture as Mixture
from .self_normalized import SelfNormalized as SelfNormalized
from .self_normalized import Weighted as Weighted
from .smoothed import ParetoSmoothed as ParetoSmoothed
from .watch import Watch as Watch
from .watch import judged as judged
