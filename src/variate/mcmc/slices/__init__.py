"""Kernels that draw from where the density is above a random height."""

from .elliptical_slice import EllipticalSlice as EllipticalSlice
from .hit_and_run import HitAndRun as HitAndRun
from .polar_slice import GibbsianPolarSlice as GibbsianPolarSlice
from .slice import Slice as Slice
