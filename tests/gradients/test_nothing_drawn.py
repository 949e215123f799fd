"""Draws of no elements, in no lanes or in no steps contribute nothing to a gradient, and stop nothing."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import pytest
from jax import Array, lax
from jax.nn import sigmoid
from jax.random import split

import variate as vt
from variate.gradients import Coupled, DisARM, Enumerate, GumbelSoftmax, Marginalize, Rebar, Rule, Score


def coins(key: Array, t: Array, shape: tuple[int, ...] = ()) -> Array:
    return vt.draw(key, dist.Bernoulli(logits=jnp.broadcast_to(t, shape)), name="none").astype(float)


def multiplied(key: Array, t: Array) -> Array:
    return lax.scan(lambda c, k: (c * 2 + coins(k, t), None), 1.0, split(key, 3)[:0])[0]


# Of each the result is one.
PROGRAMS: dict[str, Callable[[Array, Array], Array]] = {
    "no element": lambda key, t: 1 + jnp.sum(coins(key, t, (0,))),
    "no element in rows": lambda key, t: 1 + jnp.sum(coins(key, t, (2, 0))),
    "no lane": lambda key, t: 1 + jnp.sum(jax.vmap(coins)(split(key, 2)[:0], t * jnp.ones(0))),
    "no step of a total": multiplied,
}
RULES = [None, Score(), Enumerate(), Coupled(), Marginalize(), DisARM(), Rebar(), GumbelSoftmax(0.5)]


CASES = [("no element", rule) for rule in RULES] + [(name, Score()) for name in PROGRAMS if name != "no element"]


@pytest.mark.wide
@pytest.mark.parametrize(("name", "rule"), CASES)
def test_what_is_not_drawn_adds_nothing(name: str, rule: Rule | None, key: Array) -> None:
    """Beside a coin that is drawn the gradient is that of the coin, whose two values are both looked at."""

    def program(key: Array, t: Array) -> Array:
        one, two = split(key)
        live = vt.draw(one, dist.Bernoulli(logits=t), name="live").astype(float)
        return live * PROGRAMS[name](two, t)

    found = vt.grad(program, num_samples=2, rules={"none": rule, "live": Enumerate()} if rule else None)(key, 0.3)
    assert jnp.allclose(found.value, sigmoid(0.3) * sigmoid(-0.3), rtol=1e-12)
    assert not found.biased


@pytest.mark.parametrize("name", PROGRAMS)
def test_explain_says_so(name: str, key: Array) -> None:
    (row,) = vt.explain(PROGRAMS[name], num_samples=2)(key, 0.3).rows
    assert (row.rule, row.why) == ("none needed", "it has no elements")


def test_a_continuous_draw_of_nothing_is_scored(key: Array) -> None:
    def program(key: Array, t: Array) -> Array:
        return t**2 + jnp.sum(vt.draw(key, dist.Normal(t * jnp.ones(0), 1.0), rule=Score()))

    assert vt.grad(program)(key, 0.3).value == pytest.approx(0.6, rel=1e-12)
