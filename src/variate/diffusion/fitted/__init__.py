"""Samplers with numbers that are learned from a model."""

from .coefficients import Fitted as Fitted
from .coefficients import fit as fit
from .compensation import fit_compensation as fit_compensation
from .dpm_solver_v3 import DPMSolverV3 as DPMSolverV3
from .dpm_solver_v3 import fit_dpm_solver_v3 as fit_dpm_solver_v3
from .schedule import fit_schedule as fit_schedule
from .search import Searched as Searched
from .search import search as search
