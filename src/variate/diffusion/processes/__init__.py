"""Processes: how data turn into noise."""

from .base import Level as Level
from .base import Process as Process
from .cosine import CosineVP as CosineVP
from .flow import Flow as Flow
from .geometric import GeometricVE as GeometricVE
from .interpolant import Interpolant as Interpolant
from .learned import LearnedVP as LearnedVP
from .mean_reverting import MeanReverting as MeanReverting
from .variance_exploding import EDM as EDM
from .variance_preserving import VariancePreserving as VariancePreserving
