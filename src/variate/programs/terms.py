"""The split of a result into additive terms, each with the draws that it depends on."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from variate.programs.dataflow import Flow
from variate.programs.interpretation import bind, read
from variate.programs.staging import Constant, Operand, Operation, Program

# Linear in their one operand.
_LINEAR = frozenset(
    "neg reduce_sum broadcast_in_dim reshape squeeze transpose convert_element_type copy slice rev cumsum".split()
)
# Linear in each of two operands while the other stays.
_BILINEAR = frozenset({"mul", "dot_general"})

_LIMIT = 256  # steps of the walk; what is beyond stays one term

Step = tuple[Operation, int]  # an operation, and which of its operands the term passes through


class Terms:
    """How to split one output of a program.

    Args:
        program: the staged program.
        output: the output to split.
        flows: the flow of every value of the program.
        draws: the mask of the draws whose reach matters; terms that differ in no other draw are not told apart.
    """

    def __init__(self, program: Program, output: Operand, flows: Sequence[Flow], draws: int):
        self.output, self.flows, self.draws = output, flows, draws
        self.producers = {place: op for op in program.operations for place in op.outputs}
        self.leaves: list[tuple[Operand, float, tuple[Step, ...]]] = []
        self.walk()

    def reach(self, operand: Operand) -> int:
        return 0 if isinstance(operand, Constant) else self.flows[operand].reach & self.draws

    def walk(self) -> None:
        pending: list[tuple[Operand, float, tuple[Step, ...]]] = [(self.output, 1.0, ())]
        steps = 0
        while pending:
            operand, sign, chain = pending.pop()
            steps += 1
            parts = self.parts(operand, sign, chain) if steps < _LIMIT else None
            if parts is None:
                self.leaves.append((operand, sign, chain))
            else:
                pending.extend(parts)

    def parts(self, operand: Operand, sign: float, chain: tuple[Step, ...]) -> list | None:
        """The summands of a value, or None where it is to stay whole."""
        producer = self.producers.get(operand) if isinstance(operand, int) else None
        if producer is None or self.reach(operand).bit_count() < 2:
            return None
        if not jnp.issubdtype(producer.avals[0].dtype, jnp.inexact):
            return None
        name, inputs = producer.name, producer.inputs
        if name in ("add", "add_any", "sub"):
            second = -sign if name == "sub" else sign
            return [(inputs[0], sign, ((producer, 0), *chain)), (inputs[1], second, ((producer, 1), *chain))]
        reached = [i for i, operand in enumerate(inputs) if self.reach(operand)]
        if name in _LINEAR or (name in _BILINEAR and len(reached) == 1) or (name == "div" and reached == [0]):
            return [(inputs[reached[0]], sign, ((producer, reached[0]), *chain))]
        return None

    def masks(self) -> set[int]:
        """The different reaches."""
        return {self.reach(operand) for operand, *_ in self.leaves}

    def places(self) -> set[int]:
        """All that `values` reads of an environment."""
        chains = (operand for _, _, chain in self.leaves for step, _ in chain for operand in step.inputs)
        leaves = (operand for operand, *_ in self.leaves)
        return {operand for operand in (self.output, *leaves, *chains) if isinstance(operand, int)}

    def values(self, environment: list[Any]) -> dict[int, Array]:
        """The terms of one run, by reach; they add up to the output."""
        if len(masks := self.masks()) == 1:
            return {masks.pop(): jnp.asarray(read(environment, self.output))}
        terms: dict[int, Array] = {}
        for operand, sign, chain in self.leaves:
            value = read(environment, operand)
            for operation, position in chain:
                value = _pass(operation, position, value, environment)
            mask, value = self.reach(operand), value if sign > 0 else -value
            terms[mask] = terms[mask] + value if mask in terms else value
        return terms


def _pass(operation: Operation, position: int, value: Any, environment: list[Any]) -> Any:
    if operation.name in ("add", "add_any", "sub"):
        return jnp.broadcast_to(jnp.asarray(value, operation.avals[0].dtype), operation.avals[0].shape)
    operands = [read(environment, operand) for operand in operation.inputs]
    operands[position] = value
    return bind(operation, operands)[0]


def split(program: Program, flows: Sequence[Flow], draws: int) -> Callable[[list[Any]], list[Mapping[int, Array]]]:
    """A function from the environment of a run to the terms of each output."""
    terms = [Terms(program, output, flows, draws) for output in program.outputs]
    return lambda environment: [each.values(environment) for each in terms]
