"""The kernel of a target for which none is named."""

from typing import Any

import jax
import numpy as np

from .gibbs import Gibbs
from .hamiltonian import NUTS
from .heat_bath import HeatBath


def chosen(target: Any) -> Any:
    """NUTS, and for coordinates that are numbers of values a heat bath."""
    counts = np.concatenate([np.zeros(0, int), *map(np.ravel, jax.tree.leaves(getattr(target, "counts", ())))])
    real, discrete = (tuple(np.flatnonzero(which).tolist()) for which in (counts == 0, counts > 0))
    if not discrete:
        return NUTS()
    bath = HeatBath(counts[counts > 0].tolist())
    return Gibbs((NUTS(), bath), (real, discrete)) if real else bath
