"""A lattice with a random shift: randomised quasi-Monte Carlo for smooth functions."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt32

from variate import checks

from .base import Sets, doubling_sets, unit
from .lattice_vector import VECTOR

_MAX_DIMENSION = len(VECTOR)


class Lattice(eqx.Module):
    r"""Points $\{ \varphi(i)\,z + \Delta \}$ with a random shift, folded by the baker's map.

    $\varphi$ is the radical inverse in base 2, so that the first $2^m$ points are a lattice for every m, and
    $u \mapsto 1 - |2u - 1|$ makes of a smooth function a periodic one, for which the error of a lattice falls as fast
    as $n^{-2}$ (Hickernell 2002). The generating vector z was chosen component by component for pairs and triples of
    coordinates, and for all of $2^4, 2^5, \dots, 2^{20}$ points of a set at once; where a set has more, z is as good as
    a random one. The error bar is Student's from the means of the replicates. The wrong choice for functions with jumps
    and for more than a few coordinates that matter, where `Sobol` is safer.

    The field `replicates` is the number of independent shifts, 16 unless it is given; more make the error bar
    better known and the error larger.

    Source: Hickernell, Hong, L'Ecuyer and Lemieux (2000), Extensible lattice sequences for quasi-Monte Carlo
    quadrature, SIAM J. Sci. Comput. 22(3), 1117-1138 (the order of the points); Cools, Kuo and Nuyens (2006),
    Constructing embedded lattice rules for multivariate integration, SIAM J. Sci. Comput. 28(6), 2162-2188 (how z is
    chosen; these numbers are our own); Hickernell (2002), Obtaining $O(N^{-2+\epsilon})$ convergence for lattice
    quadrature rules, Monte Carlo and quasi-Monte Carlo methods 2000.
    """

    replicates: int = eqx.field(static=True, default=16)

    def __check_init__(self) -> None:
        checks.check_at_least("replicates", self.replicates, 2)

    def sets(self, labels: Sequence[str], num_samples: int) -> Sets:
        d = len(labels)
        if d > _MAX_DIMENSION:
            raise ValueError(f"method: a run takes {d} uniform numbers, and Lattice serves at most {_MAX_DIMENSION}")
        size = doubling_sets(num_samples, self.replicates, "Lattice")
        vector = np.array(VECTOR[:d], np.uint32)

        def randomize(key: Key[Array, ""]) -> UInt32[Array, " d"]:
            return jax.random.bits(key, (d,), jnp.uint32)

        def point(shift: UInt32[Array, " d"], index: Int[Array, ""]) -> Float[Array, " d"]:
            # All modulo 1 in units of 2^-32, which is exact.
            u = unit(_reversed(index.astype(jnp.uint32)) * jnp.asarray(vector) + shift)
            return 1 - jnp.abs(2 * u - 1)

        return Sets(size, self.replicates, randomize, point)


def _reversed(i: UInt32[Array, ""]) -> UInt32[Array, ""]:
    """The digits of base 2 in the opposite order: the radical inverse in units of 2^-32."""
    for width, mask in ((1, 0x55555555), (2, 0x33333333), (4, 0x0F0F0F0F), (8, 0x00FF00FF), (16, 0x0000FFFF)):
        i = ((i >> width) & np.uint32(mask)) | ((i & np.uint32(mask)) << width)
    return i
