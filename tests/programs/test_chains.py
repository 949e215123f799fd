"""Chains in scans whose elements are summed out alone, several series at once say: as the sum over all assignments."""

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import pytest
from programs.assignments import Case, Cost, anew, check_sum, cost

import variate as vt
from variate.programs import plates
from variate.programs.densities import Call
from variate.programs.summable import summed_draws

Y = jnp.array([[0.3, 1.2], [-2.0, 0.5], [0.1, 2.2]])
MEAN = jnp.array([-1.0, 1.5])
STAY = jnp.array([[0.8, 0.2], [0.4, 0.6]])


def series(key: jax.Array, y: jax.Array, shift: Any = 0.0) -> jax.Array:
    """A hidden chain whose first state is drawn before the scan."""
    k1, k2 = jax.random.split(key)
    first = vt.draw(k1, dist.Bernoulli(0.3), name="first")
    vt.observe(dist.Normal(MEAN[first] + shift, 1.0), y[0])

    def step(z: jax.Array, x: tuple) -> tuple:
        z = vt.draw(x[0], dist.Categorical(probs=STAY[z]), name="z")
        vt.observe(dist.Normal(MEAN[z] + shift, 1.0), x[1])
        return z, None

    return jax.lax.scan(step, first, (jax.random.split(k2, len(y) - 1), y[1:]))[0]


def several(key: jax.Array, y: jax.Array) -> None:
    """Under vmap, with an effect of each series, and the last states seen once more."""
    k1, k2 = jax.random.split(key)
    effect = vt.draw(k1, dist.Normal(0.0, 1.0).expand([2]), name="effect")
    last = jax.vmap(series)(jax.random.split(k2, 2), y.T, effect)
    vt.observe(dist.Normal(MEAN[last], 2.0), y[0])


def world(key: jax.Array, y: jax.Array) -> None:
    """A label of all series, which their first states depend on and each step."""
    k1, k2, k3, k4 = jax.random.split(key, 4)
    mean = vt.draw(k1, dist.Normal(0.0, 1.0), name="mean")
    world = vt.draw(k2, dist.Bernoulli(0.3), name="world")
    first = vt.draw(k3, dist.Bernoulli(0.6 - 0.4 * world.astype(float)).expand([2]), name="first")

    def step(z: jax.Array, x: tuple) -> tuple:
        z = vt.draw(x[0], dist.Categorical(probs=STAY[z]), name="z")
        vt.observe(dist.Normal(MEAN[z] + mean, 1.0 + world.astype(float)), x[1])
        vt.factor(-0.1 * mean * world.astype(float))
        return z, None

    jax.lax.scan(step, first, (jax.random.split(k4, len(y)), y), reverse=True)


def pairs(key: jax.Array, y: jax.Array) -> None:
    """Two vectors of labels a step, one of them carried, and a vector between that is continuous."""

    def step(before: jax.Array, x: tuple) -> tuple:
        k1, k2, k3 = jax.random.split(x[0], 3)
        z = vt.draw(k1, dist.Categorical(probs=STAY[before]), name="z")
        w = vt.draw(k2, dist.Bernoulli(STAY[z, 1]), name="w")
        level = vt.draw(k3, dist.Normal(MEAN[z], 1.0), name="level")
        vt.observe(dist.Normal(level, 1.0 + w.astype(float)), x[1])
        return z, level

    _, levels = jax.lax.scan(step, jnp.zeros(2, int), (jax.random.split(key, len(y)), y))
    vt.factor(-0.1 * jnp.sum(levels**2))


def labels(key: jax.Array, y: jax.Array) -> None:
    """Vectors of labels that no step hands on."""
    k1, k2 = jax.random.split(key)
    mean = vt.draw(k1, dist.Normal(0.0, 2.0).expand([2]), name="mean")

    def step(_: None, x: tuple) -> tuple:
        z = vt.draw(x[0], dist.Bernoulli(0.3).expand([2]), name="z")
        vt.observe(dist.Normal(mean[z], 1.0), x[1])
        return None, None

    jax.lax.scan(step, None, (jax.random.split(k2, len(y)), y))


