"""Gradients of expectations: a rule a file, chosen draw by draw."""

from variate.gradients.base import BiasedGradientError as BiasedGradientError
from variate.gradients.base import Rule as Rule
from variate.gradients.coupled import Coupled as Coupled
from variate.gradients.enumerate import Enumerate as Enumerate
from variate.gradients.explain import Explanation as Explanation
from variate.gradients.explain import explain as explain
from variate.gradients.measure_valued import MeasureValued as MeasureValued
from variate.gradients.pathwise import Pathwise as Pathwise
from variate.gradients.score import LeaveOneOut as LeaveOneOut
from variate.gradients.score import NoBaseline as NoBaseline
from variate.gradients.score import Score as Score
from variate.gradients.transform import grad as grad
from variate.gradients.transform import surrogate_loss as surrogate_loss
from variate.gradients.transform import value_and_grad as value_and_grad
