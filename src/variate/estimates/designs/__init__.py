"""Points in the unit cube that fill it more evenly than chance would, for the uniform numbers of runs."""

from .antithetic import Antithetic as Antithetic
from .base import Design as Design
from .base import Sets as Sets
from .latin_hypercube import LatinHypercube as LatinHypercube
from .lattice import Lattice as Lattice
from .sobol import Sobol as Sobol
from .stratified import Stratified as Stratified
