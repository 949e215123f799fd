"""Samplers with numbers that are learned from a model."""

from .coefficients import Fitted as Fitted
from .coefficients import fit as fit
from .schedule import fit_schedule as fit_schedule
