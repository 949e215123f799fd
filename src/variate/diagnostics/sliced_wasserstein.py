"""The sliced Wasserstein distance: what samples are apart on a line, averaged over all lines."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from variate.estimates import ControlVariates, Estimate, StoppingRule, expect

from .base import Space, check_alike, check_order, check_space, draw_function, line_distance
from .spaces import Lines


def sliced_wasserstein(
    x: Any,
    y: Any,
    *,
    on: Any = Lines(),
    order: float | int = 2,
    num_samples: int | None = None,
    until: StoppingRule | None = None,
) -> Callable[[Key[Array, ""]], Estimate]:
    r"""$SW_p^p = E\, W_p^p(\theta^T X, \theta^T Y)$ of samples, $\theta$ uniform on the sphere, as a function of a key.

    Its error bar is that of the directions. It says nothing of other samples: two of one distribution are apart as
    well, `two_sample_test` tells whether by more than that. A direction costs $O((n + m)(d + \log(n + m)))$.

    `on` a `Circle`, a `Sphere` or a `Graph`, functions of the space take the place of directions: the distance is
    $\sum_\lambda \alpha(\lambda) D_\lambda E\, W_p^p(f_\lambda(X), f_\lambda(Y))$, the intrinsic one, with $f_\lambda$
    random in the eigenspace of an eigenvalue of the Laplacian, $D_\lambda$ its dimension, and $\alpha$ the heat
    kernel's weight. It does not depend on where angles begin, on axes, or on how nodes are numbered. For p = 2 it is at
    least the maximum mean discrepancy, squared, of that kernel.

    Controls take off what of it the means and variances of the projections explain: $(\theta^T(\bar x - \bar y))^2$,
    $\theta^T \Sigma_x \theta$ and $\theta^T \Sigma_y \theta$, whose means over the sphere are $\|\bar x - \bar y\|^2/d$
    and $\mathrm{tr}\,\Sigma/d$. The first is the lower and the sum of the three the upper control of Nguyen and Ho;
    regression on the three has no more variance than with either, up to the directions that it costs. Elsewhere they
    are the same of the functions, summed with the weights.

    - `x`, `y`: samples [n, *member] and [m, *member], of members of any shape, or as the space has them.
    - `on`: the space and its functions.
    - `order`: p, 1 at least.
    - `num_samples`, `until`: how many directions, as in `expect`.

    Raises `TypeError` for what is no array of real numbers, and `ValueError` for empty samples, members of different
    shapes or out of the space, or an `order` below 1.

    Source: Nguyen and Ho (2024), Sliced Wasserstein estimation with control variates, ICLR, sections 2 and 3; Bonneel,
    Rabin, Peyré and Pfister (2015), Sliced and Radon Wasserstein barycenters of measures; Rustamov and Majumdar (2023),
    Intrinsic sliced Wasserstein distances for comparing collections of probability distributions on manifolds and
    graphs, ICML, here averaged over the bases of an eigenspace.
    """
    check_space(on)
    one, other = on.members("x", x), on.members("y", y)
    check_alike(x, y)
    moments = _Moments.of(on, one, other)
    controls = ControlVariates(moments, moments.means)
    found = expect(
        functools.partial(_distance, check_order(order)), method=controls, num_samples=num_samples, until=until
    )
    return lambda key: found(key, on, one, other)


def slice_distance(order: float, on: Space, function: Float[Array, " size"], x: Array, y: Array) -> Float[Array, ""]:
    """Between samples seen through one function, summed over its levels."""
    a, b = (jnp.sort(on.values(function, sample), axis=1) for sample in (x, y))
    levels = jax.vmap(lambda a, b: line_distance(a, b, order))(a, b)
    return on.weights().astype(levels.dtype) @ levels


def _distance(order: float, key: Key[Array, ""], on: Space, x: Array, y: Array) -> Float[Array, ""]:
    return slice_distance(order, on, draw_function(key, on.size(x)), x, y)


class _Moments(eqx.Module):
    """What the moments of the samples say of a function."""

    on: Space
    x: Array
    y: Array
    known: Float[Array, "3 levels"]  # their means over all functions

    @classmethod
    def of(cls, on: Space, x: Array, y: Array) -> "_Moments":
        return cls(on, x, y, on.moments(x, y))

    def __call__(self, draws: dict[str, Any]) -> Float[Array, " 3"]:
        a, b = (self.on.values(draws["function"], sample) for sample in (self.x, self.y))
        shift = jnp.mean(a, axis=1) - jnp.mean(b, axis=1)
        levels = jnp.stack([shift**2, jnp.var(a, axis=1), jnp.var(b, axis=1)])
        return jnp.where(self.known > 0, levels, 0) @ self.on.weights().astype(levels.dtype)

    @property
    def means(self) -> Float[Array, " 3"]:
        return self.known @ self.on.weights().astype(self.known.dtype)
