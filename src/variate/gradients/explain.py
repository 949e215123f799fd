"""`explain`: for each draw of a program the rule that its gradient uses, why, and how much noise it brings."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from variate import checks, trees
from variate.gradients.base import Rule
from variate.gradients.samples import sampled
from variate.gradients.staged import Derivation, Request, derive
from variate.gradients.tables import Tabular, name_of
from variate.gradients.transform import value_and_grad
from variate.programs.dataflow import bit
from variate.programs.generator import run_keys
from variate.programs.program import Operation
from variate.programs.relations import Relation
from variate.programs.source import position, short
from variate.programs.stoppers import stopper
from variate.programs.terms import Terms


@dataclass(frozen=True)
class Row:
    """What there is to say of one draw."""

    draw: str
    distribution: str
    rule: str
    why: str
    biased: bool
    reaches: str
    share: float | None  # of the gradient's variance; None where it was not measured


@dataclass(frozen=True)
class Explanation(Tabular):
    """A table, a row a draw; prints as text, shows as HTML in a notebook.

    `share` is the part of the gradient's variance that is left when all draws but this one are held: the total-effect
    index of Sobol' (1993), from a pilot. Draws that act together have shares that add up to more than one.
    """

    rows: tuple[Row, ...]
    bias: str | None
    num_samples: int

    header: ClassVar = ("draw", "distribution", "rule", "why", "biased", "reaches", "share")

    @property
    def biased(self) -> bool:
        """Whether the gradient as a whole is biased."""
        return self.bias is not None or any(row.biased for row in self.rows)

    def cells(self) -> list[list[str]]:
        """The table's body."""
        return [
            [
                row.draw,
                row.distribution,
                row.rule,
                row.why,
                "yes" if row.biased else "no",
                row.reaches,
                "" if row.share is None else f"{row.share:.0%}",
            ]
            for row in self.rows
        ]

    @property
    def caption(self) -> str:
        where = f" {self.bias}." if self.bias else ""
        bias = f"biased:{where}" if self.biased else "unbiased"
        return f"the gradient is {bias}; shares of its variance from a pilot of {self.num_samples} samples"


# Beyond this many draws their shares are not measured: each takes a run of its own in the compiled pilot.
_MEASURED = 16


def explain(
    f: Callable[..., Any],
    argnums: int | Sequence[int] = 1,
    *,
    num_samples: int = 256,
    rules: Mapping[str, Rule] | None = None,
) -> Callable[..., Explanation]:
    """Explain the gradient that `vt.grad` would take of `f` with these `argnums` and `rules`.

    Returns a function of `(key, *args)` whose result prints as a table: each draw by name or source line, its
    distribution, its rule and why, whether it is biased, which of the additive terms of the result it reaches, and its
    share of the gradient's variance in a pilot of `num_samples`. A named rule that would be biased is shown as such and
    not refused. Raises what `vt.grad` raises otherwise.
    """
    gradient = value_and_grad(f, argnums, num_samples=num_samples, rules=rules, allow_bias=True, block_size=num_samples)

    def explained(key: Any, *args: Any) -> Explanation:
        gradient.check(key, args)
        numbers, static = trees.split((gradient.f, args))
        checks.check_hashable(static.leaves)
        derivation = derive(gradient.request, static, key, numbers)
        shares = _shares(gradient.request, static, key, numbers) if num_samples > 1 else {}
        return Explanation(tuple(_rows(derivation, shares)), derivation.choice.bias, num_samples)

    return explained


def _rows(derivation: Derivation, shares: Mapping[int, Any]) -> list[Row]:
    program, flows, relations = derivation.plan.program, derivation.flows, derivation.relations
    every = sum(bit(i) for i, rule in derivation.plan.rules.items() if rule is not None)
    terms = [Terms(program, output, flows, every, relations) for output in program.outputs[: derivation.plan.outputs]]
    masks = sorted(set().union(*(each.masks() for each in terms)))
    rows = []
    for site in program.sites:
        rule, choice = derivation.plan.rules[site.index], derivation.choice
        reached = [i + 1 for i, mask in enumerate(masks) if mask & bit(site.index)]
        place = short(site.source)
        share = shares.get(site.index)
        rows.append(
            Row(
                draw=f"{site.name} ({place})" if site.name else place,
                distribution=site.distribution,
                rule="none needed" if rule is None else name_of(rule),
                why=choice.biases.get(site.index, choice.reasons[site.index]),
                biased=site.index in choice.biases,
                reaches=f"{len(reached)} of {len(masks)} terms{_credit(derivation, site.index)}" if rule else "",
                share=None if share is None else float(share),
            )
        )
    return rows


def _credit(derivation: Derivation, site: int) -> str:
    """How finely the terms are charged to the elements of a draw, and what stands in the way of telling them apart."""
    if site not in derivation.shapes or derivation.relations is None:
        return ""
    words = []
    for terms in derivation.plan.terms:
        for leaf in (leaf for leaf in terms.leaves if leaf.mask & bit(site)):
            charged = leaf.relations.get(site, Relation())
            found = derivation.relations[leaf.operand].get(site) if isinstance(leaf.operand, int) else None
            by = found.stopped if found else None
            if by and by.name == "scan":
                by = stopper(derivation.plan.program, leaf.operand, by)
            where = f": {_what(by)} at {short(position(by.equation, by.caller))}" if by else ""
            if found and found.links and not charged.links:
                where = ": the entries of an array are each charged to all elements"
            words.append(f"{charged.word}{where}")
    return ", " + ", ".join(dict.fromkeys(words))


def _what(by: Operation) -> str:
    if by.name in ("add", "reduce_sum", "sub") and jnp.issubdtype(by.avals[0].dtype, jnp.integer):
        return f"`{by.name}` of integers that may overflow (add them up as reals)"
    if by.name == "slice" and by.equation.primitive.name == "scan":  # of what the steps of a recurrence multiply by
        return "`scan` that multiplies what it carries by what is drawn"
    return f"`{by.name}`"


@functools.partial(jax.jit, static_argnums=(0, 1))
def _shares(request: Request, static: trees.Static, key: Any, numbers: list[Any]) -> dict[int, Any]:
    """The total-effect index of each draw: half the mean squared change of the gradient when it alone is redrawn."""
    derivation = derive(request, static, key, numbers)
    sites = [site.index for site in derivation.plan.program.sites]
    if len(sites) > _MEASURED:
        return {}
    args = trees.join(numbers, static)[1]
    keys = run_keys(key, jnp.arange(request.num_samples))

    def gradients(redrawn: Any) -> list[Any]:
        return sampled(derivation, numbers, args, jax.random.clone(keys), redrawn).gradients

    # The first redraws nothing; one program serves all.
    every = jax.lax.map(gradients, jnp.asarray([-1, *sites]))

    def share(n: int) -> Any:
        pairs = [jnp.stack([rows[0], rows[n]]) for rows in every]
        changes = sum(jnp.mean((pair[0] - pair[1]) ** 2, axis=0).sum() for pair in pairs) / 2
        total = sum(jnp.var(pair, axis=(0, 1)).sum() for pair in pairs)
        # Both are estimates: what is all of the variance may come out as a little more.
        return jnp.where(total > 0, jnp.minimum(changes / jnp.where(total > 0, total, 1), 1), jnp.zeros_like(total))

    return {site: share(n + 1) for n, site in enumerate(sites)}
