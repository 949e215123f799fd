"""Solvers: from noise to data in few evaluations of a model."""

from .base import Solver as Solver
from .ddim import DDIM as DDIM
from .dpm_solver_pp import DPMSolverPP as DPMSolverPP
from .heun import Heun as Heun
