"""The rules, one a file: how a draw contributes to a gradient."""

from variate.gradients.rules.baseline import Given as Given
from variate.gradients.rules.baseline import Learned as Learned
from variate.gradients.rules.baseline import LeaveOneOut as LeaveOneOut
from variate.gradients.rules.baseline import Linear as Linear
from variate.gradients.rules.baseline import MovingAverage as MovingAverage
from variate.gradients.rules.baseline import NoBaseline as NoBaseline
from variate.gradients.rules.baseline import Optimal as Optimal
from variate.gradients.rules.coupled import Coupled as Coupled
from variate.gradients.rules.enumerate import Enumerate as Enumerate
from variate.gradients.rules.implicit_reparameterization import ImplicitReparameterization as ImplicitReparameterization
from variate.gradients.rules.measure_valued import MeasureValued as MeasureValued
from variate.gradients.rules.pathwise import Pathwise as Pathwise
from variate.gradients.rules.score import Score as Score
