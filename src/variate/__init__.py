"""Random sampling on JAX: draw, estimate with an error bar, differentiate through the randomness."""

from variate import diagnostics as diagnostics
from variate import diffusion as diffusion
from variate import estimates as estimates
from variate import gradients as gradients
from variate import mcmc as mcmc
from variate import programs as programs
from variate import running as running
from variate import subsets as subsets
from variate.estimates import Estimate as Estimate
from variate.estimates import StdErr as StdErr
from variate.estimates import expect as expect
from variate.gradients import BiasedGradientError as BiasedGradientError
from variate.gradients import allocate as allocate
from variate.gradients import explain as explain
from variate.gradients import grad as grad
from variate.gradients import implicit as implicit
from variate.gradients import tune as tune
from variate.gradients import value_and_grad as value_and_grad
from variate.mcmc import sample as sample
from variate.programs import condition as condition
from variate.programs import density as density
from variate.programs import draw as draw
from variate.programs import factor as factor
from variate.programs import observe as observe
from variate.running import ESS as ESS
from variate.version import __version__ as __version__
