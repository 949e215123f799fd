"""The split of a result into additive terms, each with the draws that it depends on."""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from variate.programs.dataflow import Flow, bit
from variate.programs.interpretation import bind, read
from variate.programs.program import Constant, Operand, Operation, Program
from variate.programs.relations import Relation, Relations

# Linear in their one operand.
_LINEAR = frozenset(
    "neg reduce_sum broadcast_in_dim reshape squeeze transpose convert_element_type copy slice rev cumsum".split()
)
# Linear in each of two operands while the other stays.
_BILINEAR = frozenset({"mul", "dot_general"})

# Linear in the first of their operands, which are moved, while the others stay.
_MOVES = frozenset({"dynamic_slice", "gather", "pad"})
# Linear in all of their operands together: each by itself, with zeros in the place of the others.
_JOINS = frozenset({"concatenate", "select_n", "stack"})

_SUMS = frozenset({"add", "add_any", "sub"})

# Of these the result is a sum of entries of the operand as they are, or of their negatives.
_PLAIN = _SUMS | frozenset("neg reduce_sum reshape squeeze transpose copy rev".split())

_LIMIT = 256  # steps of the walk; what is beyond stays one term

Step = tuple[Operation, int]  # an operation, and which of its operands the term passes through


class Leaf(NamedTuple):
    """A value that enters the output linearly, its sign, the operations it passes through, and how draws reach it."""

    operand: Operand
    sign: float
    chain: tuple[Step, ...]
    mask: int
    relations: Relations  # those that are finer than full

    @property
    def fine(self) -> bool:
        return bool(self.relations)

    def looks_closer_than(self, other: "Leaf") -> bool:
        """Whether fewer draws reach it, or some more finely."""
        finer = any(_detail(relation) > _detail(other.relations.get(site)) for site, relation in self.relations.items())
        return finer or self.mask != other.mask


def _detail(relation: Relation | None) -> int:
    return sum(1 if link.causal else 2 for link in relation.links) if relation else 0


class Part(NamedTuple):
    """A summand of an output: the draws that reach it and, if it has finer relations, which leaf it is; else -1."""

    mask: int
    leaf: int


class Entries(NamedTuple):
    """What each entry of each part adds to the output, but for a common factor."""

    scale: Array
    parts: dict[Part, Array]


