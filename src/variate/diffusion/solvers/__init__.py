"""Solvers: from noise to data in few evaluations of a model."""

from .accelerated import AcceleratedDDIM as AcceleratedDDIM
from .ancestral import Ancestral as Ancestral
from .ancestral_learned import AncestralLearned as AncestralLearned
from .base import Solver as Solver
from .conjugate import ConjugateDDIM as ConjugateDDIM
from .ddim import DDIM as DDIM
from .dpm_solver_pp_singlestep import DPMSolverPPSinglestep as DPMSolverPPSinglestep
from .dpm_solver_singlestep import DPMSolverSinglestep as DPMSolverSinglestep
from .dual_fast import DualFast as DualFast
from .euler import Euler as Euler
from .evodiff import EVODiff as EVODiff
from .exponential import DEIS as DEIS
from .exponential import ERSDE as ERSDE
from .exponential import DPMSolver as DPMSolver
from .exponential import DPMSolverPP as DPMSolverPP
from .exponential import SASolver as SASolver
from .exponential import SDEDPMSolver as SDEDPMSolver
from .exponential import SDEDPMSolverPP as SDEDPMSolverPP
from .exponential import UniPC as UniPC
from .gddim import GDDIM as GDDIM
from .genie import Genie as Genie
from .heun import Heun as Heun
from .predictor_corrector import PredictorCorrector as PredictorCorrector
from .restart import Restart as Restart
from .sscs import SSCS as SSCS
