"""Markov chains that leave a density invariant, a kernel a file."""

from variate.mcmc.barker import Barker as Barker
from variate.mcmc.elliptical_slice import EllipticalSlice as EllipticalSlice
from variate.mcmc.hit_and_run import HitAndRun as HitAndRun
from variate.mcmc.hmc import HMC as HMC
from variate.mcmc.independence import Independence as Independence
from variate.mcmc.mala import MALA as MALA
from variate.mcmc.random_walk import RandomWalk as RandomWalk
from variate.mcmc.slice import Slice as Slice