class Terms:
    """How to split one output of a program.

    Args:
        program: the staged program.
        output: the output to split.
        flows: the flow of every value of the program.
        draws: the mask of the draws whose reach matters; terms that differ in no other draw are not told apart.
        relations: of every value, if elements of draws are to be told apart.
    """

    def __init__(
        self,
        program: Program,
        output: Operand,
        flows: Sequence[Flow],
        draws: int,
        relations: Sequence[Relations] | None = None,
    ):
        self.output, self.flows, self.draws = output, flows, draws
        self.producers = {place: op for op in program.operations for place in op.outputs}
        scalar = isinstance(output, int) and self.producers.get(output) and self.aval(output).ndim == 0
        self.relations = relations if scalar else None
        self.steps = 0
        self.leaves = self.walk(output, 1.0, ())
        self.found = list(dict.fromkeys(self.part(n) for n in range(len(self.leaves))))

    def aval(self, place: int) -> Any:
        producer = self.producers[place]
        return producer.avals[producer.outputs.index(place)]

    def reach(self, operand: Operand) -> int:
        return 0 if isinstance(operand, Constant) else self.flows[operand].reach & self.draws

    def walk(self, operand: Operand, sign: float, chain: tuple[Step, ...]) -> list[Leaf]:
        self.steps += 1
        whole = self.leaf(operand, sign, chain)
        parts = self.parts(operand, sign, chain) if self.steps < _LIMIT else None
        leaves = [leaf for part in parts for leaf in self.walk(*part)] if parts else []
        return leaves if any(leaf.looks_closer_than(whole) for leaf in leaves) else [whole]

    def leaf(self, operand: Operand, sign: float, chain: tuple[Step, ...]) -> Leaf:
        mask, relations = self.reach(operand), {}
        if self.relations is not None and isinstance(operand, int):
            found = self.relations[operand].items()
            relations = {site: relation for site, relation in found if relation.links and mask & bit(site)}
        return Leaf(operand, sign, chain, mask, relations)

    def parts(self, operand: Operand, sign: float, chain: tuple[Step, ...]) -> list | None:
        """The summands of a value, or None where it is to stay whole."""
        producer = self.producers.get(operand) if isinstance(operand, int) else None
        if producer is None or not self.reach(operand):
            return None
        if not jnp.issubdtype(producer.avals[0].dtype, jnp.inexact):
            return None
        name, inputs = producer.name, producer.inputs
        if name in _SUMS:
            second = -sign if name == "sub" else sign
            return [(inputs[0], sign, ((producer, 0), *chain)), (inputs[1], second, ((producer, 1), *chain))]
        reached = [i for i, operand in enumerate(inputs) if self.reach(operand)]
        if name in _LINEAR or (name in _BILINEAR and len(reached) == 1) or (name == "div" and reached == [0]):
            return [(inputs[reached[0]], sign, ((producer, reached[0]), *chain))]
        if name in _MOVES and reached == [0] and self.fills_with_nothing(producer):
            return [(inputs[0], sign, ((producer, 0), *chain))]
        if name in _JOINS and not (name == "select_n" and 0 in reached):
            cases = range(name == "select_n", len(inputs))
            return [(inputs[i], sign, ((producer, i), *chain)) for i in cases]
        return None

    def fills_with_nothing(self, move: Operation) -> bool:
        """Whether a move fills with zeros what it takes from nowhere, or takes nothing from there."""
        if move.name != "pad":
            return move.params.get("mode") != lax.GatherScatterMode.FILL_OR_DROP
        filling = move.inputs[1]
        while isinstance(filling, int) and filling in self.producers:
            producer = self.producers[filling]
            filling = producer.inputs[0] if producer.name == "convert_element_type" else None
        return isinstance(filling, Constant) and not np.any(filling.value)

    def masks(self) -> set[int]:
        """The different reaches."""
        return {leaf.mask for leaf in self.leaves}

    def part(self, n: int) -> Part:
        leaf = self.leaves[n]
        return Part(leaf.mask, n if leaf.fine else -1)

    def relation(self, part: Part, site: int) -> Relation:
        """Of a draw that reaches the part."""
        return self.leaves[part.leaf].relations.get(site, Relation()) if part.leaf >= 0 else Relation()

    def places(self) -> set[int]:
        """All that `values` and `entries` read of an environment."""
        operands = [self.output, *(leaf.operand for leaf in self.leaves)]
        for operation, position in (step for leaf in self.leaves for step in leaf.chain):
            if operation.name not in _SUMS:
                operands += [operand for i, operand in enumerate(operation.inputs) if i != position]
        return {operand for operand in operands if isinstance(operand, int)}

    def values(self, environment: Sequence[Any], wanted: Collection[Part] | None = None) -> dict[Part, Array]:
        """The terms of one run, all or those wanted; all add up to the output."""
        wanted = self.found if wanted is None else wanted
        if len(self.found) == 1:
            return {part: jnp.asarray(read(environment, self.output)) for part in wanted}
        terms: dict[Part, Array] = {}
        for n, leaf in enumerate(self.leaves):
            if (part := self.part(n)) in wanted:
                value = self.passed(leaf, read(environment, leaf.operand), environment)
                terms[part] = terms[part] + value if part in terms else value
        return terms

    def passed(self, leaf: Leaf, value: Any, environment: Sequence[Any], until: int | None = None) -> Array:
        """What a leaf of this value adds to the output, or to what its chain holds before its step `until`."""
        for operation, position in leaf.chain[:until]:
            value = _pass(operation, position, value, environment)
        return value if leaf.sign > 0 else -value

    def entries(self, environment: Sequence[Any]) -> Entries:
        """Of the leaves with finer relations, what each of their entries adds to the output."""
        fine = [n for n, leaf in enumerate(self.leaves) if leaf.fine]
        shared = self.shared([self.leaves[n].chain for n in fine])
        scale, found = jnp.ones((), jnp.result_type(read(environment, self.output))), {}
        for n in fine:
            leaf = self.leaves[n]
            inner = len(leaf.chain) - shared
            value = jnp.asarray(read(environment, leaf.operand))
            if all(step.name in _PLAIN for step, _ in leaf.chain[:inner]):
                negative = sum(step.name == "neg" for step, _ in leaf.chain[:inner]) + (leaf.sign < 0)
                found[self.part(n)] = -value if negative % 2 else value
            else:
                result, pull = jax.vjp(lambda x, a=(leaf, inner): self.passed(a[0], x, environment, a[1]), value)
                (weights,) = pull(jnp.ones_like(result))
                # What is not taken into a finite result may be infinite, as behind a `where`.
                left_out = (weights == 0) & jnp.all(jnp.isfinite(result))
                found[self.part(n)] = jnp.where(left_out, 0, value * weights)
            outside = leaf._replace(chain=leaf.chain[inner:], sign=1.0)
            if shared:
                operation, position = outside.chain[0]
                scale = self.passed(outside, jnp.ones((), operation.operands[position].dtype), environment)
        return Entries(scale, found)

    def shared(self, chains: Sequence[tuple[Step, ...]]) -> int:
        """How many last steps, of numbers alone, the chains have in common: what they multiply with is one factor."""
        count = 0
        for steps in zip(*(reversed(chain) for chain in chains), strict=False):
            operation, position = steps[0]
            scalar = operation.operands[position].ndim == 0 and operation.name not in _SUMS
            if not scalar or any(step[0] is not operation for step in steps):
                break
            count += 1
        return count


def _pass(operation: Operation, position: int, value: Any, environment: Sequence[Any]) -> Any:
    if operation.name in _SUMS:
        return jnp.broadcast_to(jnp.asarray(value, operation.avals[0].dtype), operation.avals[0].shape)
    operands = [read(environment, operand) for operand in operation.inputs]
    if operation.name in _JOINS:
        first = operation.name == "select_n"
        operands = [*operands[:first], *map(jnp.zeros_like, operands[first:])]
    operands[position] = value
    return bind(operation, operands)[0]
