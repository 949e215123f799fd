"""Solvers: from noise to data in few evaluations of a model."""

from .base import Solver as Solver
from .ddim import DDIM as DDIM
from .exponential import DEIS as DEIS
from .exponential import ERSDE as ERSDE
from .exponential import DPMSolver as DPMSolver
from .exponential import DPMSolverPP as DPMSolverPP
from .exponential import SASolver as SASolver
from .exponential import SDEDPMSolverPP as SDEDPMSolverPP
from .exponential import UniPC as UniPC
from .heun import Heun as Heun
