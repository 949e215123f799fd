"""Implicit differentiation: solvers differentiated by the conditions that their solutions fulfil."""

from variate.gradients.optimality import linear_solves as linear_solves
from variate.gradients.optimality import projections as projections
from variate.gradients.optimality.conditions import fixed_point as fixed_point
from variate.gradients.optimality.conditions import projected_gradient as projected_gradient
from variate.gradients.optimality.conditions import proximal_gradient as proximal_gradient
from variate.gradients.optimality.conditions import stationary as stationary
from variate.gradients.optimality.implicit_diff import implicit as implicit
