"""Black boxes: gradients of functions of which only values are known, from values at perturbed arguments."""

from variate.gradients.perturbations.black_box import black_box as black_box
from variate.gradients.perturbations.evolution_strategies import EvolutionStrategies as EvolutionStrategies
from variate.gradients.perturbations.perturbation import Perturbation as Perturbation
from variate.gradients.perturbations.spsa import SPSA as SPSA
