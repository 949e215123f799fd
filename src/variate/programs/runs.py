"""One run of a program as an estimate wants it: draws made of given uniforms or proposals, and what they tell."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from variate.programs import distributions
from variate.programs.defensive import Defensive
from variate.programs.interpretation import Records, evaluate, read
from variate.programs.primitive import over_lanes, sample_leaves
from variate.programs.program import Operation, Program, Site
from variate.programs.simulation import log_prob
from variate.programs.uniforms import Proposals, from_uniforms
from variate.programs.validity import count_invalid, while_summing


class Run(NamedTuple):
    """A run: its outputs, how often each draw met parameters out of range, and what was asked for of its draws.

    `log_prob`: of the values that were fixed. `log_weight`: the log density of the draws over that of the proposals in
    their place. `draws`: values by name, of those that were made; `absent` says why others have none. `scores`: by the
    index of the draw, the derivatives of its log probability in the operands asked for. `beside`: by name, what a
    proposal that has `beside(value)` says of its draws, summed over them. `uniforms`: what draws were made of.
    """

    outputs: list[Array]
    invalid: dict[int, Int[Array, ""]]
    log_prob: Float[Array, ""]
    log_weight: Float[Array, ""]
    draws: dict[str, Any]
    scores: dict[int, list[Array]]
    beside: dict[str, Any]
    absent: Mapping[str, str] = MappingProxyType({})
    uniforms: Float[Array, " d"] | None = None


@dataclass(frozen=True)
class Wishes:
    """What a run does besides drawing: proposals by name, draws to be kept by name, operands to take scores in.

    `own`: whether the run takes the program's own distributions in place of all proposals; its weight is the same.
    `means`: draws in whose place their law's mean stands. `uniforms`: whether draws are to be made of uniforms, where
    they can be.
    """

    proposals: Proposals = field(default_factory=dict)
    kept: frozenset[str] = frozenset()
    scores: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    means: frozenset[int] = frozenset()
    uniforms: bool = False
    own: Bool[Array, ""] | None = None


class _Record(NamedTuple):
    invalid: Int[Array, ""]
    log_prob: Float[Array, ""] | None
    log_weight: Float[Array, ""] | None
    values: list[Array] | None
    scores: list[Array] | None
    beside: Any


def run_with(
    program: Program,
    inputs: Sequence[Any],
    uniforms: Mapping[int, Array],
    wishes: Wishes,
    fixed: Mapping[int, Array] = MappingProxyType({}),
) -> Run:
    """A run in which these draws are made of these uniforms, those are fixed, and all others are made of their keys."""
    environment, records = evaluate(program, inputs, _Drawing(uniforms, wishes, fixed))
    sites = {site.index: site for site in program.sites}
    chances = [jnp.sum(r.log_prob) for r in records.values() if r.log_prob is not None]
    weights = [jnp.sum(r.log_weight) for r in records.values() if r.log_weight is not None]
    trees = {i: sites[i].event.tree for i in records}
    draws = {sites[i].name: jax.tree.unflatten(trees[i], r.values) for i, r in records.items() if r.values is not None}
    return Run(
        [jnp.asarray(read(environment, output)) for output in program.outputs],
        {i: jnp.sum(r.invalid) for i, r in records.items()},
        sum(chances, jnp.zeros((), float)),
        sum(weights, jnp.zeros((), float)),
        {name: value for name, value in draws.items() if name is not None},
        {i: r.scores for i, r in records.items() if r.scores is not None},
        {sites[i].name or "": _total(r.beside, r.log_weight.ndim) for i, r in records.items() if r.beside is not None},
    )


class _Drawing:
    def __init__(self, uniforms: Mapping[int, Array], wishes: Wishes, fixed: Mapping[int, Array]):
        self.uniforms, self.wishes, self.fixed = uniforms, wishes, fixed

    def draw(self, site: Site, index: tuple[Array, ...], operands: Sequence[Array]) -> tuple[list[Array], Any]:
        if site.index in self.fixed or site.index in self.wishes.means:
            value = self.fixed.get(site.index)
            values = [_mean(site, operands) if value is None else value]
            chance = None if value is None else _log_probability(site, value, operands)
            return values, _Record(count_invalid(site, operands), chance, None, None, None, None)
        proposal = self.wishes.proposals.get(site.name) if site.name is not None else None
        uniforms = self.uniforms.get(site.index)
        given = None if uniforms is None else uniforms[index]
        values, (log_weight, beside) = _drawn(site, proposal, self.wishes.own, given, operands)
        wanted = self.wishes.scores.get(site.index)
        return values, _Record(
            count_invalid(site, operands),
            None,
            log_weight,
            values if site.name in self.wishes.kept else None,
            _scores(site, values, operands, wanted) if wanted else None,
            beside,
        )

    def loop(self, run: Any, operation: Operation, inputs: list[Array]) -> tuple[list[Array], Records]:
        return while_summing(run, operation, inputs)


def _drawn(
    site: Site,
    proposal: Callable[[Any], Any] | None,
    own: Bool[Array, ""] | None,
    uniforms: Array | None,
    operands: Sequence[Array],
) -> tuple[list[Array], tuple[Array | None, Any]]:
    """The value of a draw, by how much its log density exceeds the proposal's, and what that has to say beside it."""
    if proposal is None and uniforms is None:
        return sample_leaves(site.structure, site.lanes)(*operands), (None, None)

    def one(*inputs: Array) -> tuple[list[Array], tuple[Array, Any]]:
        *given, key = inputs[: len(inputs) - len(operands) + 1]
        target = site.structure.build(inputs[len(given) + 1 :])
        source: Any = _source(site, proposal, target)
        if own is not None and proposal is not None:
            source = Defensive(source, target, own)
        value = from_uniforms(site, source, given[0]) if given else distributions.sample(source, key)
        if proposal is None:
            return [value], (jnp.zeros(()), None)
        # What was drawn from a proposal may be outside of the distribution's support, where its density is 0.
        log_ratio = distributions.supported_log_prob(target, value) - jnp.sum(distributions.log_prob(source, value))
        beside = source.beside(value) if hasattr(source, "beside") else None
        return jax.tree.leaves(value), (log_ratio.astype(float), beside)

    first = [] if uniforms is None else [uniforms]
    values, (log_ratio, beside) = over_lanes(one, site.lanes, len(first))(*first, *operands)
    lanes = tuple(range(len(site.lanes)))
    beside = jax.tree.map(lambda leaf: jnp.sum(leaf, axis=lanes), beside)
    return values, (None, None) if proposal is None else (jnp.sum(log_ratio), beside)


