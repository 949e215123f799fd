"""How far apart two samples are, and whether that may be chance."""

from .plots import plot_tuning as plot_tuning
from .sliced_wasserstein import sliced_wasserstein as sliced_wasserstein
from .two_sample import TwoSampleTest as TwoSampleTest
from .two_sample import two_sample_test as two_sample_test
