"""Models written twice, as programs of this library and as models of NumPyro's, which know nothing of each other."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.contrib.control_flow import scan
from programs.laws import loosely

import variate as vt


class Pair(NamedTuple):
    """A program, NumPyro's model, and the data of both."""

    ours: Callable
    theirs: Callable
    data: dict[str, jax.Array]


def schools(key: jax.Array, y: jax.Array) -> jax.Array:
    k1, k2, k3 = jax.random.split(key, 3)
    mu = vt.draw(k1, dist.Normal(0.0, 5.0), name="mu")
    tau = vt.draw(k2, dist.HalfCauchy(5.0), name="tau")
    theta = vt.draw(k3, dist.Normal(mu, tau).expand([8]), name="theta")
    vt.observe(dist.Normal(theta, jnp.linspace(9.0, 18.0, 8)), y, name="y")
    return theta


def their_schools(y: jax.Array) -> None:
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("schools", 8):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, jnp.linspace(9.0, 18.0, 8)), obs=y)


def chain(key: jax.Array, y: jax.Array) -> jax.Array:
    k1, k2, k3 = jax.random.split(key, 3)
    scale = vt.draw(k1, dist.LogNormal(0.0, 1.0), name="scale")
    slope = vt.draw(k2, dist.Uniform(-1.0, scale), name="slope")

    def step(x: jax.Array, inputs: tuple) -> tuple[jax.Array, None]:
        key, y = inputs
        x = vt.draw(key, dist.Normal(slope * x, scale), name="x")
        vt.observe(dist.StudentT(4.0, x, 0.5), y, name="y")
        return x, None

    return jax.lax.scan(step, jnp.zeros(()), (jax.random.split(k3, y.size), y))[0]


def their_chain(y: jax.Array) -> None:
    scale = numpyro.sample("scale", dist.LogNormal(0.0, 1.0))
    slope = numpyro.sample("slope", dist.Uniform(-1.0, scale))

    def step(x: jax.Array, y: jax.Array) -> tuple[jax.Array, None]:
        x = numpyro.sample("x", dist.Normal(slope * x, scale))
        numpyro.sample("y", dist.StudentT(4.0, x, 0.5), obs=y)
        return x, None

    scan(step, jnp.zeros(()), y)


def topics(key: jax.Array, counts: jax.Array) -> None:
    k1, k2, k3 = jax.random.split(key, 3)
    weights = vt.draw(k1, dist.Dirichlet(jnp.array([0.5, 1.0, 2.0])), name="weights")
    words = jax.vmap(lambda k: vt.draw(k, dist.Dirichlet(jnp.ones(4)), name="words"))(jax.random.split(k2, 3))
    cuts = vt.draw(
        k3,
        dist.TransformedDistribution(dist.Normal(0.0, 2.0).expand([2]).to_event(1), dist.transforms.OrderedTransform()),
        name="cuts",
    )
    vt.observe(dist.Multinomial(20, weights @ words), counts, name="counts")
    vt.observe(dist.OrderedLogistic(weights[0], cuts), jnp.array([0, 2, 1]), name="grades")
    vt.factor(-jnp.sum(cuts**2), name="penalty")


def their_topics(counts: jax.Array) -> None:
    weights = numpyro.sample("weights", dist.Dirichlet(jnp.array([0.5, 1.0, 2.0])))
    words = numpyro.sample("words", dist.Dirichlet(jnp.ones((3, 4))).to_event(1))
    cuts = numpyro.sample(
        "cuts",
        dist.TransformedDistribution(dist.Normal(0.0, 2.0).expand([2]).to_event(1), dist.transforms.OrderedTransform()),
    )
    numpyro.sample("counts", dist.Multinomial(20, weights @ words), obs=counts)
    numpyro.sample("grades", dist.OrderedLogistic(weights[0], cuts), obs=jnp.array([0, 2, 1]))
    numpyro.factor("penalty", -jnp.sum(cuts**2))


