"""`simulate` and `replay`, through every control flow: interpretation is what JAX would do, loops rolled."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from variate.programs import At, draw, replay, simulate
from variate.programs.interpretation import run
from variate.programs.staging import stage
from variate.programs.validity import Counting


def normal(key: jax.Array, mean: jax.Array, name: str | None = None) -> jax.Array:
    return draw(key, dist.Normal(mean, 1.0), name=name)


def scanned(key: jax.Array, t: jax.Array) -> jax.Array:
    def step(x: jax.Array, key: jax.Array) -> tuple:
        x = x + normal(key, t, "step")
        return x, x**2

    return sum(map(jnp.sum, jax.lax.scan(step, t, jax.random.split(key, 5), reverse=True)))


def looped(key: jax.Array, t: jax.Array) -> jax.Array:
    def step(state: tuple) -> tuple:
        key, x, n = state
        key, own = jax.random.split(key)
        return key, x + normal(own, t) ** 2, n + 1

    return jax.lax.while_loop(lambda state: state[1] < 5, step, (key, t, 0))[1]


def lanes_in_scan(key: jax.Array, t: jax.Array) -> jax.Array:
    def step(x: jax.Array, key: jax.Array) -> tuple:
        return x + jax.vmap(normal)(jax.random.split(key, 3), x), None

    return jax.lax.scan(step, t * jnp.ones(3), jax.random.split(key, 4))[0].sum()


def scan_in_lanes(key: jax.Array, t: jax.Array) -> jax.Array:
    return jax.vmap(scanned, in_axes=(0, None))(jax.random.split(key, 3), t).sum()


def branching(key: jax.Array, t: jax.Array) -> jax.Array:
    k1, k2 = jax.random.split(key)
    which = draw(k1, dist.Categorical(logits=jnp.zeros(3)))
    return jax.lax.switch(which, [lambda: normal(k2, t), lambda: t, lambda: scanned(k2, t)])


@jax.custom_jvp
def with_rule(key: jax.Array, t: jax.Array) -> jax.Array:
    return normal(key, t) * 2


with_rule.defjvp(lambda primals, tangents: (with_rule(*primals), 2 * tangents[1]))

PROGRAMS: dict[str, Callable] = {
    "scan": scanned,
    "while": looped,
    "lanes in a scan": lanes_in_scan,
    "a scan in lanes": scan_in_lanes,
    "switch": branching,
    "checkpoint": jax.checkpoint(scanned),
    "jit in jit": jax.jit(jax.jit(scanned)),
    "custom_jvp": with_rule,
}


@pytest.mark.wide
@pytest.mark.parametrize("name", PROGRAMS)
def test_interpretation_is_what_jax_does(name: str) -> None:
    f, t = PROGRAMS[name], jnp.asarray(0.3)
    program, _ = stage(f, jax.random.key(0), t)
    both = jax.jit(lambda key, t: (run(program, [key, t], Counting())[0][0], f(jax.random.clone(key), t)))
    for seed in range(3):
        np.testing.assert_allclose(*both(jax.random.key(seed), t), rtol=1e-13)


def test_simulate_keeps_the_draws_and_their_log_probabilities() -> None:
    def f(key: jax.Array, t: jax.Array) -> jax.Array:
        k1, k2 = jax.random.split(key)
        return scanned(k1, t) + normal(k2, t, "last")

    t = jnp.asarray(0.3)
    result, draws = simulate(f)(jax.random.key(4), t)
    assert jnp.allclose(result, f(jax.random.key(4), t))
    assert set(draws) == {"step", "last"}
    assert draws["step"].value.shape == (5,)
    assert jnp.allclose(draws["step"].log_prob, dist.Normal(0.3, 1.0).log_prob(draws["step"].value))


def test_replay_changes_what_it_is_told_to_and_nothing_else() -> None:
    def f(key: jax.Array, t: jax.Array) -> jax.Array:
        def step(x: jax.Array, key: jax.Array) -> tuple:
            z = jax.vmap(lambda k: normal(k, t, "z"))(jax.random.split(key, 2))
            return x, z

        return jax.lax.scan(step, t, jax.random.split(key, 3))[1]

    key, t = jax.random.key(5), jnp.asarray(0.3)
    plain = f(key, t)
    one = replay(f, {"z": At((1, 0), 7.0)})(jax.random.clone(key), t)
    assert jnp.array_equal(one, plain.at[1, 0].set(7.0))
    step = replay(f, {"z": At((2,), jnp.array([7.0, 8.0]))})(jax.random.clone(key), t)
    assert jnp.array_equal(step, plain.at[2].set(jnp.array([7.0, 8.0])))
    whole = replay(f, {"z": jnp.ones((3, 2))})(jax.random.clone(key), t)
    assert jnp.array_equal(whole, jnp.ones((3, 2)))


def test_a_replay_shares_the_randomness_behind_the_replaced_draw() -> None:
    key, t = jax.random.key(6), jnp.asarray(0.0)

    def walk(key: jax.Array, t: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda x, k: (x + normal(k, t, "step"),) * 2, t, jax.random.split(key, 9))[1]

    difference = replay(walk, {"step": At((4,), 3.0)})(key, t) - walk(jax.random.clone(key), t)
    assert jnp.allclose(difference[:4], 0)
    assert jnp.allclose(difference[4:], difference[4])


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"nobody": 1.0}, r"no draw is called 'nobody'; the draws are \['step'\]"),
        ({"step": 1.0}, r"has shape \(5,\), so its value must have shape \(5,\), got \(\)"),
        ({"step": At((1, 1), 1.0)}, r"index \(1, 1\)"),
    ],
)
def test_wrong_overrides_are_named(overrides: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replay(scanned, overrides)(jax.random.key(0), jnp.asarray(0.3))


def test_a_loop_of_unknown_length_has_no_list_of_draws() -> None:
    with pytest.raises(TypeError, match="inside a while_loop"):
        simulate(looped)(jax.random.key(0), jnp.asarray(0.3))


def test_two_draws_of_one_name_are_refused() -> None:
    def f(key: jax.Array) -> jax.Array:
        k1, k2 = jax.random.split(key)
        return normal(k1, jnp.asarray(0.0), "z") + normal(k2, jnp.asarray(0.0), "z")

    with pytest.raises(ValueError, match="two draws are called 'z'"):
        simulate(f)(jax.random.key(0))
