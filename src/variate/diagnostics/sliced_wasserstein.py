"""The sliced Wasserstein distance: what samples are apart on a line, averaged over all lines."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float, Key

from variate.estimates import ControlVariates, Estimate, StoppingRule, expect
from variate.programs import draw

from .base import check_order, check_samples, line_distance


def sliced_wasserstein(
    x: Any,
    y: Any,
    *,
    order: float | int = 2,
    num_samples: int | None = None,
    until: StoppingRule | None = None,
) -> Callable[[Key[Array, ""]], Estimate]:
    r"""$SW_p^p = E\, W_p^p(\theta^T X, \theta^T Y)$ of samples, $\theta$ uniform on the sphere, as a function of a key.

    Its error bar is that of the directions. It says nothing of other samples: two of one distribution are apart as
    well, `two_sample_test` tells whether by more than that. A direction costs $O((n + m)(d + \log(n + m)))$.

    Controls take off what of it the means and variances of the projections explain: $(\theta^T(\bar x - \bar y))^2$,
    $\theta^T \Sigma_x \theta$ and $\theta^T \Sigma_y \theta$, whose means over the sphere are $\|\bar x - \bar y\|^2/d$
    and $\mathrm{tr}\,\Sigma/d$. The first is the lower and the sum of the three the upper control of Nguyen and Ho;
    regression on the three has no more variance than with either, up to the directions that it costs.

    - `x`, `y`: samples [n, *member] and [m, *member], of members of any shape.
    - `order`: p, 1 at least.
    - `num_samples`, `until`: how many directions, as in `expect`.

    Raises `TypeError` for what is no array of real numbers, and `ValueError` for empty samples, members of different
    shapes, or an `order` below 1.

    Source: Nguyen and Ho (2024), Sliced Wasserstein estimation with control variates, ICLR, sections 2 and 3; Bonneel,
    Rabin, Peyré and Pfister (2015), Sliced and Radon Wasserstein barycenters of measures.
    """
    one, other = check_samples(x, y)
    moments = _Moments(one, other)
    controls = ControlVariates(moments, moments.means)
    found = expect(
        functools.partial(_distance, check_order(order)), method=controls, num_samples=num_samples, until=until
    )
    return lambda key: found(key, one, other)


def direction(key: Key[Array, ""], size: int) -> Float[Array, " size"]:
    """Uniform on the sphere."""
    z = draw(key, dist.Normal(jnp.zeros(size), 1.0).to_event(1), name="direction")
    return _unit(z)


def _unit(z: Float[Array, " d"]) -> Float[Array, " d"]:
    return z / jnp.linalg.norm(z)


def _distance(order: float, key: Key[Array, ""], x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, ""]:
    along = direction(key, x.shape[1]).astype(x.dtype)
    return line_distance(jnp.sort(x @ along), jnp.sort(y @ along), order)


class _Moments(eqx.Module):
    """What the moments of the samples say of a direction."""

    x: Float[Array, "n d"]
    y: Float[Array, "m d"]

    def __call__(self, draws: dict[str, Any]) -> Float[Array, " 3"]:
        along = _unit(draws["direction"]).astype(self.x.dtype)
        a, b = self.x @ along, self.y @ along
        return jnp.stack([(jnp.mean(a) - jnp.mean(b)) ** 2, jnp.var(a), jnp.var(b)])

    @property
    def means(self) -> Float[Array, " 3"]:
        shift = jnp.mean(self.x, axis=0) - jnp.mean(self.y, axis=0)
        whole = jnp.stack([jnp.sum(shift**2), jnp.sum(jnp.var(self.x, axis=0)), jnp.sum(jnp.var(self.y, axis=0))])
        return whole / self.x.shape[1]
