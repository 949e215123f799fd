"""Exponential integrators: what is linear exactly, and predictions along a polynomial through the last of them."""

from .deis import DEIS as DEIS
from .dpm_solver import DPMSolver as DPMSolver
from .dpm_solver_pp import DPMSolverPP as DPMSolverPP
from .er_sde import ERSDE as ERSDE
from .sa_solver import SASolver as SASolver
from .sde_dpm_solver import SDEDPMSolver as SDEDPMSolver
from .sde_dpm_solver_pp import SDEDPMSolverPP as SDEDPMSolverPP
from .unipc import UniPC as UniPC
