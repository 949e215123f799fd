"""What a staged function is: a flat list of operations over an environment, draws and bodies of loops among them."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
from jax.extend.core import JaxprEqn

from variate.programs.primitive import Event, Lane
from variate.programs.source import short
from variate.programs.structure import Structure


@dataclass(frozen=True, eq=False)
class Constant:
    """An operand whose value, which may be an array, is written in the program."""

    value: Any


Operand = int | Constant  # an integer is the place of a value in the program's environment


@dataclass(frozen=True)
class Loop:
    """A loop or a branch around a draw: JAX's name of it, and how often its body runs where that is known."""

    kind: str
    length: int | None


@dataclass(frozen=True)
class Site:
    """A `draw` in a program's text; in a loop or under `vmap` it stands for many draws."""

    index: int
    structure: Structure
    lanes: tuple[Lane, ...]
    event: Event
    rule: Any
    name: str | None
    source: str
    loops: tuple["Loop", ...]  # the loops and branches around it, outermost first
    values: tuple[Any, ...] = ()  # of a relaxed draw: those that its weights stand for

    @property
    def label(self) -> str:
        """What messages call this draw."""
        return self.name or short(self.source)

    @property
    def repeats(self) -> list["Loop"]:
        """The loops around it, branches left out: those whose bodies run again."""
        return [loop for loop in self.loops if loop.kind in ("scan", "while")]

    @property
    def empty(self) -> bool:
        """Whether nothing is drawn: no element, no lane or no step."""
        counts = [*(lane.size for lane in self.lanes), *(loop.length for loop in self.loops)]
        return 0 in counts or all(0 in shape for shape, _ in self.event.leaves)

    @property
    def binary(self) -> bool:
        """Whether it draws zeros and ones that NumPyro makes integers of."""
        return self.distribution in ("BernoulliLogits", "BernoulliProbs")

    @property
    def distribution(self) -> str:
        return self.structure.treedef.unflatten(self.structure.leaves).__class__.__name__


@dataclass(frozen=True)
class Factor:
    """A `factor` or an `observe` in a program's text; it weighs the run, and has no result.

    `structure`: the observed distribution, None for a bare log weight. `tree`: of the observed value, whose leaves come
    first among the operands.
    """

    index: int
    structure: Structure | None
    tree: Any
    lanes: tuple[Lane, ...]
    name: str | None
    source: str
    branches: int  # how many it was written in
    loops: tuple["Loop", ...]

    @property
    def kind(self) -> str:
        return "factor" if self.structure is None else "observation"

    @property
    def label(self) -> str:
        """What messages call it."""
        return self.name or short(self.source)


@dataclass(frozen=True)
class Operation:
    """One step: `outputs = primitive(*inputs)`; loops, branches and opaque calls have bodies."""

    primitive: Any
    params: dict[str, Any]
    inputs: tuple[Operand, ...]
    outputs: tuple[int, ...]
    operands: tuple[Any, ...]  # avals of the inputs
    avals: tuple[Any, ...]  # of the outputs
    equation: JaxprEqn
    caller: JaxprEqn | None  # the call that it was written in place of, outermost
    bodies: tuple["Program", ...] = ()
    site: Site | None = None
    from_binary: bool = False  # whether it reads a draw of zeros and ones directly
    factor: Factor | None = None

    @functools.cached_property
    def name(self) -> str:
        return self.primitive.name

    @functools.cached_property
    def gives_more(self) -> bool:
        """Whether it has outputs that JAX's own operation has not, so that its bodies are to be run."""
        return bool(self.bodies) and len(self.outputs) > len(self.equation.outvars)

    @functools.cached_property
    def sites(self) -> list[Site]:
        """Every draw in this operation."""
        inside = [site for body in self.bodies for site in body.sites]
        return [self.site, *inside] if self.site else inside

    @functools.cached_property
    def factors(self) -> list[Factor]:
        """Everything in this operation that weighs the run."""
        inside = [factor for body in self.bodies for factor in body.factors]
        return [self.factor, *inside] if self.factor else inside


@dataclass(frozen=True)
class Call:
    """A `jit` in a program's text, in whose place its operations were written."""

    equation: JaxprEqn
    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    operations: tuple[Operation, ...]  # its own and those of the calls inside it
    caller: JaxprEqn | None


@dataclass(frozen=True)
class Program:
    """Operations in order over an environment of `size` places."""

    inputs: tuple[int, ...]
    constants: tuple[tuple[int, Any], ...]
    operations: tuple[Operation, ...]
    outputs: tuple[Operand, ...]
    size: int
    sites: list[Site] = field(default_factory=list)
    calls: tuple[Call, ...] = ()  # those inside others first
    factors: list[Factor] = field(default_factory=list)


def every_operation(program: Program) -> list[Operation]:
    """Those of a program and of the bodies inside it."""
    nested = [inner for op in program.operations for body in op.bodies for inner in every_operation(body)]
    return [*program.operations, *nested]


def every_constant(program: Program) -> list[Any]:
    """The values written in a program and in the bodies inside it."""
    bodies = [body for op in program.operations for body in op.bodies]
    written = [x.value for op in program.operations for x in op.inputs if isinstance(x, Constant)]
    inside = [value for body in bodies for value in every_constant(body)]
    return [*(value for _, value in program.constants), *written, *inside]


def scan_parts(operation: Operation) -> tuple[int, int]:
    """How many of the inputs of a scan are constants, and how many are carried."""
    params = operation.params
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    constants, carried, _ = params["ft_in"].unpack()  # from JAX 0.11 on
    return len(constants), len(carried)


def one_lane(draw: Operation) -> list[jax.ShapeDtypeStruct]:
    """Shapes of the operands of a draw before `vmap` added lanes."""
    assert draw.site is not None
    shapes = []
    for position, aval in enumerate(draw.operands):
        shape = list(aval.shape)
        for lane in reversed(draw.site.lanes):
            axis = lane.axes[position]
            if axis is not None:
                del shape[axis]
        weak = getattr(aval, "weak_type", False)
        shapes.append(jax.ShapeDtypeStruct(tuple(shape), aval.dtype, weak_type=weak))
    return shapes


def needed(operations: Sequence[Operation], outputs: Sequence[Operand], whole: bool = False) -> tuple[Operation, ...]:
    """The operations that an output, a weight or a side effect needs; a draw that nobody reads only if `whole`."""
    live = {output for output in outputs if isinstance(output, int)}
    found = []
    for operation in reversed(operations):
        kept = operation.equation.effects or operation.factors or (whole and operation.sites)
        if kept or not live.isdisjoint(operation.outputs):
            live.update(place for place in operation.inputs if isinstance(place, int))
            found.append(operation)
    return tuple(reversed(found))
