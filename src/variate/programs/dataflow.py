"""Dataflow: what each value of a program depends on, and where a derivative is lost, before anything runs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from variate.programs import continuity, signs, smoothness
from variate.programs.interpretation import bind
from variate.programs.program import Constant, Operand, Operation, Program, scan_parts
from variate.programs.source import position
from variate.programs.staging import stage

# Sets of draws and of the sources of derivatives are bit masks: a union is one operation however many draws there are.
ARGUMENT = 1  # the arguments, as a source of derivatives


def bit(site: int) -> int:
    """A draw, as a source and as a member of a reach."""
    return 2 << site


def members(mask: int) -> list[int]:
    """The draws in a mask."""
    return [site for site in range(mask.bit_length() - 1) if mask >> (site + 1) & 1]


@dataclass(frozen=True)
class Break:
    """Where a derivative is lost: a discontinuity, or an operation that is not understood."""

    operation: str
    source: str
    why: str = ""

    def __str__(self) -> str:
        return f"`{self.operation}`{self.why} at {self.source}"


@dataclass(frozen=True)
class Flow:
    """What is known of one value.

    `reach`: the draws that it depends on. `tangent`: the sources whose derivatives JAX carries to it. `broken`: the
    sources on which it depends through a discontinuity. `random`: whether it varies continuously from run to run.
    `sign`: the signs that it may take.
    """

    reach: int = 0
    tangent: int = 0
    broken: int = 0
    random: bool = False
    sign: int = signs.ANY


NOTHING = Flow()


def join(flows: Iterable[Flow]) -> Flow:
    """What is known of a value that may be any of these; with its sign apart, of one that is made of all of them."""
    reach = tangent = broken = sign = 0
    random = False
    for flow in flows:
        reach |= flow.reach
        tangent |= flow.tangent
        broken |= flow.broken
        random |= flow.random
        sign |= flow.sign
    return Flow(reach, tangent, broken, random, sign or signs.ANY)


def settled(flow: Flow) -> Flow:
    """Some fixed sign, though unknown, for what does not pass through zero at a place that a derivative moves."""
    if flow.random and flow.tangent:
        return flow
    return replace(flow, sign=signs.REGULAR | (signs.NONZERO if flow.sign & signs.ANY == signs.ANY else flow.sign))


class Analysis:
    """The flows of one program.

    Args:
        program: the staged program.
        inputs: the flow of each of its inputs.
        order: derivatives up to this order will be taken; from 2 on a kink counts as a break.
        relaxed: the discrete draws which derivatives pass, for those who find the place of their relaxation.
    """

    def __init__(self, program: Program, inputs: Sequence[Flow], order: int = 1, relaxed: frozenset[int] = frozenset()):
        self.order, self.relaxed = order, relaxed
        self.draws: dict[int, Operation] = {}
        self.operands: dict[int, list[Flow]] = {}  # of each draw: its key and its distribution's arrays
        self.breaks: dict[int, list[Break]] = {}  # of each source, by its bit
        self.loops: dict[int, Flow] = {}  # what goes round in each `while`, by the identity of its operation
        self.program = program
        self.environment = self.follow(program, [settled(flow) for flow in inputs])
        self.outputs = [self.read(self.environment, output) for output in program.outputs]

    @staticmethod
    def read(environment: Sequence[Flow], operand: Operand) -> Flow:
        return Flow(sign=signs.of_number(operand.value)) if isinstance(operand, Constant) else environment[operand]

    def follow(self, program: Program, inputs: Sequence[Flow]) -> list[Flow]:
        environment = [NOTHING] * program.size
        for place, value in program.constants:
            environment[place] = Flow(sign=signs.of_number(value))
        for place, flow in zip(program.inputs, inputs, strict=True):
            environment[place] = flow
        producers: dict[int, Operation] = {}
        for operation in program.operations:
            flows = [self.read(environment, operand) for operand in operation.inputs]
            outputs = self.outputs_of(operation, flows, producers)
            for place, flow in zip(operation.outputs, outputs, strict=True):
                environment[place] = flow
                producers[place] = operation
        return environment

    def body(self, program: Program, inputs: Sequence[Flow]) -> list[Flow]:
        environment = self.follow(program, inputs)
        return [self.read(environment, output) for output in program.outputs]

    def outputs_of(self, operation: Operation, flows: list[Flow], producers: Mapping[int, Operation]) -> list[Flow]:
        if operation.site is not None:
            flow, values = self.drawn(operation, flows), len(operation.site.event.leaves)
            # Weights of values, which a relaxed draw gives besides, are not below zero and sum to one.
            weights = replace(flow, sign=signs.POSITIVE)
            return [flow if n < values else weights for n in range(len(operation.outputs))]
        if operation.bodies:
            method = getattr(self, f"_{operation.name}", None)
            outputs = method(operation, flows) if method else self.body(operation.bodies[0], flows)
        elif operation.name in smoothness.ORDERED:
            outputs = self.ordered(operation, flows)
        else:
            outputs = [self.simple(operation, flows, producers)] * len(operation.outputs)
        return [
            flow if not flow.tangent or jnp.issubdtype(aval.dtype, jnp.inexact) else self.lose(flow, operation)
            for flow, aval in zip(outputs, operation.avals, strict=True)
        ]

    def drawn(self, operation: Operation, flows: list[Flow]) -> Flow:
        site = operation.site
        assert site is not None
        seen = self.operands.get(site.index, [NOTHING] * len(flows))
        self.draws[site.index] = operation
        self.operands[site.index] = [join(pair) for pair in zip(seen, flows, strict=True)]
        real = [jnp.issubdtype(aval.dtype, jnp.inexact) for aval in operation.operands]
        flow = join(flow if each else self.lose(flow, operation) for flow, each in zip(flows, real, strict=True))
        continuous = all(jnp.issubdtype(aval.dtype, jnp.inexact) for aval in operation.avals)
        own = bit(site.index)
        moving = own * (continuous or site.index in self.relaxed)
        sign = signs.of_draw(operation)
        return Flow(flow.reach | own, moving, flow.broken, flow.random or bool(moving), sign)

    def simple(self, operation: Operation, flows: list[Flow], producers: Mapping[int, Operation]) -> Flow:
        name, each = operation.name, [flow.sign for flow in flows]
        flow = settled(replace(join(flows), sign=signs.of(operation, each)))
        if name in smoothness.SOURCES:
            flow = settled(replace(flow, random=True))
        if name == "select_n":
            return self.choice(operation, flows, producers)
        if continuity.answer(operation) is not None:
            return replace(flow, tangent=0, broken=0)
        if not flow.tangent:
            return flow
        if name in smoothness.CUT and any(jnp.issubdtype(aval.dtype, jnp.complexfloating) for aval in operation.avals):
            return self.lose(flow, operation, ", which has a branch cut,")
        divisors = [flows[i] for i in signs.poles(operation, each) if flows[i].random]
        if divisors:
            flow = join([flow, self.lose(join(divisors), operation, ", which divides by what may pass through zero,")])
        if name in smoothness.SMOOTH or (name in smoothness.KINKED and self.order == 1):
            return flow
        if name in smoothness.CUTS:
            return replace(flow, tangent=0)
        return self.lose(flow, operation)

    def choice(self, operation: Operation, flows: list[Flow], producers: Mapping[int, Operation]) -> Flow:
        """`select_n`: the break is in its predicate, the derivative in its cases."""
        predicate, *cases = flows
        which = operation.inputs[0]
        answer = continuity.answer(producers.get(which)) if isinstance(which, int) else None
        if answer is not None:
            return cases[answer]
        if (
            predicate.broken
            and isinstance(which, int)
            and self.order == 1
            and continuity.agrees_at_switch(operation, producers)
        ):
            predicate = replace(predicate, broken=0)
            self.forgive(producers[which])
        return replace(join([predicate, *cases]), sign=join(cases).sign)

    def ordered(self, operation: Operation, flows: list[Flow]) -> list[Flow]:
        """Results of which some change continuously with what orders them and the rest jumps."""
        keys = join(flows[: operation.params.get("num_keys", 1)])
        jumping = self.lose(keys, operation) if self.order > 1 or len(operation.outputs) > 1 else keys
        if operation.name == "sort":
            first = [flows[0] if self.order == 1 else jumping]
            return first + [join([flow, jumping]) for flow in flows[1:]]
        values = [len(aval.shape) < len(operation.operands[0].shape) for aval in operation.avals]
        return [replace(keys, sign=signs.ANY) if smooth and self.order == 1 else jumping for smooth in values]

    def lose(self, flow: Flow, operation: Operation, why: str = "") -> Flow:
        """The flow behind an operation that carries no derivative on."""
        # An argument alone meets a discontinuity with probability zero; one that random values shift does not.
        lost = flow.tangent if flow.random else flow.tangent & ~ARGUMENT
        new = lost & ~flow.broken
        if new:
            where = Break(operation.name, position(operation.equation, operation.caller), why)
            for source in [ARGUMENT] * (new & ARGUMENT) + [bit(site) for site in members(new)]:
                known = self.breaks.setdefault(source, [])
                known.extend([where] * (where not in known))
        return replace(flow, tangent=0, broken=flow.broken | lost)

    def forgive(self, comparison: Operation) -> None:
        """Name the breaks of a comparison that turned out to decide between equals last: it may decide others too."""
        where = Break(comparison.name, position(comparison.equation, comparison.caller))
        for known in self.breaks.values():
            if where in known:
                known.remove(where)
                known.append(where)

    def _custom_jvp_call(self, operation: Operation, flows: list[Flow]) -> list[Flow]:
        """A function with a derivative of its own: from the second order on that one has to be smooth, not its body."""
        if self.order == 1:
            return self.body(operation.bodies[0], flows)
        shapes = (operation.operands, operation.operands)
        program, _ = stage(lambda primals, tangents: jax.jvp(_function(operation), primals, tangents)[1], *shapes)
        tangents = [replace(flow, sign=signs.ANY) for flow in flows]
        derivative = Analysis(program, [*flows, *tangents], self.order - 1)
        for source, where in derivative.breaks.items():
            self.breaks.setdefault(source, []).extend(where)
        return derivative.outputs

    def _scan(self, operation: Operation, flows: list[Flow]) -> list[Flow]:
        constants, carried = scan_parts(operation)
        stop = constants + carried
        return self.fixed_point(operation.bodies[0], flows[:constants], flows[constants:stop], flows[stop:])

    def fixed_point(
        self, body: Program, consts: Sequence[Flow], carry: Sequence[Flow], xs: Sequence[Flow]
    ) -> list[Flow]:
        """Flows after any number of steps of a loop."""
        while True:
            outputs = self.body(body, [*consts, *carry, *xs])
            following = [join(pair) for pair in zip(carry, outputs, strict=False)]
            if following == list(carry):
                return outputs
            carry = following

    def _while(self, operation: Operation, flows: list[Flow]) -> list[Flow]:
        condition, body = operation.bodies
        split = operation.params["cond_nconsts"], operation.params["cond_nconsts"] + operation.params["body_nconsts"]
        outputs = self.fixed_point(body, flows[split[0] : split[1]], flows[split[1] :], [])
        carry = [join(pair) for pair in zip(flows[split[1] :], outputs, strict=True)]
        (stop,) = self.body(condition, [*flows[: split[0]], *carry])
        self.loops[id(operation)] = join(carry)
        # Reverse mode cannot pass a loop of unknown length, so a draw cannot be differentiated by its path there.
        return [self.lose(join([flow, stop]), operation) for flow in carry]

    def _cond(self, operation: Operation, flows: list[Flow]) -> list[Flow]:
        which, *rest = flows
        cases = [self.body(body, rest) for body in operation.bodies]
        return [replace(join([which, *case]), sign=join(case).sign) for case in zip(*cases, strict=True)]


def _function(operation: Operation) -> Callable[..., list[Any]]:
    return lambda *inputs: list(bind(operation, inputs))
