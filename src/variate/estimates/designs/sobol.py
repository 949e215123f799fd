"""Scrambled Sobol' points: randomised quasi-Monte Carlo."""

import functools
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Key, UInt32
from scipy.stats import qmc

from variate import checks

from .base import Sets, bits, doubling_sets, unit

_BITS = 32


class Sobol(eqx.Module):
    r"""Sobol' sequences, each scrambled by random binary matrices and a random digital shift.

    Point i is $x_{ij} = L_j C_j\,\vec{i} + e_j$ in the digits of base 2, with Sobol's generator matrix $C_j$, a random
    lower triangular $L_j$ with ones on its diagonal, and random digits $e_j$. Any $2^m$ points are a net, which a
    scramble leaves it. For smooth functions of few coordinates that matter the error falls nearly as $n^{-1}$, the
    variance is at most a constant times plain sampling's, and the error bar is Student's from the means of the
    replicates. The wrong choice where the draws that matter come in a random number, and for discontinuities in many
    coordinates, where it gains little.

    The field `replicates` is the number of independent scrambles, 16 unless it is given; more make the error bar
    better known and the error larger.

    Source: Matoušek (1998), On the L2-discrepancy for anchored boxes, J. Complexity 14(4), 527-556 (the scramble); Joe
    and Kuo (2008), Constructing Sobol sequences with better two-dimensional projections, SIAM J. Sci. Comput. 30(5),
    2635-2654 (the directions, as in SciPy).
    """

    replicates: int = eqx.field(static=True, default=16)

    def __check_init__(self) -> None:
        checks.check_at_least("replicates", self.replicates, 2)

    def sets(self, labels: Sequence[str], num_samples: int) -> Sets:
        d, limit = len(labels), qmc.Sobol.MAXDIM
        if d > limit:
            raise ValueError(f"method: a run takes {d} uniform numbers, and Sobol' sequences have at most {limit}")
        size = doubling_sets(num_samples, self.replicates, "Sobol")
        columns = generators(d, size.bit_length() - 1)
        return Sets(size, self.replicates, lambda key: _scrambled(key, columns), _point)


@functools.lru_cache(maxsize=32)
def generators(dimension: int, digits: int) -> np.ndarray:
    """The columns of the generator matrices, as numbers [digits, dimension]: point $2^k$ has the k-th alone.

    SciPy counts in Gray code, where point $2^k$ is the k-th column and the one before.
    """
    engine = qmc.Sobol(max(dimension, 1), scramble=False, bits=_BITS)
    columns = np.zeros((digits, dimension), np.uint32)
    for k in range(digits):
        engine.fast_forward(2**k - engine.num_generated)
        point = (engine.random(1)[0, :dimension] * 2.0**_BITS).astype(np.uint64).astype(np.uint32)
        columns[k] = point ^ columns[k - 1] if k else point
    return columns


def _scrambled(key: Key[Array, ""], columns: np.ndarray) -> tuple[UInt32[Array, "k d"], UInt32[Array, " d"]]:
    """The columns of $L_j C_j$, and the shift."""
    key_matrix, key_shift = jax.random.split(key)
    places = jnp.arange(_BITS - 1, -1, -1, dtype=jnp.uint32)  # digit 0 leads
    one = jnp.uint32(1)
    above = ~((one << places) - one) & ~(one << places)  # of row i, the digits before i
    rows = bits(key_matrix, (_BITS, columns.shape[1])) & above[:, None] | (one << places)[:, None]
    digits = lax.population_count(rows[:, None, :] & jnp.asarray(columns)[None]) & one
    mixed = jnp.sum(digits << places[:, None, None], axis=0, dtype=jnp.uint32)
    return mixed, bits(key_shift, (columns.shape[1],))


def _point(scramble: tuple[UInt32[Array, "k d"], UInt32[Array, " d"]], index: Int[Array, ""]) -> Float[Array, " d"]:
    columns, shift = scramble
    used = (index >> jnp.arange(len(columns))) & 1
    chosen = jnp.where((used == 1)[:, None], columns, jnp.zeros_like(columns))
    return unit(lax.reduce(chosen, np.uint32(0), lax.bitwise_xor, (0,)) ^ shift)
