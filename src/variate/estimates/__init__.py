"""Expectations, with error bars that can be believed."""

from .base import Best as Best
from .base import Controls as Controls
from .base import Weighting as Weighting
from .control_variates import ControlVariates as ControlVariates
from .controlled import Controlled as Controlled
from .controlled import ControlledMoments as ControlledMoments
from .designs import Antithetic as Antithetic
from .designs import Design as Design
from .designs import LatinHypercube as LatinHypercube
from .designs import Lattice as Lattice
from .designs import Sets as Sets
from .designs import Sobol as Sobol
from .designs import Stratified as Stratified
from .estimate import Estimate as Estimate
from .expectation import expect as expect
from .function_of_means import FunctionOfMeans as FunctionOfMeans
from .importance import Importance as Importance
from .moments import Moments as Moments
from .scores import Scores as Scores
from .stopping import StdErr as StdErr
from .stopping import StoppingRule as StoppingRule
from .weighted import WeightedMoments as WeightedMoments
