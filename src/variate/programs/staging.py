"""Staging: a function to a `Program`, the flat list of operations that every analysis and every run reads."""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from variate.programs.primitive import Event, Lane, draw_p
from variate.programs.source import short
from variate.programs.structure import Structure

# Calls without meaning of their own: their bodies become part of the caller. Those that own a derivative or a memory
# policy stay whole unless they contain a draw, which has to be seen.
_TRANSPARENT = {"jit", "pjit", "closed_call", "core_call"}
_CALLS = {"custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr", "remat2": "jaxpr", "checkpoint": "jaxpr"}
# They give every part of one operand, as unpacking does from JAX 0.12 on, and are written as what gives one part each.
_PARTS: dict[str, Callable[..., Any]] = {
    "split": lambda x, sizes, axis: [
        lax.slice_in_dim(x, stop - size, stop, axis=axis)
        for size, stop in zip(sizes, itertools.accumulate(sizes), strict=True)
    ],
    "unstack": lambda x, axis: [lax.index_in_dim(x, i, axis, keepdims=False) for i in range(x.shape[axis])],
}
_LOOPS = {"scan": ("jaxpr",), "while": ("cond_jaxpr", "body_jaxpr"), "cond": ("branches",)}


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
    def binary(self) -> bool:
        """Whether it draws zeros and ones that NumPyro makes integers of."""
        return self.distribution in ("BernoulliLogits", "BernoulliProbs")

    @property
    def distribution(self) -> str:
        return self.structure.treedef.unflatten(self.structure.leaves).__class__.__name__


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

    @property
    def name(self) -> str:
        return self.primitive.name

    @property
    def sites(self) -> list[Site]:
        """Every draw in this operation."""
        inside = [site for body in self.bodies for site in body.sites]
        return [self.site, *inside] if self.site else inside


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


def every_operation(program: Program) -> list[Operation]:
    """Those of a program and of the bodies inside it."""
    nested = [inner for op in program.operations for body in op.bodies for inner in every_operation(body)]
    return [*program.operations, *nested]


