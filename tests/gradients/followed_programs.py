"""Programs whose draws follow their distribution functions, with exact expectations."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from gradients.followed_laws import mixture
from gradients.sampled import Sampled
from jax import Array, lax
from jax.nn import softmax
from jax.random import split
from programs.laws import loosely

import variate as vt
from variate.gradients import ImplicitReparameterization

RULES = {"x": ImplicitReparameterization()}


def vector_mixture(t: dict) -> Any:
    return loosely(mixture(lambda **t: dist.Laplace(**t).to_event(1)))(**t)


VECTORS = {"logits": jnp.array([0.3, -0.2]), "loc": jnp.array([[0.5, -0.4], [-0.3, 0.6]]), "scale": jnp.ones((2, 2))}


def normals(t: dict, **shift: Any) -> Any:
    return loosely(mixture(dist.Normal))(t["logits"], loc=t["loc"] + shift.get("by", 0.0), scale=t["scale"])


def mixed(key: Array, t: dict) -> Array:
    return jnp.sin(vt.draw(key, normals(t), name="x"))


def mixed_mean(t: dict) -> Array:
    return jnp.sum(softmax(t["logits"]) * jnp.sin(t["loc"]) * jnp.exp(-(t["scale"] ** 2) / 2))


def moved(key: Array, loc: Array) -> Array:
    return mixed(key, THREE | {"loc": loc})


def cut(key: Array, t: Array) -> Array:
    return vt.draw(key, dist.TruncatedNormal(t[0], t[1], low=t[2]), name="x") ** 2


def cut_mean(t: Array) -> Array:
    low = (t[2] - t[0]) / t[1]
    hazard = jax.scipy.stats.norm.pdf(low) / jax.scipy.stats.norm.sf(low)
    return t[0] ** 2 + 2 * t[0] * t[1] * hazard + t[1] ** 2 * (1 + low * hazard)


def angle(key: Array, t: Array) -> Array:
    """Not periodic: it jumps where the circle is cut."""
    x = vt.draw(key, dist.VonMises(t[0], t[1]), name="x")
    return x**3 + jnp.cos(x)


def angle_mean(t: Array) -> Array:
    nodes, weights = np.polynomial.legendre.leggauss(80)
    x, density = np.pi * nodes, jnp.exp(t[1] * jnp.cos(np.pi * nodes - t[0]))
    return jnp.sum(weights * density * (x**3 + np.cos(x))) / jnp.sum(weights * density)


def looped(key: Array, t: dict) -> Array:
    def step(state: Array, key: Array) -> tuple[Array, None]:
        return 0.5 * state + vt.draw(key, normals(t, by=0.2 * state), name="x"), None

    return lax.scan(step, jnp.zeros(()), split(key, 12))[0]


def looped_mean(t: dict) -> Array:
    return jnp.sum(softmax(t["logits"]) * t["loc"]) * (1 - 0.7**12) / 0.3


def lanes(key: Array, t: Array) -> Array:
    """Elements in a `vmap`, an expansion and an event."""
    law = lambda low: dist.TruncatedNormal(0.0, 1.0, low=low).expand((2,)).to_event(1)  # noqa: E731
    x = jax.vmap(lambda k, low: vt.draw(k, law(low), name="x"))(split(key, 2), t)
    return jnp.sum(x @ jnp.array([1.0, -2.0])) ** 2


def lanes_mean(t: Array) -> Array:
    hazard = jax.scipy.stats.norm.pdf(t) / jax.scipy.stats.norm.sf(t)
    return jnp.sum(hazard) ** 2 + 5 * jnp.sum(1 + t * hazard - hazard**2)


def vectors(key: Array, t: dict) -> Array:
    return jnp.prod(vt.draw(key, vector_mixture(t), name="x"))


def vectors_mean(t: dict) -> Array:
    return jnp.sum(softmax(t["logits"]) * jnp.prod(t["loc"], -1))


THREE = {
    "logits": jnp.array([0.1, 0.5, -0.3]), "loc": jnp.array([-0.8, 0.4, 0.9]), "scale": jnp.array([0.9, 0.6, 0.8])
}  # fmt: skip
PROGRAMS = {
    "mixture": Sampled(mixed, (THREE,), mixed_mean, ({}, RULES)),
    "moving bound": Sampled(cut, (jnp.array([0.3, 1.2, -0.4]),), cut_mean, ({}, RULES)),
    "von mises": Sampled(angle, (jnp.array([0.6, 1.5]),), angle_mean, ({}, RULES)),
    "mixture in a scan": Sampled(looped, (THREE,), looped_mean, (RULES,)),
    "lanes": Sampled(lanes, (jnp.array([-0.5, 0.4]),), lanes_mean, ({}, RULES)),
    "vectors": Sampled(vectors, (VECTORS,), vectors_mean, (RULES,)),
}
