"""Kernels whose chain is an ensemble of walkers, which propose by where the others are."""

from .differential_evolution import DifferentialEvolution as DifferentialEvolution
from .stretch import Stretch as Stretch
