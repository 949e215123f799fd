"""Kernels for a target that is a sum over data, which look at a few of its items in a step."""

from .delayed import DelayedAcceptance as DelayedAcceptance
from .sgld import SGLD as SGLD
from .sum import Sum as Sum
from .tuna import TunaMH as TunaMH
