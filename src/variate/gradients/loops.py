"""A `while` loop with draws inside, whose number of steps is random: reverse mode cannot pass it, its score can."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from variate.programs.interpretation import Records
from variate.programs.program import Operation


def while_with_draws(run: Any, operation: Operation, inputs: list[Array]) -> tuple[list[Array], Records]:
    r"""Run the loop and keep, for each draw in it, $\sum_t \log p(x_t)$ with its derivative in the loop's constants.

    The derivative is summed as the loop goes, in constant memory: each step takes the vector-Jacobian product of its
    own log probabilities. It is exact where no derivative goes round the loop in the carried values, which the
    choice of rules has made sure of, and to the first order.
    """
    condition, body = operation.bodies
    split = operation.params["cond_nconsts"], operation.params["cond_nconsts"] + operation.params["body_nconsts"]
    stopped = lax.stop_gradient(inputs)
    consts, init = inputs[split[0] : split[1]], stopped[split[1] :]
    moving = [i for i, const in enumerate(consts) if jnp.issubdtype(jnp.result_type(const), jnp.inexact)]
    held = [jnp.asarray(stopped[split[0] + i]) for i in moving]

    def step(moved: list[Array], carry: Sequence[Array]) -> tuple[list[Array], tuple]:
        inputs = list(stopped[split[0] : split[1]])
        for i, const in zip(moving, moved, strict=True):
            inputs[i] = const
        outputs, records = run(body, [*inputs, *carry])
        return [jnp.sum(records[site]) for site in sorted(records)], (outputs, records)

    shapes = jax.eval_shape(lambda carry: step(held, carry)[1][1], init)
    sites = sorted(shapes)

    def advance(state: tuple) -> tuple:
        carry, totals, slopes = state
        pieces, pull, (outputs, _) = jax.vjp(lambda moved: step(moved, carry), held, has_aux=True)
        for n in range(len(pieces)):
            unit = [jnp.ones_like(p) if m == n else jnp.zeros_like(p) for m, p in enumerate(pieces)]
            (slope,) = pull(unit)
            slopes[n] = [a + b for a, b in zip(slopes[n], slope, strict=True)]
        return outputs, [a + b for a, b in zip(totals, pieces, strict=True)], slopes

    def go_on(state: tuple) -> Array:
        outputs, _ = run(condition, [*stopped[: split[0]], *state[0]])
        return outputs[0]

    kinds = jax.eval_shape(lambda carry: step(held, carry)[0], init)
    nothing = [jnp.zeros(kind.shape, kind.dtype) for kind in kinds]
    flat = [[jnp.zeros_like(const) for const in held] for _ in sites]
    carry, totals, slopes = lax.while_loop(go_on, advance, (list(init), nothing, flat))
    moved = [consts[i] for i in moving]
    return carry, {site: _attach(totals[n], slopes[n], moved) for n, site in enumerate(sites)}


@jax.custom_jvp
def _attach(total: Array, slope: list[Array], consts: list[Array]) -> Array:
    """`total`, whose derivative in `consts` is `slope`."""
    return total


@_attach.defjvp
def _(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    total, slope, _ = primals
    slope = lax.stop_gradient(slope)
    moves = (jnp.sum(s * t) for s, t in zip(slope, tangents[2], strict=True))
    return total, sum(moves, start=jnp.zeros_like(total))
