"""The plan of a gradient: a staged program, the rule of each of its draws, and what each is charged with."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from variate.gradients.base import Replay, Rule
from variate.gradients.credit import Credit
from variate.gradients.rules.baseline import Optimal
from variate.gradients.rules.marginalize import Marginalize
from variate.gradients.rules.rebar import Control
from variate.gradients.rules.score import Score
from variate.programs.dataflow import bit
from variate.programs.program import Program
from variate.programs.terms import Terms


class Group(NamedTuple):
    """Draws, one after the other in the program, that reach the same terms under the same rule; or all marginalized."""

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
    watched: dict[str, int]  # the named values that baselines look at, and the numbers of their records
    places: Mapping[int, np.ndarray]  # of the marginalized draws: where in their supports their elements are
    arguments: Callable[[Sequence[Any]], Any]  # what the program was called with, of its inputs but the key

    @property
    def optimal(self) -> list[Group]:
        """The groups whose baseline is taken off the gradients of samples, which it needs one by one."""
        return [g for g in self.groups if isinstance(g.rule, Score) and isinstance(g.rule.baseline, Optimal)]


def group(rules: dict[int, Rule | None], terms: list[Terms], credits: dict[int, Credit]) -> list[Group]:
    """The draws that contribute, in the order of the program, those alike together."""
    masks = sorted(set().union(*(each.masks() for each in terms)))
    sites = [site for site in sorted(rules) if isinstance(rules[site], Score | Replay | Control)]
    # No other draw that contributes depends on a marginalized one: they may all stand where the last of them does.
    together = [site for site in sites if isinstance(rules[site], Marginalize)]
    sites = sorted(sites, key=lambda site: together[-1] if site in together else site)

    def kind(site: int) -> Any:
        if site in together:
            return Marginalize
        rule, reached = rules[site], tuple(bool(bit(site) & mask) for mask in masks)
        return (rule, reached) if isinstance(rule, Score) and site not in credits else (site, rule, reached)

    return [Group(tuple(members), rules[members[0]]) for _, found in groupby(sites, kind) if (members := list(found))]
