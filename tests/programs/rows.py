"""How rows of the law table are made, and those of FlowJAX's distributions and of users' own."""

from typing import Any, NamedTuple

import equinox as eqx
import flowjax.distributions
import flowjax.flows
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from programs.laws import Point, Row, bins, loosely, scores


def _array(x: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), x, is_leaf=lambda node: isinstance(node, list))


def row(make: Any, law: Any, *special: Point, **settings: Any) -> Row:
    """`settings`: the parameters, and what `Row` knows by other names."""
    known = {name: settings.pop(name) for name in ("order", "lanes", "slow") if name in settings}
    places = tuple(place._replace(changed=_array(place.changed)) for place in special)
    return Row(make, _array(settings), law, places, **known)


def at(value: Any, wrt: tuple[str, ...] | None = None, side: int = 0, **changed: Any) -> Point:
    return Point(np.asarray(value), changed, wrt, side)


class Triangular(NamedTuple):
    """A user's own: a NamedTuple."""

    width: Array

    def sample(self, key: Array) -> Array:
        return self.width * jnp.sum(jax.random.uniform(key, (2,), minval=-0.5, maxval=0.5))

    def log_prob(self, x: Array) -> Array:
        return jnp.log1p(-jnp.abs(x / self.width)) - jnp.log(self.width)


class Pair(eqx.Module):
    """A user's own: an Equinox module that draws a tree."""

    rate: Array
    probs: Array

    def sample(self, key: Array) -> dict[str, Array]:
        first, second = jax.random.split(key)
        time = jax.random.exponential(first) / self.rate
        return {"time": time, "early": jax.random.bernoulli(second, self.probs ** (1 + time))}

    def log_prob(self, x: dict[str, Array]) -> Array:
        probs = self.probs ** (1 + x["time"])
        return jnp.log(self.rate) - self.rate * x["time"] + jnp.log(jnp.where(x["early"], probs, 1 - probs))


flow = loosely(flowjax.flows.masked_autoregressive_flow)(
    jax.random.key(0), base_dist=flowjax.distributions.Normal(jnp.zeros(2)), flow_layers=1, nn_width=3
)
flow_arrays, flow_rest = eqx.partition(flow, eqx.is_inexact_array)

OWN: dict[str, Row] = {
    "a NamedTuple": row(Triangular, bins, width=1.4),
    "an Equinox module": row(Pair, scores, rate=1.4, probs=0.4),
    "FlowJAX's Normal": row(flowjax.distributions.Normal, bins, loc=0.3, scale=1.4),
    "a flow": row(lambda flow: eqx.combine(flow, flow_rest), scores, flow=flow_arrays),
}
