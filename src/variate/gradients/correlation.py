"""How much the samples of a block vary together, because leave-one-out makes them each other's baselines."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from variate.gradients.base import Rule
from variate.gradients.rules.baseline import Baseline
from variate.gradients.rules.score import Score
from variate.gradients.samples import Sampled, cotangents_of, from_scores
from variate.gradients.staged import Derivation
from variate.gradients.surrogate import Run

# How many samples estimate the part of a gradient that leave-one-out correlates, which only corrects a standard error.
_CORRELATED = 4


def correlation_of(derivation: Derivation, found: Sampled, size: int) -> list[Array]:
    r"""$n (n - 1)\,\mathrm{Cov}(g_s, g_r)$ within a block of $n$ samples that are each other's baselines.

    With leave-one-out two samples share a cost each in the other's baseline, so that their covariance is
    $E[h_{sr} h_{rs}] / (n - 1)^2$, where $h_{sr}$ is the scores of $s$ weighted with the costs of $r$. Where all draws
    are charged alike, that is the squared part of the gradient that the scores contribute; estimated free of bias from
    that part alone, then held above zero.
    """
    plan = derivation.plan
    linked = [g for g in plan.groups if _is_shared(g.rule)]
    gradients = found.gradients
    if not linked or size < 2:
        return [jnp.zeros_like(gradient[0]) for gradient in gradients]
    sites = {site for group in linked for site in group.sites}
    if plan.credits:
        exchanged = from_scores(derivation, found, _exchanged(derivation, found.runs, size), sites, 2)
        return [one * other * (size / (size - 1)) for one, other in exchanged]
    if derivation.direct or len(linked) < len(plan.groups):
        few = min(size, _CORRELATED)
        cotangents = jax.tree.map(lambda x: x[:few], found.cotangents)
        gradients = from_scores(derivation, found, cotangents, sites, few)
    count = gradients[0].shape[0]

    def squared(rows: Array) -> Array:
        return jnp.maximum(jnp.mean(rows, axis=0) ** 2 - jnp.var(rows, axis=0, ddof=1) / count, 0)

    return [squared(rows) * (size / (size - 1)) for rows in gradients]


def _exchanged(derivation: Derivation, runs: Run, size: int) -> Run:
    """Cotangents of the first two samples, each charged with the costs of the other, centred by the rest."""
    plan = derivation.plan
    count, partner = 2, jnp.array([1, 0])
    first = jax.tree.map(lambda x: x[:count], runs)
    swapped = first._replace(charges=jax.tree.map(lambda x: x[partner], first.charges))
    centres: list[list[Array] | None] = []
    for costs in runs.charges:
        others = [jnp.sum(c, axis=0, keepdims=True) - c[:count] - c[partner] for c in costs]
        centres.append([total / (size - 2) if size > 2 else jnp.zeros_like(total) for total in others])
    return jax.vmap(functools.partial(cotangents_of, plan))(swapped, lax.stop_gradient(centres))


def _is_shared(rule: Rule | None) -> bool:
    """Whether samples are each other's baselines under a rule."""
    return isinstance(rule, Score) and isinstance(rule.baseline, Baseline) and rule.baseline.shared
