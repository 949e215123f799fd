"""Processes: how data turn into noise."""

from .base import Level as Level
from .base import Process as Process
from .flow import Flow as Flow
from .variance_exploding import EDM as EDM
from .variance_preserving import VariancePreserving as VariancePreserving