class _Builder:
    """Writes one program; nested bodies get builders of their own and share the numbering of the draws."""

    def __init__(self, numbers: Iterator[int], loops: tuple[Loop, ...]):
        self.numbers, self.loops = numbers, loops
        self.size, self.operations, self.constants, self.calls, self.binary = 0, [], [], [], set()

    def place(self) -> int:
        self.size += 1
        return self.size - 1

    def inline(
        self, jaxpr: Jaxpr, consts: Sequence[Any], operands: Sequence[Operand], caller: JaxprEqn | None
    ) -> list[Operand]:
        """Append the equations of a jaxpr, reading its inputs from `operands`."""
        environment: dict[Any, Operand] = dict(zip(jaxpr.invars, operands, strict=True))
        for variable, value in zip(jaxpr.constvars, consts, strict=True):
            environment[variable] = self.place()
            self.constants.append((environment[variable], value))

        def read(atom: Any) -> Operand:
            return Constant(atom.val) if isinstance(atom, Literal) else environment[atom]

        for equation in jaxpr.eqns:
            inputs = [read(atom) for atom in equation.invars]
            body = _body(equation)
            if body is not None:
                start = len(self.operations)
                outputs = self.inline(body.jaxpr, body.consts, inputs, caller or equation)
                inside = tuple(self.operations[start:])
                self.calls.append(Call(equation, tuple(inputs), tuple(outputs), inside, caller))
            else:
                outputs = self.append(equation, inputs, caller)
            environment.update(zip(equation.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def append(self, equation: JaxprEqn, inputs: list[Operand], caller: JaxprEqn | None) -> list[Operand]:
        params = equation.params
        outputs = [self.place() for _ in equation.outvars]
        site, bodies = None, ()
        if equation.primitive is draw_p:
            own = ("structure", "lanes", "event", "rule", "name", "source")
            site = Site(next(self.numbers), loops=self.loops, **{key: params[key] for key in own})
            self.binary.update(outputs if site.binary else ())
        else:
            loop = Loop(equation.primitive.name, params.get("length"))
            bodies = tuple(self.body(loop, jaxpr, caller) for jaxpr in _bodies(equation))
        operands = tuple(atom.aval for atom in equation.invars)
        avals = tuple(variable.aval for variable in equation.outvars)
        primitive = equation.primitive
        from_binary = any(isinstance(operand, int) and operand in self.binary for operand in inputs[:1])
        self.operations.append(
            Operation(
                primitive,
                params,
                tuple(inputs),
                tuple(outputs),
                operands,
                avals,
                equation,
                caller,
                bodies,
                site,
                from_binary,
            )
        )
        return list(outputs)

    def body(self, loop: Loop, jaxpr: ClosedJaxpr, caller: JaxprEqn | None) -> Program:
        return _Builder(self.numbers, (*self.loops, loop)).program(jaxpr, caller)

    def program(self, jaxpr: ClosedJaxpr, caller: JaxprEqn | None = None) -> Program:
        inputs = [self.place() for _ in jaxpr.jaxpr.invars]
        outputs = self.inline(jaxpr.jaxpr, jaxpr.consts, inputs, caller)
        operations = needed(self.operations, outputs)
        sites = [site for op in operations for site in op.sites]
        return Program(
            tuple(inputs), tuple(self.constants), operations, tuple(outputs), self.size, sites, tuple(self.calls)
        )


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


def _closed(jaxpr: Any) -> ClosedJaxpr:
    return jaxpr if isinstance(jaxpr, ClosedJaxpr) else ClosedJaxpr(jaxpr, ())


def _body(equation: JaxprEqn) -> ClosedJaxpr | None:
    """The body to write in place of a call, if it is one that adds nothing."""
    name = equation.primitive.name
    if name in _TRANSPARENT:
        return _closed(equation.params.get("jaxpr", equation.params.get("call_jaxpr")))
    if name in _PARTS:
        return jax.make_jaxpr(functools.partial(_PARTS[name], **equation.params))(equation.invars[0].aval)
    if name.startswith("custom_") and name in _CALLS:
        # A rule for the derivative of a random function says how one run moves, not how the expectation moves.
        body = _closed(equation.params[_CALLS[name]])
        return body if has_draw(body.jaxpr) else None
    return None


def _bodies(equation: JaxprEqn) -> list[ClosedJaxpr]:
    name = equation.primitive.name
    if name in _CALLS:
        return [_closed(equation.params[_CALLS[name]])]
    if name not in _LOOPS and any(has_draw(inner) for inner in _jaxprs(equation)):
        raise TypeError(f"a draw inside `{name}` cannot be followed: move the draw out of it")
    found = [equation.params[key] for key in _LOOPS.get(name, ())]
    return [_closed(body) for entry in found for body in (entry if isinstance(entry, tuple) else (entry,))]


def _jaxprs(equation: JaxprEqn) -> Iterator[Jaxpr]:
    """Every jaxpr among the parameters of an equation."""
    for value in equation.params.values():
        for entry in value if isinstance(value, tuple | list) else (value,):
            if isinstance(entry, ClosedJaxpr):
                yield entry.jaxpr
            elif isinstance(entry, Jaxpr):
                yield entry


def has_draw(jaxpr: Jaxpr) -> bool:
    """Whether a jaxpr draws, at any depth."""
    return any(
        equation.primitive is draw_p or any(has_draw(inner) for inner in _jaxprs(equation)) for equation in jaxpr.eqns
    )


def needed(operations: Sequence[Operation], outputs: Sequence[Operand]) -> tuple[Operation, ...]:
    """The operations that an output or a side effect needs; a draw that nobody reads is not among them."""
    live = {output for output in outputs if isinstance(output, int)}
    found = []
    for operation in reversed(operations):
        if operation.equation.effects or not live.isdisjoint(operation.outputs):
            live.update(place for place in operation.inputs if isinstance(place, int))
            found.append(operation)
    return tuple(reversed(found))


def stage(function: Callable, *args: Any) -> tuple[Program, Any]:
    """The program that `function` runs on arguments like these, and the shapes of its result.

    `args` may hold arrays, tracers, avals or `jax.ShapeDtypeStruct`s; only their shapes and types matter.
    """
    jaxpr, shape = jax.make_jaxpr(function, return_shape=True)(*args)
    return _Builder(iter(range(2**31)), ()).program(jaxpr), shape
