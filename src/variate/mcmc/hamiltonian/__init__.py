"""Kernels that follow Hamiltonian paths."""

from .hmc import HMC as HMC
from .nuts import NUTS as NUTS
