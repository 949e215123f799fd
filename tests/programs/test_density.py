"""`observe`, `factor` and `density`: nothing while a program runs, and the joint density of NumPyro's twin."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax.test_util import check_grads
from numpyro.infer.util import log_density
from programs.models import MODELS, chain, schools

import variate as vt
from variate.programs import simulate
from variate.programs import weighing as module
from variate.programs.distributions import numpyro_promotion

Y = MODELS["hierarchical"].data["y"]


def drawn(name: str, key: jax.Array) -> dict[str, jax.Array]:
    run = simulate(lambda key, data: MODELS[name].ours(key, **data))(key, MODELS[name].data)
    return {draw: found.value for draw, found in run.draws.items()}


def disagreement(name: str, key: jax.Array) -> float:
    @jax.jit
    def both(values: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        with numpyro_promotion():
            theirs, _ = log_density(MODELS[name].theirs, (), MODELS[name].data, values)
        return vt.density(MODELS[name].ours)(values, **MODELS[name].data), theirs

    ours, theirs = both(drawn(name, key))
    return float(abs(ours - theirs) / max(1.0, abs(theirs)))


@pytest.mark.parametrize("name", MODELS)
def test_the_density_is_that_of_numpyro(name: str, key: jax.Array) -> None:
    assert disagreement(name, key) < 1e-12


def without_observations(handler: Any, factor: Any, operands: Any) -> module.Piece:
    return module.Piece(jnp.zeros(()), jnp.zeros((), jnp.int32))


def first_lane_only(function: Callable, lanes: Any, values: int = 0) -> Callable:
    def one(*operands: Any) -> Any:
        found = module_over_lanes(function, lanes, values)(*operands)
        return jax.tree.map(lambda x: x[:1] if lanes and jnp.issubdtype(x.dtype, jnp.floating) else x, found)

    return one


module_over_lanes = module.over_lanes


@pytest.mark.parametrize(
    ("where", "what", "mutant", "model"),
    [
        (module.Weighing, "weigh", without_observations, "hierarchical"),
        (module, "over_lanes", first_lane_only, "lanes and steps"),
    ],
)
def test_the_comparison_with_numpyro_sees_a_mutant(
    where: Any, what: str, mutant: Any, model: str, key: jax.Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    jax.clear_caches()
    monkeypatch.setattr(where, what, mutant)
    with pytest.raises((AssertionError, TypeError)):
        assert disagreement(model, key) < 1e-6
    jax.clear_caches()


def coins(key: jax.Array, seen: jax.Array) -> jax.Array:
    """Every outcome can be listed: a chain of 3 coins, whose branch and loop depend on what came before."""
    first, rest = jax.random.split(key)
    which = vt.draw(first, dist.Categorical(jnp.array([0.2, 0.5, 0.3])), name="which").astype(float)

    def step(p: jax.Array, inputs: tuple) -> tuple[jax.Array, jax.Array]:
        key, seen = inputs
        coin = vt.draw(key, dist.Bernoulli(p), name="coin")
        p = jnp.where(coin == 1, 0.7, 0.1 + 0.2 * which)
        vt.observe(dist.Bernoulli(p), seen, name="seen")
        return p, p

    p, all_p = jax.lax.scan(step, 0.2 * which + 0.1, (jax.random.split(rest, 3), seen))
    jax.lax.cond(which == 1, lambda: vt.factor(p), lambda: vt.factor(-p))
    return all_p


def test_weights_of_all_outcomes_sum_to_the_expected_weight() -> None:
    # Outcomes of draws and observations have the probability 1 together; with the factor, its expectation by hand.
    bits = np.array([[n >> i & 1 for i in range(3)] for n in range(8)])

    def joint(which: jax.Array, coin: jax.Array, seen: jax.Array) -> jax.Array:
        return vt.density(coins)({"which": which, "coin": coin}, seen)

    every = jax.vmap(jax.vmap(jax.vmap(joint, (None, None, 0)), (None, 0, None)), (0, None, None))
    total = np.sum(np.exp(jax.jit(every)(np.arange(3), bits, bits)))
    expected = 0.0
    for which, chance in enumerate([0.2, 0.5, 0.3]):
        heads, tails = 0.2 * which + 0.1, 0.1 + 0.2 * which
        for _ in range(2):  # the chance of heads in the last toss, which alone decides the factor
            heads = 0.7 * heads + tails * (1 - heads)
        sign = 1 if which == 1 else -1
        expected += chance * (heads * np.exp(sign * 0.7) + (1 - heads) * np.exp(sign * tails))
    assert abs(total - expected) < 1e-12


def test_the_density_is_the_log_probability_of_a_run(key: jax.Array) -> None:
    def prior(key: jax.Array) -> jax.Array:
        first, rest = jax.random.split(key)
        start = vt.draw(first, dist.Normal(0.0, 1.0), name="start")

        def step(x: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
            x = x + vt.draw(key, dist.Gamma(2.0, jnp.exp(start)), name="step")
            return x, x

        return jax.lax.scan(step, start, jax.random.split(rest, 5))[1]

    run = simulate(prior)(key)
    total = sum(jnp.sum(draw.log_prob) for draw in run.draws.values())
    assert abs(vt.density(prior)({name: draw.value for name, draw in run.draws.items()}) - total) < 1e-10


def test_observations_and_factors_do_nothing_while_a_program_runs(key: jax.Array) -> None:
    for f in (lambda k: schools(k, Y), lambda k: chain(k, Y)):
        plain = f(jax.random.clone(key))
        for run in (jax.jit(f), jax.checkpoint(f), lambda k, f=f: jax.vmap(f)(k[None])[0]):
            assert jnp.allclose(run(jax.random.clone(key)), plain, rtol=1e-12)

    def deterministic(x: jax.Array) -> jax.Array:
        vt.factor(x)
        vt.observe(dist.Normal(x, 1.0), x)
        return x**2

    assert jax.jit(jax.grad(deterministic))(3.0) == 6
    assert jax.grad(jax.grad(jax.checkpoint(deterministic)))(3.0) == 2
    # A factor has its place where the program is differentiated too, as JAX writes it.
    assert vt.density(lambda key, x: jax.grad(deterministic)(x))({}, 3.0) == 3 + dist.Normal(3.0, 1.0).log_prob(3.0)


def test_derivatives_of_both_orders_and_lanes() -> None:
    values = {"mu": jnp.asarray(1.0), "tau": jnp.asarray(2.0), "theta": jnp.arange(8.0)}
    joint = vt.density(schools)
    check_grads(jax.jit(lambda values: joint(values, Y)), (values,), order=2, rtol=1e-6)
    taus = jnp.array([-1.0, 0.5, 3.0])
    lanes = jax.jit(jax.vmap(lambda tau: joint({**values, "tau": tau}, Y)))(taus)
    one_by_one = jnp.stack([joint({**values, "tau": tau}, Y) for tau in taus])
    assert jnp.array_equal(lanes, one_by_one)


@pytest.mark.parametrize(
    "d", [dist.Exponential(2.0), dist.Uniform(0.0, 3.0), dist.Beta(2.0, 2.0), dist.Pareto(0.5, 3.0)]
)
def test_outside_of_the_support_is_minus_infinity_with_no_derivative(d: Any) -> None:
    def model(key: jax.Array) -> None:
        k1, k2 = jax.random.split(key)
        x = vt.draw(k1, d, name="x")
        vt.draw(k2, dist.Normal(0.0, jnp.sqrt(x)), name="y")  # which would be NaN

    def joint(x: jax.Array) -> jax.Array:
        return vt.density(model)({"x": x, "y": 1.0})

    assert joint(jnp.asarray(-1.0)) == -jnp.inf
    assert jax.grad(joint)(-1.0) == 0
    assert jnp.isnan(jax.jit(joint)(jnp.nan))
    with pytest.raises(ValueError, match="'x' must be numbers, got nan"):
        joint(jnp.asarray(jnp.nan))
    assert jnp.isfinite(joint(0.7))


def test_what_a_mask_leaves_out_may_be_missing() -> None:
    y = jnp.array([1.0, jnp.nan, 3.0])

    def model(key: jax.Array, y: jax.Array) -> None:
        mu = vt.draw(key, dist.Normal(0.0, 1.0), name="mu")
        vt.observe(dist.Normal(mu, 1.0).mask(~jnp.isnan(y)), y)

    found, slope = jax.value_and_grad(lambda mu: vt.density(model)({"mu": mu}, y))(0.5)
    expected = sum(dist.Normal(0.5, 1.0).log_prob(seen) for seen in (0.0, 1.0, 3.0))  # the prior at 0.5 is that of 0
    assert abs(found - expected) < 1e-12
    assert abs(slope - (-0.5 + 0.5 + 2.5)) < 1e-12


class Seconds(NamedTuple):
    """One's own distribution, whose draw is a tree."""

    rate: Any

    def sample(self, key: jax.Array) -> dict[str, jax.Array]:
        return {"wait": jax.random.exponential(key) / self.rate}

    def log_prob(self, x: dict[str, jax.Array]) -> jax.Array:
        return jnp.log(self.rate) - self.rate * x["wait"]


