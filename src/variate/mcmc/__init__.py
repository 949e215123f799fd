"""Markov chains that leave a density invariant, a kernel a file."""

from variate.mcmc.barker import Barker as Barker
from variate.mcmc.blackjax import BlackJAX as BlackJAX
from variate.mcmc.delayed_rejection import DelayedRejection as DelayedRejection
from variate.mcmc.gibbs import Gibbs as Gibbs
from variate.mcmc.hamiltonian import HMC as HMC
from variate.mcmc.hamiltonian import NUTS as NUTS
from variate.mcmc.heat_bath import HeatBath as HeatBath
from variate.mcmc.independence import Independence as Independence
from variate.mcmc.locally_balanced import GibbsWithGradients as GibbsWithGradients
from variate.mcmc.locally_balanced import LocallyBalanced as LocallyBalanced
from variate.mcmc.mala import MALA as MALA
from variate.mcmc.parallel_tempering import ParallelTempering as ParallelTempering
from variate.mcmc.random_walk import RandomWalk as RandomWalk
from variate.mcmc.sampling import fold as fold
from variate.mcmc.sampling import sample as sample
from variate.mcmc.slices import EllipticalSlice as EllipticalSlice
from variate.mcmc.slices import GibbsianPolarSlice as GibbsianPolarSlice
from variate.mcmc.slices import HitAndRun as HitAndRun
from variate.mcmc.slices import Slice as Slice
