"""Where others return a wrong gradient without a word, ours is right or refused."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import pytest
from gradients.sampled_checks import compiled_once, far, flat
from jax import Array, lax
from jax.random import split
from jax.scipy.stats import norm

import variate as vt
from variate.gradients import Pathwise, Score

# The peers' failures that are in the tables of programs, each against its exact gradient there: both discontinuities
# ("step", "ramp"), one distribution drawn twice, the scan of linked coins, the while loop, the switch, vmap, linked
# coins, 20 flips in a loop. Here is the rest.


def step(key: Array, t: Array) -> Array:
    return (vt.draw(key, dist.Normal(t, 1.0)) > 0).astype(float)


def wave(key: Array, t: Array) -> Array:
    return jnp.sin(vt.draw(key, dist.Normal(t, 1.0)))


def count(key: Array, t: Array) -> Array:
    k1, k2 = split(key)
    n = vt.draw(k1, dist.Poisson(jnp.exp(t))).astype(float)
    return n * vt.draw(k2, dist.Bernoulli(logits=t - 0.3 * n)).astype(float)


def count_mean(t: Array) -> Array:
    n = jnp.arange(40.0)
    log_p = n * t - jnp.exp(t) - jax.scipy.special.gammaln(n + 1)
    return jnp.sum(jnp.exp(log_p) * n * jax.nn.sigmoid(t - 0.3 * n))


SECOND: dict[str, tuple[Callable[..., Any], float, Callable[..., Any]]] = {
    "over a discontinuity": (step, 0.7, norm.cdf),
    "pathwise": (wave, 0.4, lambda t: jnp.exp(-0.5) * jnp.sin(t)),
    "linked scores": (count, 0.2, count_mean),
}


@compiled_once
@pytest.mark.parametrize("name", SECOND)
def test_a_gradient_of_a_gradient_is_right(name: str, key: Array) -> None:
    program, at, mean = SECOND[name]
    twice = jax.jit(vt.grad(vt.grad(program, num_samples=4), num_samples=10_000, block_size=2_500))
    truth = flat(jax.grad(jax.grad(mean))(at))
    found = twice(key, jnp.array(at))
    assert not far(found, truth)
    assert far(found, 0 * truth)  # what some return instead


def bernoulli_alone(key: Array, t: Array) -> Array:
    return jax.random.bernoulli(key, jax.nn.sigmoid(t)).astype(float)


def poisson_alone(key: Array, t: Array) -> Array:
    return jax.random.poisson(key, jnp.exp(t)).astype(float)


def compared_with_an_argument(key: Array, t: Array) -> Array:
    return (vt.draw(key, dist.Normal(0.0, 1.0)) > t).astype(float)


def branch_on_an_argument(key: Array, t: Array) -> Array:
    return lax.cond(vt.draw(key, dist.Normal(0.0, 1.0)) > t, lambda: 1.0, lambda: 2.0)


@pytest.mark.parametrize("program", [bernoulli_alone, poisson_alone, compared_with_an_argument, branch_on_an_argument])
def test_randomness_that_hides_a_derivative_is_refused(program: Callable[..., Any], key: Array) -> None:
    with pytest.raises(vt.BiasedGradientError, match="argument meets random values in the discontinuity"):
        vt.grad(program)(key, 0.3)


def test_the_same_is_given_with_its_bias_stated_to_who_insists(key: Array) -> None:
    found = vt.grad(compared_with_an_argument, allow_bias=True)(key, 0.3)
    assert found.biased
    assert "biased" in str(found)


def test_pathwise_over_a_discontinuity_is_refused_with_the_place_and_the_way_out(key: Array) -> None:
    def program(key: Array, t: Array) -> Array:
        return (vt.draw(key, dist.Normal(t, 1.0), name="z") > 0).astype(float)

    with pytest.raises(vt.BiasedGradientError, match=r"(?s)'z'.*`gt` at .*test_no_silent_bias.*Score"):
        vt.grad(program, rules={"z": Pathwise()})(key, 0.0)


def test_plain_jax_is_told_to_use_ours(key: Array) -> None:
    with pytest.raises(TypeError, match=r"vt\.grad\(f\)"):
        jax.grad(wave, argnums=1)(key, 0.3)


def test_the_score_function_does_not_serve_a_moving_support(key: Array) -> None:
    def program(key: Array, t: Array) -> Array:
        return vt.draw(key, dist.Uniform(0.0, t), name="x") ** 2

    with pytest.raises(
        ValueError, match=r"(?s)Score cannot serve the draw 'x'.*move its support.*Those that can: Pathwise"
    ):
        vt.grad(program, rules={"x": Score()})(key, 1.5)


def test_a_discontinuity_after_a_moving_support_has_its_measures(key: Array) -> None:
    """Neither a path nor a score, but the uniform's derivative is a step at its edge: E floor(x) = 1 - 1 / t here."""

    def program(key: Array, t: Array) -> Array:
        return jnp.floor(vt.draw(key, dist.Uniform(0.0, t), name="x"))

    gradient = vt.grad(program, num_samples=63 * 64)(key, 1.5)
    assert abs(gradient.value - 1 / 1.5**2) <= 5 * gradient.stderr
    assert not gradient.biased


