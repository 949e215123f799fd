"""The outcomes of a run: all values together of the draws that are marginalized, each in a run of its own."""

import math
from collections.abc import Mapping, Sequence, Set
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from variate.gradients.base import Facts
from variate.gradients.plan import Plan
from variate.gradients.replays import Estimating, rerun
from variate.gradients.rules.marginalize import chosen, product
from variate.programs.dataflow import Analysis, bit
from variate.programs.program import Site


class Outcome(Estimating):
    """The handler of a run in which the marginalized draws are given, by the places of their elements."""

    def __init__(self, plan: Plan, places: Mapping[int, Array], redrawn: Array | None):
        super().__init__(plan, redrawn=redrawn)
        self.places, self.watched = places, {}

    def draw(self, site: Site, index: tuple[Array, ...], operands: Sequence[Array]) -> tuple[list[Array], Any]:
        if site.index in self.places:
            return chosen(site, self.places[site.index][index], operands)
        return super().draw(site, index, operands)[0], None


def places(draws: Mapping[int, Facts]) -> dict[int, np.ndarray]:
    """Of each element of each draw in its support, for all joint outcomes; after these the steps of loops."""
    found = {}
    supports = {i: (facts.support or 0,) * (facts.elements or 0) for i, facts in draws.items()}
    digits = [values for each in supports.values() for values in each]
    every = np.indices(digits, np.int32).reshape(len(digits), math.prod(digits)).T
    for i, facts in draws.items():
        own, every = np.split(every, [len(supports[i])], axis=1)
        steps = [loop.length or 0 for loop in facts.site.repeats]
        found[i] = own.reshape(len(own), *steps, -1)
    return found


def check_outcomes(
    draws: Mapping[int, Facts], rules: Mapping[int, Any], contributing: Set[int], analysis: Analysis
) -> None:
    """Raise where marginalized draws have too many outcomes, or where what contributes by itself depends on them."""
    if not draws:
        return
    labels = [facts.site.label for facts in draws.values()]
    limit = max(rules[i].limit for i in draws)
    if (outcomes := math.prod((one.support or 0) ** (one.elements or 0) for one in draws.values())) > limit:
        raise ValueError(
            f"rules: the draws {labels} have {outcomes} outcomes together, more than Marginalize(limit={limit})"
        )
    together = sum(bit(i) for i in draws)
    for i in contributing - draws.keys():
        site = analysis.draws[i].site
        assert site is not None
        branch = any(loop.kind == "cond" for loop in site.loops)
        if branch or any(flow.reach & together for flow in analysis.operands[i]):
            why = "is inside a branch" if branch else "depends on them"
            raise ValueError(
                f"rules: Marginalize cannot serve the draws {labels}: the draw {site.label!r} {why} and has the rule "
                f"{type(rules[i]).__name__}. Name Marginalize for it too, or a rule by which it takes its path."
            )


def means(plan: Plan, inputs: Sequence[Any], redrawn: Array | None) -> list[Array]:
    r"""$\sum_k p(k) f(k)$ of each output over the outcomes of the marginalized draws."""
    again = [jax.random.clone(inputs[0]), *inputs[1:]]  # every outcome uses the run's key once more, on purpose

    def one(places: Mapping[int, Array]) -> tuple[Array, list[Array]]:
        outputs, records = rerun(plan, again, Outcome(plan, places, redrawn))
        return product([records[i] for i in places]), outputs

    probabilities, results = jax.vmap(one)({i: jnp.asarray(each) for i, each in plan.places.items()})
    return [jnp.tensordot(probabilities.astype(result.dtype), result, axes=1) for result in results]
