r"""The surrogate: a function of one run whose derivatives, of every order, are unbiased.

With $m_i = p_\theta(x_i) / \mathrm{stop}(p_\theta(x_i))$, which is one, $f \prod_i m_i = f + \sum_i f\,(m_i - 1)
\prod_{j<i} m_j$: a draw owns one summand. `Score` subtracts a baseline in it, `Enumerate` takes its expectation over
$x_i$, and the terms of $f$ that $x_i$ does not reach drop out of it. (DiCE: Foerster et al. 2018.)
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from variate.gradients import loops
from variate.gradients.base import Alternatives, Replay, Rule, fixed_sample
from variate.gradients.credit import Credit, charged
from variate.gradients.rules.pathwise import Pathwise
from variate.gradients.rules.score import LeaveOneOut, Score
from variate.programs.dataflow import bit
from variate.programs.interpretation import Records, evaluate, read
from variate.programs.simulation import element_log_probs
from variate.programs.staging import Operation, Program, Site
from variate.programs.terms import Terms


class Run(NamedTuple):
    """What one run leaves for the surrogate; to the first order, charges are only multiplied with."""

    outputs: list[Array]
    charges: list[list[Array]]  # of each group, for each output: the part of it that the group reaches
    log_probs: dict[int, Array]  # of each scored draw, summed as far as it may be; of each replayed one, by element
    replayed: dict[int, list[Array]]  # of each replayed draw, its contribution to each output, by element


class Group(NamedTuple):
    """Draws, one after the other in the program, that reach the same terms under the same rule."""

    sites: tuple[int, ...]
    rule: Rule | None


@dataclass(frozen=True)
class Plan:
    """A staged program and the rule of each of its draws."""

    program: Program
    outputs: int  # how many of the program's outputs are differentiated; the rest is auxiliary
    rules: dict[int, Rule | None]
    terms: list[Terms]
    groups: list[Group]
    order: int  # of the derivatives that will be taken
    computed: dict[int, int]  # of scored draws: where the program computes their log probability by itself
    credits: dict[int, Credit]  # of the scored draws whose elements are charged one by one


class Estimating:
    """The handler of a run that is to be differentiated."""

    def __init__(self, plan: Plan, replacing: tuple | None = None, redrawn: Array | None = None):
        self.plan, self.replacing, self.redrawn = plan, replacing, redrawn

    def draw(self, site: Site, index: tuple[Array, ...], operands: Sequence[Array]) -> tuple[list[Array], Any]:
        rule = self.plan.rules.get(site.index)
        if self.redrawn is not None:
            key = operands[0]
            operands = [jnp.where(self.redrawn == site.index, _another(key), key), *operands[1:]]
        if rule is None or site.index in self.plan.computed:
            return fixed_sample(site, operands), None
        if self.replacing is None and site.index in self.plan.credits:
            values = fixed_sample(site, operands)
            return values, self.plan.credits[site.index].summed(element_log_probs(site, values, operands), len(index))
        if self.replacing is not None:
            values = rule.draw(site, operands)[0] if isinstance(rule, Pathwise) else fixed_sample(site, operands)
            target, place, replacement = self.replacing
            if site.index == target:
                *steps, element = place
                here = jnp.all(jnp.asarray([a == b for a, b in zip(index, steps, strict=True)], bool))
                changed = _override(values, element, replacement)
                values = [jnp.where(here, new, old) for new, old in zip(changed, values, strict=True)]
            return values, None
        return rule.draw(site, operands)

    def loop(self, run: Any, operation: Operation, inputs: list[Array]) -> tuple[list[Array], Records]:
        return loops.while_with_draws(run, operation, inputs)


def _override(values: Sequence[Array], element: Array, replacement: Array) -> list[Array]:
    """A drawn value with one of its elements replaced."""
    (value,) = values
    flat = value.reshape(-1, *replacement.shape)
    return [flat.at[element].set(replacement.astype(value.dtype)).reshape(value.shape)]


def _another(key: Array) -> Array:
    """Keys of as many draws, independent of those that `key` makes."""
    flat = jax.vmap(lambda one: jax.random.fold_in(one, 1))(jax.random.clone(key).reshape(-1))
    return flat.reshape(key.shape)


def run(plan: Plan, inputs: Sequence[Any], redrawn: Array | None = None) -> tuple[Run, list[Any]]:
    """One run of the program: what the surrogate needs, and the auxiliary outputs.

    `redrawn` is the index of a draw that is to take another value than the keys say, all others kept.
    """
    environment, records = evaluate(plan.program, inputs, Estimating(plan, redrawn=redrawn))
    outputs = [jnp.asarray(read(environment, output)) for output in plan.program.outputs]
    log_probs, replayed = {}, {}
    for group in plan.groups:
        for site in group.sites:
            record = environment[plan.computed[site]] if site in plan.computed else records.get(site)
            if isinstance(record, Alternatives):
                log_probs[site] = record.log_prob.reshape(-1)
                replayed[site] = replay(plan, inputs, site, record, redrawn, outputs[: plan.outputs])
            elif record is not None:
                credit = plan.credits.get(site)
                log_probs[site] = jnp.sum(record) if credit is None else credit.summed(record, 0)
    charges = charges_of(plan, environment)
    return Run(outputs[: plan.outputs], charges, log_probs, replayed), outputs[plan.outputs :]


def replay(
    plan: Plan, inputs: Sequence[Any], site: int, record: Alternatives, redrawn: Array | None, totals: list[Array]
) -> list[Array]:
    r"""What each replayed element contributes, to each output: $\sum_k w_k (f(x_k) - f(x))$, of value zero."""
    shape = record.log_prob.shape
    again = [jax.random.clone(inputs[0]), *inputs[1:]]  # a replay uses the run's key once more, on purpose
    places = [place.reshape(-1) for place in jnp.indices(shape)]
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[len(shape) :]), record)

    def one(place: list[Array], value: Array) -> list[Array]:
        environment, _ = evaluate(plan.program, again, Estimating(plan, (site, place, value), redrawn))
        return [jnp.asarray(read(environment, output)) for output in plan.program.outputs[: plan.outputs]]

    results = jax.vmap(jax.vmap(one, (None, 0)), (0, 0))(places, flat.values)
    contributions = []
    for result, own in zip(results, totals, strict=True):
        # To the first order only the weights matter: nothing is carried back through the replays then.
        change = result - jnp.expand_dims(own, (0, 1))
        change = lax.stop_gradient(change) if plan.order == 1 else change
        weights = flat.weights.reshape(*flat.weights.shape, *(1,) * own.ndim).astype(result.dtype)
        contributions.append(jnp.sum(_excess(weights) * change, axis=1))
    return contributions


def group(rules: dict[int, Rule | None], terms: list[Terms], credits: dict[int, Credit]) -> list[Group]:
    """The draws that contribute, in the order of the program, those alike together."""
    masks = sorted(set().union(*(each.masks() for each in terms)))
    sites = [site for site in sorted(rules) if isinstance(rules[site], Score | Replay)]

    def kind(site: int) -> Any:
        rule, reached = rules[site], tuple(bool(bit(site) & mask) for mask in masks)
        return (rule, reached) if isinstance(rule, Score) and site not in credits else (site, rule, reached)

    return [Group(tuple(members), rules[members[0]]) for _, found in groupby(sites, kind) if (members := list(found))]


def charges_of(plan: Plan, environment: list[Any]) -> list[list[Array]]:
    """What each group is charged with of each output; nothing where it is not scored."""
    first = {n: group.sites[0] for n, group in enumerate(plan.groups) if isinstance(group.rule, Score)}
    if plan.order == 1:  # held fixed before they are split: none of it is differentiated
        needed = set().union(*(terms.places() for terms in plan.terms)) if first else set()
        environment = [lax.stop_gradient(x) if i in needed else None for i, x in enumerate(environment)]
    by_output = [charged(terms, list(first.values()), plan.credits, environment) for terms in plan.terms if first]
    charges: list[list[Array]] = [[] for _ in plan.groups]
    for n, of_group in zip(first, zip(*by_output, strict=True), strict=True):
        charges[n] = list(of_group)
    return charges


def surrogate(plan: Plan, run: Run, baselines: list[list[Array] | None]) -> list[Array]:
    """The outputs of a run, with the derivatives of their expectations.

    `baselines`: for each group that has one, a number for each output.
    """
    totals = list(run.outputs)
    before = jnp.zeros((), jnp.result_type(float))  # log of the product of the m_j so far: zero, its derivatives not
    for group, charges, baseline in zip(plan.groups, run.charges, baselines, strict=True):
        if isinstance(group.rule, Replay):
            (site,) = group.sites
            own = _excess(run.log_probs[site])
            earlier = _product(plan, before.astype(own.dtype) + jnp.cumsum(own) - own)
            for i, part in enumerate(run.replayed[site]):
                weights = earlier.reshape(-1, *(1,) * totals[i].ndim).astype(part.dtype)
                totals[i] = totals[i] + jnp.sum(weights * part, axis=0)
            before = before + jnp.sum(own).astype(before.dtype)
        else:
            pieces = [_excess(run.log_probs[site]).astype(before.dtype) for site in group.sites]
            own = functools.reduce(jnp.add, pieces)
            # To the first order m - 1 is log m, and what it is multiplied by is fixed.
            factor = own if plan.order == 1 else jnp.exp(before) * jnp.expm1(own)
            for i, charge in enumerate(charges):
                advantage = charge if baseline is None else charge - baseline[i]
                if totals[i].ndim:  # its entries have their own charges, which all elements share
                    totals[i] = totals[i] + jnp.sum(factor).astype(charge.dtype) * advantage
                else:
                    totals[i] = totals[i] + jnp.sum(factor.astype(charge.dtype) * advantage)
            before = before + jnp.sum(own)
    return totals


def _product(plan: Plan, log: Array) -> Array:
    """The product of the m_j with this logarithm; to the first order it is one."""
    return jnp.ones_like(log) if plan.order == 1 else jnp.exp(log)


def _excess(x: Array) -> Array:
    """Zero, with the derivatives of x."""
    return x - lax.stop_gradient(x)


def baselines(plan: Plan, runs: Run, args: Sequence[Any], samples: int) -> list[list[Array] | None]:
    """The baseline of every group for every sample, from a batch of runs."""
    runs = lax.stop_gradient(runs)
    found: list[list[Array] | None] = []
    for group, charges in zip(plan.groups, runs.charges, strict=True):
        kind = group.rule.baseline if isinstance(group.rule, Score) else None
        if isinstance(kind, LeaveOneOut):
            found.append([(jnp.sum(c, axis=0, keepdims=True) - c) / (samples - 1) for c in charges])
        elif callable(kind):
            number = lax.stop_gradient(jnp.asarray(kind(*args)))
            found.append([jnp.broadcast_to(number.astype(c.dtype), c.shape) for c in charges])
        else:
            found.append(None)
    return found
