"""Draws of what was summed out, given the rest: of the law of all assignments; and chains that begin with a draw."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from programs import test_chains, test_plates, test_summation
from programs.assignments import Case, check_sum, cost, log_weights, number_of
from scipy import special, stats

import variate as vt
from variate.programs import forward, tensors, worlds

Y = test_summation.Y
STAY = test_summation.STAY


def begun(key: jax.Array, y: jax.Array) -> None:
    """The state before the first is drawn, given another draw, and has fewer values than those after."""
    k1, k2, k3, k4 = jax.random.split(key, 4)
    root = vt.draw(k1, dist.Bernoulli(0.3), name="root")
    first = vt.draw(k2, dist.Bernoulli(jnp.where(root == 1, 0.8, 0.4)), name="first")
    mean = vt.draw(k3, dist.Normal(0.0, 2.0).expand([3]), name="mean")

    def step(z: jax.Array, x: tuple) -> tuple:
        z = vt.draw(x[0], dist.Categorical(probs=STAY[z]), name="z")
        vt.observe(dist.Normal(mean[z], 1.0), x[1])
        return z, None

    last, _ = jax.lax.scan(step, first, (jax.random.split(k4, len(y)), y))
    vt.observe(dist.Normal(mean[last], 1.0), 0.5)


def hours(key: jax.Array, y: jax.Array) -> None:
    """A chain in a chain: the state goes on through steps of both."""
    k1, k2 = jax.random.split(key)
    first = vt.draw(k1, dist.Bernoulli(0.3), name="first")

    def hour(z: jax.Array, x: tuple) -> tuple:
        z = vt.draw(x[0], dist.Bernoulli(TABLE[z]), name="z")
        vt.observe(dist.Normal(z.astype(float), 1.0), x[1])
        return z, None

    def day(z: jax.Array, x: tuple) -> tuple:
        return jax.lax.scan(hour, z, (jax.random.split(x[0], 2), x[1]))

    jax.lax.scan(day, first, (jax.random.split(k2, 2), y.reshape(2, 2)))


TABLE = jnp.array([0.2, 0.7])
BEGUN = {
    "begun": Case(begun, {"root": (2, ()), "first": (2, ()), "z": (3, (4,))}, {"mean": jnp.array([-1.0, 0.3, 2.0])}),
    "hours": Case(hours, {"first": (2, ()), "z": (2, (2, 2))}, {}),
}
COMPLETED = {
    "hours": BEGUN["hours"],
    "nested": test_plates.MODELS["nested"],
    "hidden chain": test_summation.MODELS["hidden chain"],
    "several": test_chains.MODELS["several"],
}


@pytest.mark.parametrize("name", BEGUN)
def test_chains_that_begin_with_a_draw(name: str) -> None:
    check_sum(BEGUN[name], Y)


def chain(size: int) -> Callable:
    def model(key: jax.Array, y: jax.Array) -> None:
        k1, k2 = jax.random.split(key)
        stay = jnp.full((size, size), 1 / size)
        first = vt.draw(k1, dist.Categorical(probs=stay[0]), name="first")

        def step(z: jax.Array, x: tuple) -> tuple:
            z = vt.draw(x[0], dist.Categorical(probs=stay[z]), name="z")
            vt.observe(dist.Normal(z.astype(float), 1.0), x[1])
            return z, None

        jax.lax.scan(step, first, (jax.random.split(k2, len(y)), y))

    return model


def largest() -> int:
    return cost(jax.make_jaxpr(vt.condition(chain(20), Y).log_density)({}).jaxpr).largest


def test_a_first_draw_costs_as_much_as_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 20 states no array is larger than the table of two steps; with a chain for each first state, 20 of them."""
    assert largest() == 20**2
    jax.clear_caches()
    apart = tensors.Table(jnp.zeros(()), (), {})
    monkeypatch.setattr(forward, "_begun", lambda worlds, tables, first, alive: (tables, apart, ()))
    assert largest() == 20**3
    jax.clear_caches()


def p_value(name: str, key: jax.Array) -> float:
    """Of a chi-square by chance, of the numbers of all assignments that 20,000 draws have."""
    case, count = COMPLETED[name], 20_000
    y = next((where.Y for where in (test_plates, test_chains) if name in where.MODELS), Y)
    target = vt.condition(case.model, y)
    drawn, logs = jax.jit(
        lambda keys: (jax.vmap(lambda key: target.complete(key, case.values))(keys), log_weights(case, case.values, y))
    )(jax.random.split(key, count))
    assert all(drawn[draw].shape[1:] == shape for draw, (_, shape) in case.discrete.items())
    expected = count * special.softmax(np.asarray(logs))
    found = np.bincount(number_of(case, drawn), minlength=len(expected))
    assert not np.any(found[expected == 0])
    rare = expected < 10
    found, expected = (np.append(x[~rare], x[rare].sum()) for x in (found, expected))
    return float(stats.chisquare(found[expected > 0], expected[expected > 0]).pvalue)


@pytest.mark.wide
@pytest.mark.parametrize("name", COMPLETED)
def test_what_was_summed_out_is_drawn_from_its_law(name: str, key: jax.Array) -> None:
    assert p_value(name, key) > 1e-6


def as_weighed_before(x: jax.Array, axis: int, key: jax.Array) -> jax.Array:
    """By weights that are too even."""
    return 2 * tensors.drawing_log_sum(x / 2, axis, key)


def test_draws_of_another_law_are_seen(key: jax.Array, monkeypatch: pytest.MonkeyPatch) -> None:
    jax.clear_caches()
    monkeypatch.setattr(worlds, "drawing_log_sum", as_weighed_before)
    assert p_value("hours", key) < 1e-6
    jax.clear_caches()
