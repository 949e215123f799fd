"""Programs: functions that draw, staged so that they can be run, replayed and analysed."""

from variate.programs.conditioning import Conditioned as Conditioned
from variate.programs.conditioning import condition as condition
from variate.programs.conditioning import mixed as mixed
from variate.programs.densities import density as density
from variate.programs.factors import factor as factor
from variate.programs.factors import observe as observe
from variate.programs.prediction import Prediction as Prediction
from variate.programs.prediction import predict as predict
from variate.programs.primitive import draw as draw
from variate.programs.simulation import At as At
from variate.programs.simulation import Drawn as Drawn
from variate.programs.simulation import Simulation as Simulation
from variate.programs.simulation import replay as replay
from variate.programs.simulation import simulate as simulate
from variate.programs.targets import LogDensity as LogDensity
from variate.programs.targets import NumPyroModel as NumPyroModel
from variate.programs.targets import distribution_target as distribution_target