def _log_probability(site: Site, value: Array, operands: Sequence[Array]) -> Float[Array, ""]:
    """Of one of finitely many values, whether or not the program masks it; that of 0 and 1 is exact."""

    def one(value: Array, key: Array, *arrays: Array) -> Array:
        distribution = site.structure.build(arrays)
        support, chances = distributions.support(distribution), distributions.element_probs(distribution)
        same = value[None] == jnp.expand_dims(jnp.asarray(support), tuple(range(1, chances.ndim))).astype(value.dtype)
        return jnp.sum(jnp.log(jnp.sum(jnp.where(same, chances, 0), axis=0)))

    return jnp.sum(over_lanes(one, site.lanes, 1)(value, *operands)).astype(float)


def _mean(site: Site, operands: Sequence[Array]) -> Array:
    def one(key: Array, *arrays: Array) -> list[Array]:
        found = distributions.mean(site.structure.build(arrays))
        assert found is not None
        return [found.astype(site.event.leaves[0][1])]

    return over_lanes(one, site.lanes, 0)(*operands)[0]


def _source(site: Site, proposal: Callable[[Any], Any] | None, target: Any) -> Any:
    """What one lane draws from, which must be like the distribution of the program in what it draws."""
    if proposal is None:
        return target
    with distributions.numpyro_promotion():
        source = proposal(target)
        drawn = jax.eval_shape(source.sample, jax.random.key(0))
    like = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(drawn))
    if like != site.event.leaves:
        raise ValueError(
            f"proposals[{site.name!r}]: expected draws like those of {site.distribution}, of shape and type "
            f"{_words(site.event.leaves)}, got {_words(like)} from {type(source).__name__}"
        )
    return source


def _total(beside: Any, axes: int) -> Any:
    """Over the steps of the loops around a draw."""
    return jax.tree.map(lambda leaf: jnp.sum(leaf, axis=tuple(range(axes))), beside)


def _words(leaves: Sequence[tuple[tuple[int, ...], Any]]) -> str:
    return " and ".join(f"{shape} {jnp.dtype(dtype).name}" for shape, dtype in leaves)


def _scores(site: Site, values: list[Array], operands: Sequence[Array], wanted: tuple[int, ...]) -> list[Array]:
    def total(*moved: Array) -> Array:
        changed = list(operands)
        for position, operand in zip(wanted, moved, strict=True):
            changed[position] = operand
        return log_prob(site, values, changed)

    return list(jax.grad(total, argnums=tuple(range(len(wanted))))(*(operands[i] for i in wanted)))
