"""Kernels that add noise to the target and take it away again, with nothing learnt."""

from .langevin_gibbs import DenoisingLangevinGibbs as DenoisingLangevinGibbs
from .log_concave_chain import LogConcaveChain as LogConcaveChain
from .reverse_diffusion import ReverseDiffusion as ReverseDiffusion
