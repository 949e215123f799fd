"""Summation: the density of a program without its finite discrete draws, whose values are all taken along."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float
from numpyro.distributions import constraints

from variate.programs.densities import Joint, Piece, Reading, Weighing, as_values, joint_from
from variate.programs.interpretation import CONTROL, bind, read
from variate.programs.program import Operation, Program, Site, every_operation, scan_parts
from variate.programs.summable import MOST, carried
from variate.programs.supports import support_before


def summed_joint(
    program: Program,
    numbers: Sequence[Any],
    given: Mapping[int, list[Array]],
    reading: Reading,
    summed: Mapping[int, np.ndarray],
) -> Joint:
    r"""The joint density where `given` stands for the other draws, $\log \sum_k p(x, k)$ over all values k of these.

    The program is run in worlds side by side, one for each value so far, and each world has its weight. A scan is run
    by the forward algorithm: its worlds are the values of the last step, for nothing that it carries depends on others.

    Raises `TypeError` where that is not so, where the support of another draw depends on these, and where there would
    be more than 4,096 worlds.

    Source: Rabiner (1989), A tutorial on hidden Markov models and selected applications in speech recognition, Proc.
    IEEE 77(2), 257-286, equations 19-21.
    """
    inputs = [jax.random.key(0), *numbers]
    found = Worlds(summed, Weighing(given, reading)).run(program, inputs, [False] * len(inputs), jnp.zeros(1))
    return joint_from(program, found.pieces, _log_sum(found.log_weights, 0), omitted=summed.keys())


@dataclass(frozen=True)
class Run:
    """Outputs, those that differ from world to world having an axis of worlds, the weights, and what made them."""

    outputs: list[Any]
    split: list[bool]
    log_weights: Float[Array, " worlds"]
    pieces: dict[int, Piece]


@dataclass(frozen=True)
class Worlds:
    """Runs a program in worlds that part at each of the draws that are summed out."""

    summed: Mapping[int, np.ndarray]
    handler: Weighing

    def run(
        self, program: Program, inputs: Sequence[Any], split: Sequence[bool], log_weights: Float[Array, " worlds"]
    ) -> Run:
        environment: list[Any] = [None] * program.size
        for place, value in (*program.constants, *zip(program.inputs, inputs, strict=True)):
            environment[place] = value
        apart = {place for place, parts in zip(program.inputs, split, strict=True) if parts}
        pieces: dict[int, Piece] = {}
        last = _last_read(program)
        for number, operation in enumerate(program.operations):
            operands = [read(environment, operand) for operand in operation.inputs]
            parted = [operand in apart for operand in operation.inputs]
            wanted = [last.get(place, -1) > number for place in operation.outputs]
            found = self._once(operation, operands, parted, log_weights, wanted)
            times = len(found.log_weights) // len(log_weights)
            if times > 1:
                _check_count(operation, len(found.log_weights))
                for place in apart:
                    environment[place] = jnp.repeat(environment[place], times, axis=0)
            log_weights, pieces = found.log_weights, {**pieces, **found.pieces}
            for place, value, parts in zip(operation.outputs, found.outputs, found.split, strict=True):
                environment[place] = value
                if parts:
                    apart.add(place)
        outputs = [read(environment, output) for output in program.outputs]
        return Run(outputs, [output in apart for output in program.outputs], log_weights, pieces)

    def _once(
        self, operation: Operation, operands: list[Any], parted: list[bool], log_weights: Array, wanted: list[bool]
    ) -> Run:
        if operation.sites or operation.factors:
            operands = [jnp.asarray(operand) for operand in operands]
        if operation.site is not None and operation.site.index in self.summed:
            return self._part(operation.site, operands, parted, log_weights)
        if any(site.index in self.summed for site in operation.sites):
            return self._forward(operation, operands, parted, log_weights, wanted)
        outputs, pieces = _in_worlds(lambda *operands: self._plain(operation, operands), parted)(*operands)
        split = [any(parted)] * len(outputs)
        if any(parted):
            for draw in (operation, *(inner for body in operation.bodies for inner in every_operation(body))):
                _check_support(draw)
        if operation.site is not None and any(parted):
            outputs, split = [x[0] for x in outputs], [False]  # it is given, the same in all worlds
        log_weights, pieces = _weighed(log_weights, pieces, any(parted))
        return Run(list(outputs), split, log_weights, pieces)

    def _plain(self, operation: Operation, operands: Sequence[Any]) -> tuple[list[Any], dict[int, Piece]]:
        """In one world."""
        if operation.site is not None:
            outputs, piece = self.handler.draw(operation.site, (), operands)
            return outputs, {operation.site.index: piece}
        if operation.factor is not None:
            return [], {operation.factor.index: self.handler.weigh(operation.factor, operands)}
        if operation.sites or operation.factors:
            return CONTROL[operation.name](operation, list(operands), self.handler, ())
        return list(bind(operation, operands)), {}

    def _part(self, site: Site, operands: list[Any], parted: list[bool], log_weights: Array) -> Run:
        values = jnp.asarray(self.summed[site.index])

        def weights(*operands: Any) -> Piece:
            def weight(value: Array) -> Piece:
                return Weighing({site.index: [value]}, as_values).draw(site, (), operands)[1]

            return jax.vmap(weight)(values)

        piece = _in_worlds(weights, parted)(*operands)
        each = piece.log_density.reshape(*piece.log_density.shape[: 1 + any(parted)], -1).sum(-1)
        together = (log_weights[:, None] + each.reshape(-1, len(values))).ravel()
        outputs = jnp.tile(values, (len(log_weights), *[1] * (values.ndim - 1)))
        return Run([outputs], [True], together, {site.index: Piece(jnp.max(each), jnp.max(piece.invalid))})

    def _forward(
        self, scan: Operation, operands: list[Any], parted: list[bool], log_weights: Array, wanted: list[bool]
    ) -> Run:
        flags = carried(scan, self.summed)
        found = _in_worlds(lambda *operands: self._scan(scan, operands, flags), parted)(*operands)
        outputs, messages, pieces = found
        worlds, already = len(log_weights), any(parted)
        flags = [*flags, *[False] * (len(outputs) - len(flags))]
        messages = jnp.broadcast_to(messages, (worlds, messages.shape[-1]))
        pieces = _reduced(pieces, already)
        if not any(flag and asked for flag, asked in zip(flags, wanted, strict=True)):
            # Nobody asks in which world it ended.
            first = (slice(None), 0) if already else 0
            outputs = [x[first] if flag else x for x, flag in zip(outputs, flags, strict=True)]
            return Run(outputs, [already] * len(outputs), log_weights + _log_sum(messages, -1), pieces)

        def spread(x: Array, flag: bool) -> Array:
            if not flag:
                return jnp.repeat(x, messages.shape[-1], axis=0) if already else x
            x = x if already else jnp.broadcast_to(x, (worlds, *x.shape))
            return x.reshape(-1, *x.shape[2:])

        outputs = [spread(x, flag) for x, flag in zip(outputs, flags, strict=True)]
        return Run(outputs, [already or flag for flag in flags], (log_weights[:, None] + messages).ravel(), pieces)

    def _scan(self, scan: Operation, operands: Sequence[Any], flags: list[bool]) -> tuple[list, Array, dict]:
        """Outputs, the log weights of the worlds of the last step, and pieces; carries that differ have their axis."""
        (constants, carries), (body,) = scan_parts(scan), scan.bodies
        consts, init, xs = operands[:constants], operands[constants:][:carries], list(operands[constants + carries :])
        own, at_step = self.handler.stepped(body)
        split = [*[False] * constants, *flags, *[False] * len(xs)]

        def once(carry: list[Any], log_weights: Array, xs: Sequence[Any], own: Any) -> Run:
            return Worlds(self.summed, at_step(own)).run(body, [*consts, *carry, *xs], split, log_weights)

        def step(state: tuple[list[Any], Array], at: tuple[Sequence[Any], Any]) -> tuple[tuple, tuple]:
            found = once(*state, *at)
            after, ys = found.outputs[:carries], found.outputs[carries:]
            # Worlds that differ in steps before the last one are one.
            together = found.log_weights.reshape(len(state[1]), -1) if any(flags) else found.log_weights[:, None]

            def last(x: Array, parts: bool) -> Array:
                x = x.reshape(*together.shape, *x.shape[1:])[0] if parts else x
                return x if parts else jnp.broadcast_to(x, (together.shape[1], *x.shape))

            which = zip(after, flags, found.split, strict=False)
            after = [last(x, parts) if flag else x for x, flag, parts in which]
            return (after, _log_sum(together, 0)), (ys, found.pieces)

        count = 1
        if any(flags):
            first = [x[None] if flag else x for x, flag in zip(init, flags, strict=True)]

            def weights(at: Any) -> Array:
                return once(first, jnp.zeros(1), *jax.tree.map(lambda x: x[0], at)).log_weights

            (count,) = jax.eval_shape(weights, (xs, own)).shape
        begun = [jnp.broadcast_to(x, (count, *x.shape)) if flag else x for x, flag in zip(init, flags, strict=True)]
        alone = jnp.where(jnp.arange(count) == 0, 0.0, -jnp.inf)  # before the first step there is one world
        options = {name: scan.params[name] for name in ("reverse", "unroll", "length")}
        (carry, log_weights), (ys, pieces) = lax.scan(step, (begun, alone), (xs, own), **options)
        return [*carry, *ys], log_weights, pieces


def _in_worlds(function: Any, parted: list[bool]) -> Any:
    """Mapped over the worlds of those operands that have an axis of them."""
    return jax.vmap(function, tuple(0 if parts else None for parts in parted)) if any(parted) else function


def _weighed(log_weights: Array, pieces: dict[int, Piece], parted: bool) -> tuple[Array, dict[int, Piece]]:
    for piece in pieces.values():
        each = piece.log_density
        log_weights = log_weights + (each.reshape(len(log_weights), -1).sum(-1) if parted else jnp.sum(each))
    return log_weights, _reduced(pieces, parted)


def _reduced(pieces: dict[int, Piece], parted: bool) -> dict[int, Piece]:
    """Of the world in which the density is largest; values are those of all."""
    if not parted:
        return pieces
    return {
        index: Piece(jnp.max(p.log_density, 0), jnp.max(p.invalid, 0), jax.tree.map(lambda x: x[0], p.values))
        for index, p in pieces.items()
    }


def _last_read(program: Program) -> dict[Any, int]:
    """By which operation each place is read last, by number; the outputs are read after all."""
    places = {place: number for number, op in enumerate(program.operations) for place in op.inputs}
    return places | dict.fromkeys(program.outputs, len(program.operations))


def _log_sum(x: Array, axis: int) -> Array:
    """Of worlds that cannot be, minus infinity without a derivative that is NaN."""
    most = lax.stop_gradient(jnp.max(x, axis, keepdims=True))
    most = jnp.where(jnp.isfinite(most), most, 0)
    total = jnp.sum(jnp.exp(x - most), axis)
    return jnp.where(total == 0, -jnp.inf, jnp.log(jnp.where(total == 0, 1, total)) + jnp.squeeze(most, axis))


def _check_count(operation: Operation, count: int) -> None:
    if count > MOST:
        labels = ", ".join(repr(site.label) for site in operation.sites)
        raise TypeError(
            f"the draw {labels} cannot be summed out: with those before it there would be {count} values, and {MOST} "
            "are the most"
        )


def _check_support(draw: Operation) -> None:
    site = draw.site
    if site is not None and type(support_before(draw)) is type(constraints.dependent):
        raise TypeError(
            f"the draw {site.label!r} ({site.source}) depends on a discrete draw that is to be summed out, and so may "
            "its support, for it is not known before the run"
        )
