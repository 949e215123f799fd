"""Gradients of expectations: a rule a file, chosen draw by draw."""

from variate.gradients import linear_solves as linear_solves
from variate.gradients import projections as projections
from variate.gradients.base import BiasedGradientError as BiasedGradientError
from variate.gradients.base import Rule as Rule
from variate.gradients.black_box import black_box as black_box
from variate.gradients.conditions import fixed_point as fixed_point
from variate.gradients.conditions import projected_gradient as projected_gradient
from variate.gradients.conditions import proximal_gradient as proximal_gradient
from variate.gradients.conditions import stationary as stationary
from variate.gradients.coupled import Coupled as Coupled
from variate.gradients.enumerate import Enumerate as Enumerate
from variate.gradients.evolution_strategies import EvolutionStrategies as EvolutionStrategies
from variate.gradients.explain import Explanation as Explanation
from variate.gradients.explain import explain as explain
from variate.gradients.implicit_diff import implicit as implicit
from variate.gradients.implicit_reparameterization import ImplicitReparameterization as ImplicitReparameterization
from variate.gradients.measure_valued import MeasureValued as MeasureValued
from variate.gradients.pathwise import Pathwise as Pathwise
from variate.gradients.perturbation import Perturbation as Perturbation
from variate.gradients.score import LeaveOneOut as LeaveOneOut
from variate.gradients.score import NoBaseline as NoBaseline
from variate.gradients.score import Score as Score
from variate.gradients.spsa import SPSA as SPSA
from variate.gradients.transform import grad as grad
from variate.gradients.transform import surrogate_loss as surrogate_loss
from variate.gradients.transform import value_and_grad as value_and_grad
