r"""The surrogate: a function of one run whose derivatives, of every order, are unbiased.

With $m_i = p_\theta(x_i) / \mathrm{stop}(p_\theta(x_i))$, which is one, $f \prod_i m_i = f + \sum_i f\,(m_i - 1)
\prod_{j<i} m_j$: a draw owns one summand. `Score` subtracts a baseline in it, `Enumerate` takes its expectation over
$x_i$, and the terms of $f$ that $x_i$ does not reach drop out of it. (DiCE: Foerster et al. 2018.)
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from variate.gradients import outcomes, replays, watching
from variate.gradients.base import Alternatives, Replay
from variate.gradients.credit import charged
from variate.gradients.plan import Group, Plan
from variate.gradients.rules.baseline import Baseline, from_arguments
from variate.gradients.rules.marginalize import Marginalize
from variate.gradients.rules.rebar import Control, Controlled
from variate.gradients.rules.score import Score
from variate.programs.interpretation import evaluate, read


class Run(NamedTuple):
    """What one run leaves for the surrogate; to the first order, charges are only multiplied with."""

    outputs: list[Array]  # where draws are marginalized, their means over these
    charges: list[list[Array]]  # of each group, for each output: the part of it that the group reaches
    seen: list[list[list[Array]]]  # of each group, for each output: what its baseline looks at, by charge
    log_probs: dict[int, Array]  # of each scored draw, summed as far as it may be; of each replayed one, by element
    # Of each replayed draw, its contribution to each output, by element; that of all marginalized ones, by the first.
    replayed: dict[int, list[Array]]


def run(plan: Plan, inputs: Sequence[Any], redrawn: Array | None = None) -> tuple[Run, list[Any]]:
    """One run of the program: what the surrogate needs, and the auxiliary outputs.

    `redrawn` is the index of a draw that is to take another value than the keys say, all others kept.
    """
    environment, records = evaluate(plan.program, inputs, replays.Estimating(plan, redrawn=redrawn))
    outputs = [jnp.asarray(read(environment, output)) for output in plan.program.outputs]
    found, auxiliary = outputs[: plan.outputs], outputs[plan.outputs :]
    means, log_probs, replayed = found, {}, {}
    for group in plan.groups:
        if isinstance(group.rule, Marginalize):
            means = outcomes.means(plan, inputs, redrawn)
            if plan.order == 1:
                continue
            pairs = zip(means, found, strict=True)
            replayed[group.sites[0]] = [replays.excess(mean - own)[None] for mean, own in pairs]
        for site in group.sites:
            record = environment[plan.computed[site]] if site in plan.computed else records.get(site)
            if isinstance(record, Alternatives):
                log_probs[site] = record.log_prob.reshape(-1)
                replayed[site] = replays.replay(plan, inputs, site, record, redrawn, found)
            elif isinstance(record, Controlled):
                log_probs[site] = record.log_prob.reshape(-1)
                replayed[site] = replays.controlled(plan, inputs, site, record, redrawn, found)
            elif record is not None:
                credit = plan.credits.get(site)
                log_probs[site] = jnp.sum(record) if credit is None else credit.summed(record, 0)
    charges = charges_of(plan, environment)
    named = {name: records[n] for name, n in plan.watched.items()}
    seen = [watching.seen(g, own, named, plan.program, found) for g, own in zip(plan.groups, charges, strict=True)]
    return Run(means, charges, seen, log_probs, replayed), auxiliary


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
        if isinstance(group.rule, Marginalize) and plan.order == 1:
            continue  # the outputs are its means, and to the first order no draw weighs these
        if isinstance(group.rule, Replay | Control):
            own = replays.excess(_of_elements(group, run))
            earlier = _product(plan, before.astype(own.dtype) + jnp.cumsum(own) - own)
            if isinstance(group.rule, Marginalize):
                earlier = replays.excess(earlier)  # the outputs have what is not weighed by draws before
            for i, part in enumerate(run.replayed[group.sites[0]]):
                weights = earlier.reshape(-1, *(1,) * totals[i].ndim).astype(part.dtype)
                totals[i] = totals[i] + jnp.sum(weights * part, axis=0)
            before = before + jnp.sum(own).astype(before.dtype)
        else:
            pieces = [replays.excess(run.log_probs[site]).astype(before.dtype) for site in group.sites]
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


def _of_elements(group: Group, run: Run) -> Array:
    """The log probabilities of what is replayed: of the elements of a draw, or of marginalized draws together."""
    if isinstance(group.rule, Marginalize):
        return functools.reduce(jnp.add, [run.log_probs[site] for site in group.sites])[None]
    (site,) = group.sites
    return run.log_probs[site]


def _product(plan: Plan, log: Array) -> Array:
    """The product of the m_j with this logarithm; to the first order it is one."""
    return jnp.ones_like(log) if plan.order == 1 else jnp.exp(log)


def baselines(plan: Plan, runs: Run, args: Sequence[Any]) -> list[list[Array] | None]:
    """The baseline of every group for every sample, from a batch of runs."""
    runs = lax.stop_gradient(runs)
    found: list[list[Array] | None] = []
    for group, charges, seen in zip(plan.groups, runs.charges, runs.seen, strict=True):
        kind = group.rule.baseline if isinstance(group.rule, Score) else None
        if isinstance(kind, Baseline):
            values = [kind.values(charge, features, args) for charge, features in zip(charges, seen, strict=True)]
        elif callable(kind):
            values = [from_arguments(kind, charge, args) for charge in charges]
        else:
            values = []
        known = [lax.stop_gradient(value) for value in values if value is not None]
        found.append(known or None)
    return found
