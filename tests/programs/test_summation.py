"""Discrete draws summed out by `condition`: as the sum over all of their values by `density`, gradients too."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from programs.assignments import Case, anew, check_sum

import variate as vt
from variate.programs import worlds

Y = jnp.array([0.3, 1.2, -2.0, 0.5])
STAY = jnp.array([[0.8, 0.2, 0.0], [0.1, 0.6, 0.3], [0.3, 0.3, 0.4]])


def switch(key: jax.Array, y: jax.Array) -> None:
    """A change point, and two rates."""
    k1, k2 = jax.random.split(key)
    at = vt.draw(k1, dist.DiscreteUniform(0, len(y)), name="at")
    mean = vt.draw(k2, dist.Normal(0.0, 1.0).expand([2]), name="mean")
    vt.observe(dist.Normal(jnp.where(jnp.arange(len(y)) < at, mean[0], mean[1]), 1.0), y)


def mixture(key: jax.Array, y: jax.Array) -> None:
    k1, k2, k3 = jax.random.split(key, 3)
    share = vt.draw(k1, dist.Dirichlet(jnp.ones(3)), name="share")
    mean = vt.draw(k2, dist.Normal(0.0, 2.0).expand([3]), name="mean")

    def step(_: None, x: tuple) -> tuple:
        z = vt.draw(x[0], dist.Categorical(probs=share), name="z")
        vt.observe(dist.Normal(mean[z], 1.0), x[1])
        return None, None

    jax.lax.scan(step, None, (jax.random.split(k3, len(y)), y))


def hidden(key: jax.Array, y: jax.Array) -> None:
    """A hidden Markov chain with a structural zero, whose first state is drawn before and whose last is seen again."""
    k1, k2, k3 = jax.random.split(key, 3)
    first = vt.draw(k1, dist.Categorical(probs=jnp.array([0.5, 0.2, 0.3])), name="first")
    mean = vt.draw(k2, dist.Normal(0.0, 2.0).expand([3]), name="mean")

    def step(z: jax.Array, x: tuple) -> tuple:
        z = vt.draw(x[0], dist.Categorical(probs=STAY[z]), name="z")
        vt.observe(dist.Normal(mean[z], 1.0), x[1])
        return z, None

    last, _ = jax.lax.scan(step, first, (jax.random.split(k3, len(y)), y))
    vt.observe(dist.Normal(mean[last] - mean[first], 1.0), 0.5)


def switching(key: jax.Array, y: jax.Array) -> None:
    """Two draws a step, one of them carried, and a state between that is continuous."""

    def step(carry: tuple, x: tuple) -> tuple:
        before, state = carry
        k1, k2, k3 = jax.random.split(x[0], 3)
        quick = vt.draw(k1, dist.Bernoulli(0.2 + 0.5 * before), name="quick")
        outlier = vt.draw(k2, dist.Bernoulli(0.1), name="outlier")
        scale = jnp.where(quick == 1, 2.0, 0.3)
        state = vt.draw(k3, dist.Normal(state, scale), name="state")
        vt.observe(dist.Normal(state, jnp.where(outlier == 1, 5.0, 1.0)), x[1])
        return (quick.astype(float), state), state

    _, states = jax.lax.scan(step, (jnp.zeros(()), jnp.zeros(())), (jax.random.split(key, len(y)), y))
    vt.factor(-0.1 * jnp.sum(states**2))


def lanes(key: jax.Array, y: jax.Array) -> None:
    k1, k2 = jax.random.split(key)
    gate = jax.vmap(lambda key: vt.draw(key, dist.Bernoulli(0.3), name="gate"))(jax.random.split(k1, 3))
    mean = vt.draw(k2, dist.Normal(jnp.sum(gate).astype(float), 1.0), name="mean")
    vt.observe(dist.Normal(mean * gate[0].astype(float), 1.0), y)


def branching(key: jax.Array, y: jax.Array) -> None:
    """What is not discrete may be in a branch that a discrete draw chooses, and in a loop that it goes through."""
    k1, k2 = jax.random.split(key)
    which = vt.draw(k1, dist.Categorical(probs=jnp.array([0.3, 0.7])), name="which")
    mean = vt.draw(k2, dist.Normal(0.0, 1.0), name="mean")
    shift = jax.lax.cond(which == 1, lambda x: x + 1.0, jnp.negative, mean)
    moved, _ = jax.lax.scan(lambda at, x: (0.5 * at + x, None), shift, y)
    vt.observe(dist.Normal(moved, 1.0), y[0])


MODELS: dict[str, Case] = {
    "change point": Case(switch, {"at": (5, ())}, {"mean": jnp.array([0.4, -1.0])}),
    "mixture": Case(
        mixture, {"z": (3, (4,))}, {"share": jnp.array([0.2, 0.5, 0.3]), "mean": jnp.array([-1.0, 0.3, 2.0])}
    ),
    "hidden chain": Case(hidden, {"first": (3, ()), "z": (3, (4,))}, {"mean": jnp.array([-1.0, 0.3, 2.0])}),
    "switching": Case(
        switching, {"quick": (2, (4,)), "outlier": (2, (4,))}, {"state": jnp.array([0.1, 1.0, -1.0, 0.2])}
    ),
    "lanes": Case(lanes, {"gate": (2, (3,))}, {"mean": jnp.asarray(0.7)}),
    "branch": Case(branching, {"which": (2, ())}, {"mean": jnp.asarray(0.7)}),
}


@pytest.mark.wide
@pytest.mark.parametrize("name", MODELS)
def test_it_is_the_sum_over_all_values(name: str) -> None:
    check_sum(MODELS[name], Y)


@pytest.mark.parametrize("name", ["mixture", "switching"])
def test_coordinates_lead_to_the_values_and_back(name: str, key: jax.Array) -> None:
    model, _, values = MODELS[name]
    target = vt.condition(model, Y)
    position = target.unconstrain(values)
    again = target.constrain(position)
    assert set(again) == set(values)
    for draw in values:
        np.testing.assert_allclose(again[draw], values[draw], rtol=1e-10)
    assert jnp.isfinite(target.log_density(target.start(key)))


def largest(x: jax.Array, axis: int, draw: int = 0) -> jax.Array:
    return jnp.max(x, axis)


@pytest.mark.parametrize("name", ["change point", "hidden chain"])
def test_a_maximum_in_place_of_the_sum_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worlds, "log_sum", largest)
    with pytest.raises(AssertionError):
        check_sum(anew(MODELS[name]), Y)


def test_a_long_chain_costs_no_more_than_its_steps(key: jax.Array) -> None:
    """Of 3^2000 sequences, against the forward algorithm written out."""
    y = jax.random.normal(key, (2_000,))
    mean = MODELS["hidden chain"].values["mean"]

    def chain(key: jax.Array, y: jax.Array) -> None:
        def step(z: jax.Array, x: tuple) -> tuple:
            z = vt.draw(x[0], dist.Categorical(probs=STAY[z]), name="z")
            vt.observe(dist.Normal(mean[z], 1.0), x[1])
            return z, None

        jax.lax.scan(step, jnp.asarray(0), (jax.random.split(key, len(y)), y))

    logs = -0.5 * (y[:, None] - mean[None]) ** 2 - 0.5 * jnp.log(2 * jnp.pi)
    weights, total = jnp.array([1.0, 0.0, 0.0]), jnp.zeros(())
    weights, totals = jax.lax.scan(
        lambda w, e: (lambda v: (v / v.sum(), jnp.log(v.sum())))((w @ STAY) * jnp.exp(e)), weights, logs
    )
    total = totals.sum()
    np.testing.assert_allclose(vt.condition(chain, y).log_density({}), total, rtol=1e-10)


def test_a_value_that_cannot_be_has_no_say_and_no_derivative_that_is_nan() -> None:
    def model(key: jax.Array, share: Any) -> None:
        k1, k2 = jax.random.split(key)
        scale = vt.draw(k1, dist.HalfNormal(1.0), name="scale")
        z = vt.draw(k2, dist.Categorical(probs=jnp.stack([1.0 - share, share, 0.0 * scale])), name="z")
        vt.observe(dist.Normal(z.astype(float), scale), 0.3)

    value, slope = jax.value_and_grad(vt.condition(model, jnp.asarray(0.0)).log_prob)({"scale": jnp.asarray(0.7)})
    alone = lambda scale: dist.HalfNormal(1.0).log_prob(scale) + dist.Normal(0.0, scale).log_prob(0.3)  # noqa: E731
    np.testing.assert_allclose(value, alone(0.7), rtol=1e-6)
    np.testing.assert_allclose(slope["scale"], jax.grad(alone)(0.7), rtol=1e-6)


@pytest.mark.slow
def test_draws_are_those_of_the_posterior(key: jax.Array) -> None:
    """Of the share of a mixture of known parts, against quadrature: z-tests of two moments at 1e-6."""
    means = jnp.array([-1.0, 1.5])

    def model(key: jax.Array, y: jax.Array) -> None:
        k1, k2 = jax.random.split(key)
        share = vt.draw(k1, dist.Beta(2.0, 1.0), name="share")

        def step(_: None, x: tuple) -> tuple:
            z = vt.draw(x[0], dist.Bernoulli(share), name="z")
            vt.observe(dist.Normal(means[z], 1.0), x[1])
            return None, None

        jax.lax.scan(step, None, (jax.random.split(k2, len(y)), y))

    grid = (jnp.arange(4_000.0) + 0.5) / 4_000
    parts = jnp.exp(-0.5 * (Y[:, None] - means[None]) ** 2)
    density = grid * jnp.prod((1 - grid)[:, None] * parts[None, :, 0] + grid[:, None] * parts[None, :, 1], axis=1)
    density = density / density.sum()
    mean = float(density @ grid)
    draws = vt.sample(key, vt.condition(model, Y), num_samples=2_000)
    found = draws.expect(lambda x: jnp.stack([x["share"], (x["share"] - mean) ** 2]))
    assert found.converged
    assert np.all(np.abs(found.value - jnp.stack([mean, density @ (grid - mean) ** 2])) < 4.89 * found.stderr)


def counted(key: jax.Array, y: jax.Array) -> None:
    def step(count: jax.Array, x: tuple) -> tuple:
        count = count + vt.draw(x[0], dist.Bernoulli(0.5), name="z")
        vt.observe(dist.Normal(count.astype(float), 1.0), x[1])
        return count, None

    jax.lax.scan(step, jnp.asarray(0), (jax.random.split(key, len(y)), y))


def stacked(key: jax.Array, y: jax.Array) -> None:
    def step(_: None, key: jax.Array) -> tuple:
        return None, vt.draw(key, dist.Bernoulli(0.5), name="z")

    _, z = jax.lax.scan(step, None, jax.random.split(key, len(y)))
    vt.observe(dist.Normal(z.sum().astype(float), 1.0), y)


def in_a_branch(key: jax.Array, y: jax.Array) -> None:
    z = jax.lax.cond(y[0] > 0, lambda: vt.draw(key, dist.Bernoulli(0.5), name="z"), lambda: jnp.asarray(0))
    vt.observe(dist.Normal(z.astype(float), 1.0), y)


def of_a_moving_support(key: jax.Array, y: jax.Array) -> None:
    k1, k2 = jax.random.split(key)
    z = vt.draw(k1, dist.Bernoulli(0.5), name="z")
    vt.draw(k2, dist.Uniform(0.0, 1.0 + z.astype(float)), name="x")


def of_a_support_that_moves_in_a_scan(key: jax.Array, y: jax.Array) -> None:
    k1, k2 = jax.random.split(key)
    z = vt.draw(k1, dist.Bernoulli(0.5), name="z").astype(float)
    jax.lax.scan(lambda _, k: (None, vt.draw(k, dist.Uniform(0.0, 1.0 + z), name="x")), None, jax.random.split(k2, 3))


def many(key: jax.Array, y: jax.Array) -> None:
    z = vt.draw(key, dist.Bernoulli(0.5).expand([13]), name="z")
    vt.observe(dist.Normal(z.sum().astype(float), 1.0), y)


def many_together(key: jax.Array, y: jax.Array) -> None:
    keys = jax.random.split(key, 2)
    z = [vt.draw(k, dist.Bernoulli(0.5).expand([7]), name=name) for k, name in zip(keys, "ab", strict=True)]
    vt.observe(dist.Normal((z[0] + z[1]).sum().astype(float), 1.0), y)


def unlimited(key: jax.Array, y: jax.Array) -> None:
    vt.observe(dist.Normal(vt.draw(key, dist.Poisson(2.0), name="z").astype(float), 1.0), y)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (counted, "'z' cannot be summed out: the scan around it carries more of it than the last step"),
        (stacked, "'z' cannot be summed out: the scan around it stacks what depends on it"),
        (in_a_branch, "'z' is discrete and cannot be summed out: it is inside a branch"),
        (
            of_a_support_that_moves_in_a_scan,
            "'x' .* depends on a discrete draw that is to be summed out, and so may its",
        ),
        (of_a_moving_support, "'x' .* depends on a discrete draw that is to be summed out, and so may its support"),
        (
            many,
            "'z' is discrete and cannot be summed out: it is of 2 values for each of 13 elements, together too many",
        ),
        (many_together, "'b' cannot be summed out: with those before it there would be 16384 values"),
        (unlimited, "'z' is discrete and cannot be summed out: it is of infinitely many values"),
    ],
)
def test_what_cannot_be_summed_out_is_refused_at_once(model: Callable, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        vt.condition(model, Y)