def test_ones_own_distribution_with_a_tree() -> None:
    def model(key: jax.Array, seen: jax.Array) -> None:
        rate = vt.draw(key, Seconds(2.0), name="rate")["wait"]
        vt.observe(Seconds(rate), {"wait": seen})

    found = vt.density(model)({"rate": {"wait": 3.0}}, 0.5)
    assert jnp.allclose(found, jnp.log(2.0) - 6 + jnp.log(3.0) - 1.5, rtol=1e-12)
    with pytest.raises(TypeError, match="the draw 'rate' is"):
        vt.density(model)({"rate": 3.0}, 0.5)


GOOD = {"mu": 1.0, "tau": 2.0, "theta": jnp.zeros(8)}


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"mu": 1.0, "theta": jnp.zeros(8)}, ValueError, r"'tau' missing; the draws are \['mu', 'tau', 'theta'\]"),
        ({**GOOD, "sigma": 1.0}, ValueError, "no draw is called 'sigma'"),
        ({**GOOD, "theta": 0.0}, ValueError, r"the draw 'theta' has shape \(8,\), got \(\)"),
        ([1.0, 2.0], TypeError, "values must be a dictionary"),
    ],
)
def test_wrong_values_are_named(values: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        vt.density(schools)(values, Y)


def test_wrong_calls_are_named() -> None:
    with pytest.raises(TypeError, match="missing a required argument: 'y'"):
        vt.density(schools)(GOOD)
    with pytest.raises(TypeError, match="model must be a function"):
        inspect.unwrap(vt.density)(3)
    with pytest.raises(TypeError, match="the draw 'n' is int"):
        vt.density(lambda key: vt.draw(key, dist.Poisson(3.0), name="n"))({"n": 2.5})


def test_parameters_out_of_range_are_an_error_where_they_are_known() -> None:
    def model(key: jax.Array) -> None:
        k1, k2 = jax.random.split(key)
        x = vt.draw(k1, dist.Normal(0.0, 1.0), name="x")
        vt.draw(k2, dist.Gamma(x, 1.0), name="y")  # the gamma function is finite below zero

    with pytest.raises(ValueError, match="'y': parameters of its distribution are out of range"):
        vt.density(model)({"x": -0.5, "y": 1.0})
    assert jnp.isnan(jax.jit(vt.density(model))({"x": -0.5, "y": 1.0}))


def test_randomness_that_no_draw_makes_is_refused() -> None:
    def in_a_loop(key: jax.Array) -> None:
        def step(x: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
            vt.factor(x, name="late")
            return x + jax.random.normal(key), None

        jax.lax.scan(step, 0.0, jax.random.split(key, 3))

    def branching(key: jax.Array) -> None:
        jax.lax.cond(jax.random.bernoulli(key), lambda: vt.factor(1.0), lambda: None)

    for model, words in ((in_a_loop, "'late'"), (branching, "`cond`")):
        with pytest.raises(TypeError, match=f"{words}.*random numbers that no draw makes"):
            vt.density(model)({})

    def unread(key: jax.Array) -> jax.Array:
        k1, k2 = jax.random.split(key)
        vt.factor(jnp.sum(jax.random.normal(jax.random.key(7), (3,))))  # the same in every run
        return vt.draw(k1, dist.Normal(0.0, 1.0), name="x") + jax.random.normal(k2)

    assert jnp.isfinite(vt.density(unread)({"x": 1.0}))


def test_what_cannot_be_counted_is_refused() -> None:
    def weighing(key: jax.Array, n: jax.Array) -> None:
        jax.lax.while_loop(lambda i: i < n, lambda i: (vt.factor(2.0 * i, name="f"), i + 1)[1], 0)

    with pytest.raises(TypeError, match=r"'f'.*inside a while_loop"):
        vt.density(weighing)({}, 4)

    def chosen(key: jax.Array, x: jax.Array) -> None:
        jax.vmap(lambda x: jax.lax.cond(x > 0, lambda: (vt.factor(x, name="f"), x)[1], lambda: x))(x)

    with pytest.raises(TypeError, match=r"'f'.*inside a branch that vmap made a choice"):
        vt.density(chosen)({}, jnp.arange(3.0) - 1)

    def taken(key: jax.Array, x: jax.Array) -> None:
        jax.lax.switch(x, [lambda: jax.lax.cond(x > 0, lambda: None, lambda: vt.factor(x.astype(float))), lambda: None])

    joint = vt.density(taken)
    assert jax.lax.cond(True, lambda: joint({}, -3), lambda: 0.0) == -3  # in a branch of a caller's
    assert jnp.array_equal(jax.vmap(lambda x: joint({}, x))(jnp.array([0, -2, 1])), jnp.array([0.0, -2.0, 0.0]))

    def drawing(key: jax.Array) -> None:
        def step(state: tuple) -> tuple:
            key, own = jax.random.split(state[0])
            return key, vt.draw(own, dist.Normal(0.0, 1.0), name="z")

        jax.lax.while_loop(lambda state: state[1] < 1, step, (key, jnp.zeros(())))

    with pytest.raises(TypeError, match=r"'z'.*inside a while_loop"):
        vt.density(drawing)({"z": 1.0})
