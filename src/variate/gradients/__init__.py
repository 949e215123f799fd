"""Gradients of expectations: a rule a file, chosen draw by draw."""

from variate.gradients.base import BiasedGradientError as BiasedGradientError
from variate.gradients.base import Rule as Rule
from variate.gradients.explain import Explanation as Explanation
from variate.gradients.explain import explain as explain
from variate.gradients.optimality import fixed_point as fixed_point
from variate.gradients.optimality import implicit as implicit
from variate.gradients.optimality import linear_solves as linear_solves
from variate.gradients.optimality import projected_gradient as projected_gradient
from variate.gradients.optimality import projections as projections
from variate.gradients.optimality import proximal_gradient as proximal_gradient
from variate.gradients.optimality import stationary as stationary
from variate.gradients.perturbations import SPSA as SPSA
from variate.gradients.perturbations import EvolutionStrategies as EvolutionStrategies
from variate.gradients.perturbations import Perturbation as Perturbation
from variate.gradients.perturbations import black_box as black_box
from variate.gradients.rules import Coupled as Coupled
from variate.gradients.rules import Enumerate as Enumerate
from variate.gradients.rules import ImplicitReparameterization as ImplicitReparameterization
from variate.gradients.rules import LeaveOneOut as LeaveOneOut
from variate.gradients.rules import MeasureValued as MeasureValued
from variate.gradients.rules import NoBaseline as NoBaseline
from variate.gradients.rules import Pathwise as Pathwise
from variate.gradients.rules import Score as Score
from variate.gradients.transform import grad as grad
from variate.gradients.transform import surrogate_loss as surrogate_loss
from variate.gradients.transform import value_and_grad as value_and_grad
