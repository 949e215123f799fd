"""Markov chains that leave a density invariant, a kernel a file."""

from variate.mcmc.hmc import HMC as HMC
from variate.mcmc.nuts import NUTS as NUTS
from variate.mcmc.random_walk import RandomWalk as RandomWalk
from variate.mcmc.sampling import sample as sample
