"""How far apart two samples are, whether that may be chance, and whether posteriors are right."""

from .calibration import Calibration as Calibration
from .calibration import calibration as calibration
from .max_sliced import FarthestLine as FarthestLine
from .max_sliced import max_sliced_wasserstein as max_sliced_wasserstein
from .plots import plot_forest as plot_forest
from .plots import plot_pairs as plot_pairs
from .plots import plot_ranks as plot_ranks
from .plots import plot_tuning as plot_tuning
from .sliced_wasserstein import sliced_wasserstein as sliced_wasserstein
from .spaces import Circle as Circle
from .spaces import Graph as Graph
from .spaces import Lines as Lines
from .spaces import Sphere as Sphere
from .stein import SteinTest as SteinTest
from .stein import kernel_stein as kernel_stein
from .two_sample import MaxSliced as MaxSliced
from .two_sample import Sliced as Sliced
from .two_sample import TwoSampleTest as TwoSampleTest
from .two_sample import two_sample_test as two_sample_test