@loosely
def correlated(key: jax.Array, y: jax.Array, missing: jax.Array) -> None:
    k1, k2, k3 = jax.random.split(key, 3)
    scales = vt.draw(k1, dist.HalfNormal(2.0).expand([3]), name="scales")
    corr = vt.draw(k2, dist.LKJCholesky(3, 2.0), name="corr")
    rate = vt.draw(k3, dist.Gamma(2.0, 1.0), name="rate")
    vt.observe(dist.MultivariateNormal(jnp.zeros(3), scale_tril=scales[:, None] * corr), y, name="y")
    vt.observe(dist.Poisson(rate).expand([4]).mask(~missing), jnp.array([1, 0, 4, 2]), name="events")


def their_correlated(y: jax.Array, missing: jax.Array) -> None:
    scales = numpyro.sample("scales", dist.HalfNormal(2.0).expand([3]).to_event(1))
    corr = numpyro.sample("corr", dist.LKJCholesky(3, 2.0))
    rate = numpyro.sample("rate", dist.Gamma(2.0, 1.0))
    covariance = dist.MultivariateNormal(jnp.zeros(3), scale_tril=scales[:, None] * corr)
    numpyro.sample("y", covariance.expand([5]).to_event(1), obs=y)
    numpyro.sample("events", dist.Poisson(rate).expand([4]).mask(~missing), obs=jnp.array([1, 0, 4, 2]))


def lanes_in_steps(key: jax.Array, y: jax.Array) -> None:
    """Every `vmap` and `scan` around draws and observations: 2 groups in lanes, 3 steps each, 4 lanes in a step."""

    def group(key: jax.Array, y: jax.Array) -> jax.Array:
        first, rest = jax.random.split(key)
        centre = vt.draw(first, dist.Normal(0.0, 1.0), name="centre")

        def member(key: jax.Array, y: jax.Array) -> jax.Array:
            z = vt.draw(key, dist.Beta(2.0, 3.0), name="z")
            vt.observe(dist.Normal(centre * z, 1.0), y, name="y")
            return z

        def step(total: jax.Array, inputs: tuple) -> tuple[jax.Array, None]:
            key, y = inputs
            return total + jax.vmap(member)(jax.random.split(key, 4), y).sum(), None

        total, _ = jax.lax.scan(step, jnp.zeros(()), (jax.random.split(rest, 3), y))
        return total

    totals = jax.vmap(group)(jax.random.split(key, 2), y)
    jax.lax.cond(y[0, 0, 1] > 0, lambda: vt.factor(totals, name="up"), lambda: None)


def their_lanes(y: jax.Array) -> None:
    centre = numpyro.sample("centre", dist.Normal(0.0, 1.0).expand([2]))
    z = numpyro.sample("z", dist.Beta(2.0, 3.0).expand([3, 2, 4]))  # steps first, then lanes
    y = jnp.moveaxis(y, 0, 1)
    numpyro.sample("y", dist.Normal(centre[:, None] * z, 1.0), obs=y)
    numpyro.factor("up", jnp.where(y[0, 0, 1] > 0, z.sum(), 0))


_EIGHT = jnp.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
MODELS = {
    "hierarchical": Pair(schools, their_schools, {"y": _EIGHT}),
    "scan": Pair(chain, their_chain, {"y": jnp.sin(jnp.arange(6.0))}),
    "simplex and ordered": Pair(topics, their_topics, {"counts": jnp.array([9, 3, 3, 5])}),
    "correlation": Pair(
        correlated,
        their_correlated,
        {"y": jnp.cos(jnp.arange(15.0)).reshape(5, 3), "missing": jnp.array([False, True, False, False])},
    ),
    "lanes and steps": Pair(lanes_in_steps, their_lanes, {"y": jnp.sin(jnp.arange(24.0)).reshape(2, 3, 4)}),
}
