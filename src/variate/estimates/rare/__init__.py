"""Probabilities of what independent runs never show."""

from .exceedance import exceedance as exceedance
from .splitting import Splitting as Splitting