def kinds(key: jax.Array, y: jax.Array) -> None:
    """Labels of series that each step reads: they are tried together, the states are not."""
    k1, k2, k3 = jax.random.split(key, 3)
    mean = vt.draw(k1, dist.Normal(0.0, 2.0), name="mean")
    kind = vt.draw(k2, dist.Bernoulli(0.3).expand([2]), name="kind")

    def step(z: jax.Array, x: tuple) -> tuple:
        z = vt.draw(x[0], dist.Categorical(probs=STAY[z]), name="z")
        vt.observe(dist.Normal(MEAN[z] + mean * kind.astype(float), 1.0), x[1])
        return z, None

    jax.lax.scan(step, jnp.zeros(2, int), (jax.random.split(k3, 2), y[:2]))


def regime(key: jax.Array, y: jax.Array) -> None:
    """A state of all series beside their own: no element is alone."""
    k1, k2 = jax.random.split(key)
    mean = vt.draw(k1, dist.Normal(0.0, 2.0), name="mean")

    def step(before: tuple, x: tuple) -> tuple:
        k1, k2 = jax.random.split(x[0])
        z = vt.draw(k1, dist.Categorical(probs=STAY[before[0]]), name="z")
        w = vt.draw(k2, dist.Categorical(probs=STAY[before[1]]), name="w")
        vt.observe(dist.Normal(mean * MEAN[w] + MEAN[z], 1.0), x[1])
        return (z, w), None

    jax.lax.scan(step, (jnp.zeros(2, int), jnp.asarray(0)), (jax.random.split(k2, 2), y[:2]))


ONE = {"mean": jnp.asarray(0.4)}
MODELS: dict[str, Case] = {
    "several": Case(several, {"first": (2, (2,)), "z": (2, (2, 2))}, {"effect": jnp.array([0.4, -1.0])}),
    "world": Case(world, {"world": (2, ()), "first": (2, (2,)), "z": (2, (3, 2))}, ONE),
    "pairs": Case(pairs, {"z": (2, (3, 2)), "w": (2, (3, 2))}, {"level": Y + 0.2}),
    "labels": Case(labels, {"z": (2, (3, 2))}, {"mean": MEAN}),
    "kinds": Case(kinds, {"kind": (2, (2,)), "z": (2, (2, 2))}, ONE),
    "regime": Case(regime, {"z": (2, (2, 2)), "w": (2, (2,))}, ONE),
}
TOGETHER: dict[str, set[str]] = {"kinds": {"kind"}, "regime": {"z"}}


@pytest.mark.wide
@pytest.mark.parametrize("name", MODELS)
def test_it_is_the_sum_over_all_assignments(name: str) -> None:
    check_sum(MODELS[name], Y)
    call = Call.of(MODELS[name].model, (Y,), {})
    draws, _ = summed_draws(call.program(), call.numbers)
    found = {draw.label for draw in draws.values() if draw.values is not None and len(draw.values) == 4}
    assert found == TOGETHER.get(name, set())


MUTANTS = [
    ("regime", "_alike", lambda chain, sizes, links: True),
    ("kinds", "_may_be_alone", lambda *about: True),
]


@pytest.mark.parametrize(("name", "rule", "wrong"), MUTANTS)
def test_chains_that_are_wrongly_taken_for_alone_are_seen(
    name: str, rule: str, wrong: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plates, rule, wrong)
    with pytest.raises(AssertionError):
        check_sum(anew(MODELS[name]), Y)


def test_many_series_cost_each_its_states() -> None:
    """Of 100 series the density has as many equations as of 3, and its largest array grows by no more than them."""

    def of(count: int) -> Cost:
        def model(key: jax.Array, y: jax.Array) -> None:
            k1, k2 = jax.random.split(key)
            shift = vt.draw(k1, dist.Normal(0.0, 1.0), name="shift")
            jax.vmap(series, (0, 0, None))(jax.random.split(k2, count), y, shift)

        target = vt.condition(model, jnp.linspace(-2.0, 2.0, 4 * count).reshape(count, 4))
        return cost(jax.make_jaxpr(target.log_density)({"shift": jnp.asarray(0.3)}).jaxpr)

    few, many = of(3), of(100)
    assert few.equations == many.equations
    assert many.largest <= few.largest * 100 / 3
