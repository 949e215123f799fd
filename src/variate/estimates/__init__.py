"""Expectations, with error bars that can be believed."""

from .estimate import Estimate as Estimate
from .expectation import expect as expect
from .expectation import sample_block as sample_block
from .moments import Moments as Moments
from .stopping import StdErr as StdErr
from .stopping import StoppingRule as StoppingRule
from .weighted import WeightedMoments as WeightedMoments
