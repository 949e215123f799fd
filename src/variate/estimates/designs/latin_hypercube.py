"""Latin hypercube sampling: every coordinate alone is stratified."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from variate import checks

from .base import Sets, bits, uniform


class LatinHypercube(eqx.Module):
    r"""Sets of n points of which, in each coordinate, one is in each of the cells $[k/n, (k+1)/n)$.

    $u_{ij} = (\pi_j(i) + v_{ij}) / n$ with random permutations $\pi_j$ and uniform $v$. What is a sum of functions of
    one coordinate each keeps an error of order $n^{-3/2}$ only, the rest that of plain sampling, and the variance is
    never more than $n/(n-1)$ times plain sampling's. The wrong choice where interactions are most of the variance
    (`Sobol`).

    The field `size` is n, the points of a set; 64 unless it is given.

    Source: McKay, Beckman and Conover (1979), A comparison of three methods for selecting values of input variables,
    Technometrics 21(2), 239-245; the bound: Owen (1997), Monte Carlo variance of scrambled net quadrature, section 3.
    """

    size: int = eqx.field(static=True, default=64)

    def __check_init__(self) -> None:
        checks.check_positive_int("size", self.size)

    def sets(self, labels: Sequence[str], num_samples: int) -> Sets:
        d = len(labels)

        def randomize(key: Key[Array, ""]) -> Float[Array, "n d"]:
            key_cell, key_place = jax.random.split(key)
            cells = jnp.argsort(bits(key_cell, (self.size, d)), axis=0)  # faster to compile than jax.random.permutation
            return (cells.astype(float) + uniform(key_place, (self.size, d))) / self.size

        return Sets(self.size, None, randomize, lambda points, i: points[i])
