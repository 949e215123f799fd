"""Staging: a function to a `Program`, the flat list of operations that every analysis and every run reads."""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from variate.programs.factors import factor_p
from variate.programs.jaxprs import called
from variate.programs.primitive import draw_p
from variate.programs.program import Call, Constant, Factor, Loop, Operand, Operation, Program, Site, needed

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


class _Builder:
    """Writes one program; nested bodies get builders of their own and share the numbering of the draws."""

    def __init__(self, numbers: Iterator[int], loops: tuple[Loop, ...], whole: bool):
        self.numbers, self.loops, self.whole = numbers, loops, whole
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

        for equation in jaxpr.eqns:
            inputs = _read(environment, equation.invars)
            body = _body(equation)
            if body is not None:
                start = len(self.operations)
                outputs = self.inline(body.jaxpr, body.consts, inputs, caller or equation)
                inside = tuple(self.operations[start:])
                self.calls.append(Call(equation, tuple(inputs), tuple(outputs), inside, caller))
            else:
                outputs = self.append(equation, inputs, caller)
            environment.update(zip(equation.outvars, outputs, strict=True))
        return _read(environment, jaxpr.outvars)

    def append(self, equation: JaxprEqn, inputs: list[Operand], caller: JaxprEqn | None) -> list[Operand]:
        params = equation.params
        outputs = [self.place() for _ in equation.outvars]
        site, factor, bodies = None, None, ()
        if equation.primitive is draw_p:
            own = ("structure", "lanes", "event", "rule", "name", "source")
            site = Site(next(self.numbers), loops=self.loops, **{key: params[key] for key in own})
            self.binary.update(outputs if site.binary else ())
        elif equation.primitive is factor_p:
            own = ("structure", "tree", "lanes", "name", "source", "branches")
            factor = Factor(next(self.numbers), loops=self.loops, **{key: params[key] for key in own})
        elif inner := _bodies(equation):
            loop = Loop(equation.primitive.name, params.get("length"))
            bodies = tuple(self.body(loop, jaxpr, caller) for jaxpr in inner)
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
                factor,
            )
        )
        return list(outputs)

    def body(self, loop: Loop, jaxpr: ClosedJaxpr, caller: JaxprEqn | None) -> Program:
        return _Builder(self.numbers, (*self.loops, loop), self.whole).program(jaxpr, caller)

    def program(self, jaxpr: ClosedJaxpr, caller: JaxprEqn | None = None) -> Program:
        inputs = [self.place() for _ in jaxpr.jaxpr.invars]
        outputs = self.inline(jaxpr.jaxpr, jaxpr.consts, inputs, caller)
        operations = needed(self.operations, outputs, self.whole)
        sites = [site for op in operations for site in op.sites]
        factors = [factor for op in operations for factor in op.factors]
        constants, calls = tuple(self.constants), tuple(self.calls)
        return Program(tuple(inputs), constants, operations, tuple(outputs), self.size, sites, calls, factors)


def _read(environment: Mapping[Any, Operand], atoms: Sequence[Any]) -> list[Operand]:
    return [Constant(atom.val) if isinstance(atom, Literal) else environment[atom] for atom in atoms]


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
    if name not in _LOOPS and any(has_draw(inner) for inner in called(equation)):
        raise TypeError(f"a draw or a factor inside `{name}` cannot be followed: move it out")
    found = [equation.params[key] for key in _LOOPS.get(name, ())]
    return [_closed(body) for entry in found for body in (entry if isinstance(entry, tuple) else (entry,))]


def has_draw(jaxpr: Jaxpr) -> bool:
    """Whether a jaxpr draws or weighs the run, at any depth."""
    return any(
        equation.primitive in (draw_p, factor_p) or any(has_draw(inner) for inner in called(equation))
        for equation in jaxpr.eqns
    )


def stage(function: Callable, *args: Any) -> tuple[Program, Any]:
    """The program that `function` runs on arguments like these, and the shapes of its result.

    `args` may hold arrays, tracers, avals or `jax.ShapeDtypeStruct`s; only their shapes and types matter.

    Raises:
        TypeError: the program weighs its runs, which most that is done with a program would ignore in silence.
    """
    program, shape = _staged(function, args, whole=False)
    for factor in program.factors:
        raise TypeError(
            f"the {factor.kind} {factor.label!r} ({factor.source}) weighs the runs of this program, and the weight "
            "would be ignored here: vt.condition(model, ...) makes a target for samplers of it, vt.density(model) its "
            "joint log density"
        )
    return program, shape


def stage_whole(function: Callable, *args: Any) -> tuple[Program, Any]:
    """`stage` with every draw, also those that nobody reads, for those who know what to do with what weighs a run."""
    return _staged(function, args, whole=True)


def traced(function: Callable, *args: Any) -> ClosedJaxpr:
    """What `program_of` makes a program of. Traced here, so that branches around the call are not the program's."""
    return jax.make_jaxpr(function)(*args)


def _staged(function: Callable, args: tuple[Any, ...], whole: bool) -> tuple[Program, Any]:
    jaxpr, shape = jax.make_jaxpr(function, return_shape=True)(*args)
    return program_of(jaxpr, whole), shape


def program_of(jaxpr: ClosedJaxpr, whole: bool = False) -> Program:
    """The program that was traced to this."""
    return _Builder(iter(range(2**31)), (), whole).program(jaxpr)