def test_no_rule_serves_a_discontinuity_after_a_moving_support(key: Array) -> None:
    def program(key: Array, t: Array) -> Array:
        return jnp.floor(vt.draw(key, dist.TruncatedNormal(0.0, 1.0, low=t), name="x"))

    with pytest.raises(vt.BiasedGradientError, match=r"(?s)no rule.*'x'.*move its support"):
        vt.grad(program)(key, 1.5)


def test_an_atom_that_moves_has_no_score(key: Array) -> None:
    def program(key: Array, t: Array) -> Array:
        k1, k2 = split(key)
        return jnp.floor(vt.draw(k2, dist.Delta(t + jax.random.normal(k1)), name="x"))

    with pytest.raises(vt.BiasedGradientError, match=r"(?s)no rule.*'x'.*floor.*move its support"):
        vt.grad(program)(key, 0.3)


def test_noise_from_the_key_of_a_draw_leaves_it_no_score(key: Array) -> None:
    def program(key: Array, t: Array) -> Array:
        return vt.draw(key, dist.Bernoulli(logits=t), name="b").astype(float) * jax.random.uniform(key)

    with jax.debug_key_reuse(False), pytest.raises(vt.BiasedGradientError, match=r"(?s)no rule.*'b'.*also serves"):
        vt.grad(program)(key, 0.3)


def test_lanes_that_share_a_key_have_no_score(key: Array) -> None:
    def program(key: Array, t: Array) -> Array:
        b = jax.vmap(lambda logit: vt.draw(key, dist.Bernoulli(logits=logit), name="b"))(t)
        return jnp.sum(b.astype(float))

    with pytest.raises(ValueError, match=r"share.* key"):
        vt.grad(program, rules={"b": Score()})(key, jnp.array([0.1, 0.2]))


SMOOTH: dict[str, Callable[[Array], Array]] = {
    "square": lambda z: z**2,
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    "elu": jax.nn.elu,
    "softplus": jax.nn.softplus,
    "logsumexp": lambda z: jax.nn.logsumexp(jnp.stack([z, 0 * z])),
    "abs": jnp.abs,
    "max": lambda z: jnp.maximum(z, 1.0),
    "clip": lambda z: jnp.clip(z, -1.0, 1.0),
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
}
BROKEN: dict[str, Callable[[Array], Array]] = {
    "step": lambda z: jnp.where(z > 0, 1.0, 0.0),
    "jump": lambda z: jnp.where(z > 0, z + 1, z),
    "sign": jnp.sign,
    "floor": jnp.floor,
    "round": lambda z: jnp.round(z) * z,
    "remainder": lambda z: z % 1.0,
    "argmax": lambda z: jnp.argmax(jnp.stack([z, 0 * z])).astype(float),
    "cast": lambda z: z.astype(int).astype(float),
    "branch": lambda z: lax.cond(z > 0, lambda: 1.0, lambda: 2.0),
    "index": lambda z: jnp.array([1.0, 2.0])[(z > 0).astype(int)],
    "heaviside": lambda z: jnp.heaviside(z, 0.5),
    "bare leaky step": lambda z: jnp.where(z >= 0.1, z, 0.5 * z),
}


def rule_of_a_draw_under(f: Callable[[Array], Array], key: Array) -> str:
    def program(key: Array, t: Array) -> Array:
        return f(vt.draw(key, dist.Normal(t, 1.0), name="z"))

    (row,) = vt.explain(program, num_samples=2)(key, 0.3).rows
    return row.rule


@pytest.mark.wide
@pytest.mark.parametrize("name", SMOOTH)
def test_what_is_continuous_stays_pathwise(name: str, key: Array) -> None:
    assert "Pathwise" in rule_of_a_draw_under(SMOOTH[name], key)


@pytest.mark.wide
@pytest.mark.parametrize("name", BROKEN)
def test_what_is_not_does_not(name: str, key: Array) -> None:
    assert "Score" in rule_of_a_draw_under(BROKEN[name], key)
