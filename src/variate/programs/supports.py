"""Whether a value is in the support of a distribution, and the bijection from all of space to it."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.core import Tracer
from jaxtyping import Array, Bool, PyTree
from numpyro.distributions import constraints, transforms

from variate.programs.corrections import corrected
from variate.programs.distributions import numpyro_promotion
from variate.programs.program import Operation, one_lane


class Checked(NamedTuple):
    """A value and where it is in the support, by batch; where it is not, something that is stands in its place."""

    value: PyTree[Array]
    inside: Bool[Array, "..."]


def support_of(d: Any) -> constraints.Constraint | None:
    """The support of a distribution: NumPyro's, or that which one of your own tells; None where it is not told.

    One of your own tells it by an attribute `support`, a constraint of NumPyro's or the edges of an interval.
    """
    try:
        found = getattr(corrected(d), "support", None)
    except (AssertionError, NotImplementedError):  # how NumPyro says that it has no support, or does not know
        return None
    if isinstance(found, tuple) and len(found) == 2:
        return constraints.interval(*found)
    return found if isinstance(found, constraints.Constraint) else None


def checked(d: Any, value: PyTree[Array]) -> Checked:
    """Of a value and the distribution `d`; a NaN passes, so that it shows, and so does what a mask leaves out."""
    support = support_of(d)
    if support is None or not isinstance(value, jax.Array):
        return Checked(value, jnp.asarray(True))
    with numpyro_promotion():
        inside = _inside(d, value)
        spread = inside.reshape(inside.shape + (1,) * support.event_dim)
        return Checked(jnp.where(spread, value, support.feasible_like(value).astype(value.dtype)), inside)


@functools.singledispatch
def _inside(d: Any, value: Array) -> Array:
    support = support_of(d)
    if support is None:
        return jnp.asarray(True)
    lost = jnp.isnan(value) if jnp.issubdtype(value.dtype, jnp.floating) else jnp.zeros(value.shape, bool)
    return jnp.asarray(support(value)) | jnp.any(lost, axis=tuple(range(value.ndim - support.event_dim, value.ndim)))


@_inside.register
def _(d: dist.MaskedDistribution, value: Array) -> Array:
    return _inside(d.base_dist, value) | ~jnp.asarray(vars(d)["_mask"])


@_inside.register
def _(d: dist.Independent, value: Array) -> Array:
    inside = _inside(d.base_dist, value)
    return jnp.all(inside, axis=tuple(range(max(inside.ndim - d.reinterpreted_batch_ndims, 0), inside.ndim)))


@_inside.register
def _(d: dist.ExpandedDistribution, value: Array) -> Array:
    return _inside(d.base_dist, value)


def bijection(d: Any) -> transforms.Transform | None:
    """NumPyro's bijection from all of space to the support of `d`; None where there is none, or none is known."""
    support = support_of(d)
    if support is None:
        return None
    try:
        return transforms.biject_to(support)
    except NotImplementedError:
        return None


def constants_of(support: constraints.Constraint | None, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The elements, by their places in an array of this shape, that no value of a support has otherwise.

    Those above the diagonal of a triangle, say. Only matrices have any.
    """
    if support is None or constraints.is_dependent(support) or support.is_discrete or support.event_dim < 2:
        return ()
    transform = transforms.biject_to(support)
    with jax.ensure_compile_time_eval(), numpyro_promotion():
        positions = jax.random.uniform(jax.random.key(0), (3, *transform.inverse_shape(shape)), minval=-2, maxval=2)
        values = np.asarray(jax.vmap(transform)(positions))
    rounding = 8 * np.finfo(values.dtype).eps * np.abs(values[0])
    return tuple(np.flatnonzero(np.ptp(values, 0) <= rounding).tolist())


def support_before(draw: Operation) -> constraints.Constraint | None:
    """The support of a draw as it is known before the run; `constraints.dependent` where its edges are not."""
    site, found = draw.site, []
    assert site is not None

    def look(*arrays: Any) -> None:
        support = support_of(site.structure.build(arrays))
        moving = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(support))
        if moving and support is not None:
            support = constraints.dependent(is_discrete=False, event_dim=support.event_dim)
        found.append(support)

    jax.eval_shape(look, *one_lane(draw)[1:])
    return found[0]
