"""Solvers: from noise to data in few evaluations of a model."""

from .accelerated import AcceleratedDDIM as AcceleratedDDIM
from .ancestral import Ancestral as Ancestral
from .base import Solver as Solver
from .ddim import DDIM as DDIM
from .dpm_solver import DPMSolver as DPMSolver
from .dpm_solver_pp import DPMSolverPP as DPMSolverPP
from .dpm_solver_pp_singlestep import DPMSolverPPSinglestep as DPMSolverPPSinglestep
from .euler import Euler as Euler
from .genie import Genie as Genie
from .heun import Heun as Heun
from .predictor_corrector import PredictorCorrector as PredictorCorrector
from .restart import Restart as Restart
