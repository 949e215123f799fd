"""Running a program with a handler of draws, loops rolled."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from variate.programs import generator
from variate.programs.program import Constant, Factor, Operand, Operation, Program, Site, scan_parts

_OF_KEYS = frozenset(("random_bits", "random_fold_in", "random_split"))

# By the index of the site, or a number below zero that a handler has for a named value that it watches; one more
# leading axis for each scan around it.
Records = dict[int, Any]


@runtime_checkable
class Handler(Protocol):
    """What a run does at a draw."""

    def draw(self, site: Site, index: tuple[Array, ...], operands: Sequence[Array]) -> tuple[list[Array], Any]:
        """Leaves of the value, and a record (any pytree of arrays, None for nothing).

        `index` counts the steps of the scans around the draw, outermost first; `operands` are the key and the arrays
        of the distribution.
        """
        ...

    def loop(self, run: Any, operation: Operation, inputs: list[Array]) -> tuple[list[Array], Records]:
        """Run a `while` that contains draws: its number of records is unknown, so the handler decides what to keep.

        `run(body, inputs)` runs a body of it and gives outputs and records.
        """
        ...


@runtime_checkable
class Weigher(Protocol):
    """A handler that counts the weights of a run; to all others `observe` and `factor` are nothing."""

    def weigh(self, factor: Factor, operands: Sequence[Array]) -> Any:
        """A record of the weight."""
        ...


@runtime_checkable
class Stepped(Protocol):
    """A handler with something of its own for every step of a scan."""

    def stepped(self, body: Program) -> tuple[Any, Callable[[Any], Handler]]:
        """What it has, with a leading axis of steps, and the handler of one step, given its share."""
        ...


def run(
    program: Program, inputs: Sequence[Any], handler: Handler, index: tuple[Array, ...] = ()
) -> tuple[list[Any], Records]:
    """Outputs of the program and the records of its draws."""
    environment, records = evaluate(program, inputs, handler, index)
    return [read(environment, output) for output in program.outputs], records


def read(environment: Sequence[Any], operand: Operand) -> Any:
    return operand.value if isinstance(operand, Constant) else environment[operand]


def evaluate(
    program: Program, inputs: Sequence[Any], handler: Handler, index: tuple[Array, ...] = ()
) -> tuple[list[Any], Records]:
    """The whole environment at the end of a run, for those who read intermediate values, and the records."""
    environment: list[Any] = [None] * program.size
    records: Records = {}
    watched: Mapping[str, int] = getattr(handler, "watched", {})
    for place, value in (*program.constants, *zip(program.inputs, inputs, strict=True)):
        environment[place] = value
    weigh = handler.weigh if isinstance(handler, Weigher) else None
    for operation in program.operations:
        operands = [read(environment, operand) for operand in operation.inputs]
        if operation.sites or operation.factors:
            operands = [jnp.asarray(operand) for operand in operands]
        if operation.site is not None:
            outputs, record = handler.draw(operation.site, index, operands)
            if len(outputs) < len(operation.outputs):
                outputs = [*outputs, one_hot(operation.site, outputs[0], operation.avals[-1].dtype)]
            if record is not None:
                records[operation.site.index] = record
        elif operation.factor is not None:
            outputs = []
            if weigh is not None:
                records[operation.factor.index] = weigh(operation.factor, operands)
        elif operation.sites or operation.gives_more or (operation.factors and weigh is not None):
            outputs, inner = CONTROL[operation.name](operation, operands, handler, index)
            records.update(inner)
        else:
            outputs = bind(operation, operands)
            if watched and operation.name == "name" and operation.params["name"] in watched:
                records[watched[operation.params["name"]]] = outputs[0]
        for place, value in zip(operation.outputs, outputs, strict=True):
            environment[place] = value
    return environment, records


def one_hot(site: Site, value: Array, dtype: Any) -> Array:
    """The weights of what was drawn, which a relaxed draw gives besides where its handler gives no others."""
    values = jnp.broadcast_to(jnp.asarray(site.values, value.dtype), (*value.shape, len(site.values)))
    return (value[..., None] == values).astype(dtype)


def bind(operation: Operation, operands: Sequence[Any]) -> Sequence[Any]:
    """Do one operation as JAX would."""
    if operation.from_binary and operation.name == "convert_element_type":
        # XLA makes a choice of a product with a cast boolean, which is fast, and not of one with a cast integer.
        return [lax.convert_element_type(operands[0] != 0, operation.params["new_dtype"])]
    bound = operation.primitive.get_bind_params(operation.params)
    # Up to JAX 0.9 the functions of a call are positional operands; later they are among the parameters.
    functions, params = bound if isinstance(bound, tuple) else ((), bound)
    if operation.name in _OF_KEYS:
        key, *rest = operands
        return [generator.of_key(lambda key: operation.primitive.bind(key, *rest, **params), key)]
    outputs = operation.primitive.bind(*functions, *operands, **params)
    return outputs if operation.primitive.multiple_results else [outputs]


def _scan(
    operation: Operation, operands: list[Any], handler: Handler, index: tuple[Array, ...]
) -> tuple[list[Any], Records]:
    params, (body,) = operation.params, operation.bodies
    constants, carried = scan_parts(operation)
    consts, init, xs = operands[:constants], operands[constants : constants + carried], operands[constants + carried :]

    own, at_step = handler.stepped(body) if isinstance(handler, Stepped) else (None, lambda _: handler)

    def step(carry: list[Any], xs: tuple[Array, list[Any], Any]) -> tuple[list[Any], tuple[list[Any], Records]]:
        count, x, own = xs
        outputs, records = run(body, [*consts, *carry, *x], at_step(own), (*index, count))
        return outputs[: len(carry)], (outputs[len(carry) :], records)

    options = {"reverse": params["reverse"], "unroll": params["unroll"], "length": params["length"]}
    carry, (ys, records) = lax.scan(step, init, (jnp.arange(params["length"]), xs, own), **options)
    return [*carry, *ys], records


def _cond(
    operation: Operation, operands: list[Any], handler: Handler, index: tuple[Array, ...]
) -> tuple[list[Any], Records]:
    which, *rest = operands
    shapes = {}
    for body in operation.bodies:
        shapes.update(jax.eval_shape(lambda *inputs, b=body: run(b, inputs, handler, index)[1], *rest))

    def nothing() -> Records:
        return jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)

    def branch(body: Program) -> Any:
        def taken(*inputs: Any) -> tuple[list[Any], Records]:
            outputs, records = run(body, inputs, handler, index)
            # A draw that is not reached has no record: zero is the log probability of nothing drawn.
            absent = {site: zeros for site, zeros in nothing().items() if site not in records}
            return outputs, {**records, **absent}

        return taken

    return lax.switch(which, [branch(body) for body in operation.bodies], *rest)


def _while(
    operation: Operation, operands: list[Any], handler: Handler, index: tuple[Array, ...]
) -> tuple[list[Any], Records]:
    def inner(body: Program, inputs: Sequence[Any]) -> tuple[list[Any], Records]:
        return run(body, inputs, handler, index)

    return handler.loop(inner, operation, operands)


def _checkpoint(
    operation: Operation, operands: list[Any], handler: Handler, index: tuple[Array, ...]
) -> tuple[list[Any], Records]:
    options = {"prevent_cse": operation.params["prevent_cse"], "policy": operation.params["policy"]}
    (body,) = operation.bodies
    return jax.checkpoint(lambda inputs: run(body, inputs, handler, index), **options)(operands)


# How what has bodies is run, by its name.
CONTROL = {"scan": _scan, "cond": _cond, "while": _while, "remat2": _checkpoint, "checkpoint": _checkpoint}
