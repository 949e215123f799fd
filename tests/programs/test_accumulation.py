"""Totals that loops and checkpoints hand on are the same as sums of what was added, and no derivative changes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import Array, lax
from jax.random import split

from variate.programs import accumulation, checkpoints, draw, recurrences
from variate.programs.accumulation import accumulated
from variate.programs.interpretation import evaluate
from variate.programs.program import Program, every_operation
from variate.programs.staging import stage
from variate.programs.validity import Counting

Carry = tuple[Array, Array]  # a state, and a total that no step reads but to hand it on
Step = Callable[[Carry, Array], tuple[Carry, None]]
Loop = Callable[[Step, Array], Array]

# What a step makes of a total, given two numbers.
CHANGES: list[Callable[[Array, Array, Array], Array]] = [
    lambda total, a, b: total + a,
    lambda total, a, b: total - a,
    lambda total, a, b: a - total,
    lambda total, a, b: -total,
    lambda total, a, b: b * total,
    lambda total, a, b: total * 0.5,
    lambda total, a, b: total / (2 + b),
    lambda total, a, b: total + (a - total) * b,
    lambda total, a, b: jnp.where(a > b, total, total + b),
    lambda total, a, b: lax.cond(a > 0.5, lambda x: a - x, lambda x: x + b, total),
]


def stepped(seed: int) -> Step:
    """Three changes that nobody chose, and at least one addition."""
    chosen = [CHANGES[i] for i in np.random.default_rng(seed).integers(0, len(CHANGES), 3)]

    def step(carry: Carry, k: Array) -> tuple[Carry, None]:
        s, total = carry
        b = draw(k, dist.Bernoulli(probs=jax.nn.sigmoid(s))).astype(float)
        s = 0.5 * s + b
        for i, change in enumerate(chosen):
            total = change(total, jnp.sin(s + i), jnp.cos(s - i))
        return (s, s * b - total), None

    return step


def scanned(step: Step, key: Array, reverse: bool = False) -> Array:
    return lax.scan(step, (jnp.ones(()), jnp.full((), 2.0)), split(key, 6), reverse=reverse)[0][1]


def nested(step: Step, key: Array) -> Array:
    def outer(carry: Carry, k: Array) -> tuple[Carry, None]:
        s, total = lax.scan(step, carry, split(k, 2))[0]
        return (s - 0.3, s - 0.5 * total), None

    return scanned(outer, key)


LOOPS: dict[str, Loop] = {
    "a scan": scanned,
    "a scan backwards": lambda step, key: scanned(step, key, reverse=True),
    "steps in checkpoints": lambda step, key: scanned(jax.checkpoint(step), key),
    "a checkpoint": lambda step, key: jax.checkpoint(lambda k: scanned(step, k))(key),
    "a scan in a scan": nested,
    "all of them": lambda step, key: nested(jax.checkpoint(lambda c, k: jax.checkpoint(step)(c, k)), key),
}


def both(loop: str, seed: int) -> tuple[Program, Program]:
    plain, _ = stage(lambda key: LOOPS[loop](stepped(seed), key), jax.random.key(0))
    return plain, accumulated(plain)


def value(program: Program, key: Array) -> Any:
    with jax.debug_key_reuse(False):
        (output,) = program.outputs
        assert isinstance(output, int)
        return evaluate(program, [key], Counting())[0][output]


def off(loop: str, seed: int) -> float:
    key = jax.random.key(seed)
    before, after = (value(program, key) for program in both(loop, seed))
    return float(abs(before - after) / (1 + abs(before)))


@pytest.mark.wide
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("loop", LOOPS)
def test_totals_are_what_they_were(loop: str, seed: int) -> None:
    assert off(loop, seed) < 1e-13


def without_sign(expression: Any) -> Any:
    return expression


def read_inside(checkpoint: Any, writer: Any) -> dict:
    """As if what is made behind a checkpoint were still read from it."""
    OPENED(checkpoint, writer)
    return {}


OPENED = checkpoints.opened
MUTANTS: dict[str, tuple[Any, str, Any, str]] = {
    "signs lost": (recurrences, "_negative", without_sign, "a scan"),
    "factors lost": (recurrences, "_product", lambda a, b: a, "a scan"),
    "nothing behind a checkpoint": (accumulation, "opened", read_inside, "steps in checkpoints"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_wrong_totals_are_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, attribute, mutant, loop = MUTANTS[name]
    monkeypatch.setattr(module, attribute, mutant)
    assert max(off(loop, seed) for seed in range(4)) > 1e-3


def test_checkpoints_still_recompute() -> None:
    """The body of a checkpoint stays one: only additions are done behind it."""

    def of_coins(key: Array) -> Array:
        return jnp.sum(jnp.sin(draw(key, dist.Bernoulli(probs=0.5 * jnp.ones(3))).astype(float)))

    program = accumulated(stage(jax.checkpoint(of_coins), jax.random.key(0))[0])
    checkpoint, total = program.operations
    assert (checkpoint.name in checkpoints.CHECKPOINTS, total.name) == (True, "reduce_sum")
    assert "sin" in [op.name for op in every_operation(checkpoint.bodies[0])]
