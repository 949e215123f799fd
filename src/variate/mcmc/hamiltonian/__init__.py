"""Kernels that follow Hamiltonian paths."""

from .chees import ChEES as ChEES
from .hmc import HMC as HMC
from .mams import MAMS as MAMS
from .mclmc import MCLMC as MCLMC
from .nuts import NUTS as NUTS
