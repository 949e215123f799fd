"""Whether the parameters of every draw of a run are in range, so that a wrong one is an error and not a number."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from variate import checks, trees
from variate.programs import distributions
from variate.programs.interpretation import Records, evaluate, read
from variate.programs.primitive import over_lanes, sample_leaves
from variate.programs.program import Operation, Program, Site
from variate.programs.staging import stage


def count_invalid(site: Site, operands: Sequence[Array]) -> Int[Array, ""]:
    """How many lanes of a draw have parameters that are out of range."""

    def invalid(key: Array, *arrays: Array) -> Int[Array, ""]:
        return 1 - distributions.parameters_valid(site.structure.build(arrays)).astype(jnp.int32)

    return jnp.sum(over_lanes(invalid, site.lanes)(*operands))


class Counting:
    """A handler that samples and counts, at each draw, the lanes whose parameters are out of range."""

    def draw(self, site: Site, index: tuple[Array, ...], operands: Sequence[Array]) -> tuple[list[Array], Any]:
        return sample_leaves(site.structure, site.lanes)(*operands), count_invalid(site, operands)

    def loop(self, run: Any, operation: Operation, inputs: list[Array]) -> tuple[list[Array], Records]:
        return while_summing(run, operation, inputs)


def while_summing(run: Any, operation: Operation, inputs: list[Array]) -> tuple[list[Array], Records]:
    """Run a `while` loop and add up the records of its steps."""
    condition, body = operation.bodies
    split = operation.params["cond_nconsts"], operation.params["cond_nconsts"] + operation.params["body_nconsts"]
    consts, init = inputs[split[0] : split[1]], inputs[split[1] :]
    shapes = jax.eval_shape(lambda carry: run(body, [*consts, *carry])[1], init)
    nothing = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)

    def step(state: tuple) -> tuple:
        outputs, records = run(body, [*consts, *state[0]])
        return outputs, jax.tree.map(jnp.add, state[1], records)

    def go_on(state: tuple) -> Array:
        return run(condition, [*inputs[: split[0]], *state[0]])[0][0]

    return lax.while_loop(go_on, step, (list(init), nothing))


def invalid_draws(program: Program, inputs: Sequence[Any]) -> tuple[list[Any], dict[int, Int[Array, ""]]]:
    """Outputs of a run, and how many times each draw met parameters out of range."""
    environment, records = evaluate(program, inputs, Counting())
    return [read(environment, output) for output in program.outputs], jax.tree.map(jnp.sum, records)


def counted(f: Callable[..., Any]) -> Callable[..., tuple[Any, dict[int, Int[Array, ""]]]]:
    """`f(key, *args)`, with how many times each draw met parameters out of range."""

    @functools.wraps(f, updated=())
    def run(key: Any, *args: Any) -> tuple[Any, dict[int, Int[Array, ""]]]:
        numbers, static = trees.split(args)

        def flat(key: Any, *numbers: Any) -> Any:
            result = f(key, *trees.join(list(numbers), static))
            checks.check_result(f, result)
            return result

        program, shape = stage(flat, key, *numbers)
        outputs, counts = invalid_draws(program, [key, *numbers])
        return jax.tree.unflatten(jax.tree.structure(shape), [jnp.asarray(output) for output in outputs]), counts

    return run


class Raising:
    """A handler that samples and raises at the first draw whose parameters are out of range, where they are known."""

    def draw(self, site: Site, index: tuple[Array, ...], operands: Sequence[Array]) -> tuple[list[Array], Any]:
        if not site.lanes:
            distributions.check_parameters(site.structure.build(operands[1:]), site.label)
        return sample_leaves(site.structure, site.lanes)(*operands), None

    def loop(self, run: Any, operation: Operation, inputs: list[Array]) -> tuple[list[Array], Records]:
        return while_summing(run, operation, inputs)


def raise_invalid(program: Program, inputs: Sequence[Any], counts: dict[int, Any]) -> None:
    """Raise what is known of the parameters that were out of range; `inputs` is one run's, with concrete values."""
    wrong = [site for site in program.sites if counts.get(site.index, 0)]
    if not wrong:
        return
    evaluate(program, inputs, Raising())
    site = wrong[0]
    raise ValueError(
        f"the draw {site.label!r} ({site.source}): {site.distribution} met parameters that are out of range or not "
        f"finite in {int(counts[site.index])} of its draws"
    )
