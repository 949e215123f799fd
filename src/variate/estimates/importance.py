"""Importance sampling: draws from other distributions, weighted by the ratio of the densities."""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx

from variate import checks
from variate.programs.staging import Program
from variate.programs.uniforms import Proposals


class Importance(eqx.Module):
    r"""$\hat\mu = n^{-1} \sum_i w_i f(x_i)$ with $x_i \sim q$ and $w = p(x)/q(x)$, p the program's own distribution.

    Named draws come from their proposals, all others from their own distributions; the weight is the product over draws
    (over loops and lanes too). Unbiased wherever q is positive where $p f$ is. The best q is proportional to $p |f|$;
    the wrong choice is a q with lighter tails than $p f$, under which the variance is infinite.

    Args:
        proposals: for the name of a draw, a distribution, or a function from its own distribution to one,
            `{"z": lambda p: dist.Normal(p.loc + 3, p.scale)}` say.

    Raises:
        ValueError: no draw has that name, or the proposal draws something of another shape or type.

    Source: Owen (2013), Monte Carlo theory, methods and examples, section 9.1.
    """

    given: dict[str, Any]

    def __init__(self, proposals: Mapping[str, Any]):
        for name, proposal in proposals.items():
            checks.check_name(name)
            if not callable(proposal) or isinstance(proposal, type):
                checks.check_distribution(proposal)
        self.given = dict(proposals)

    def proposals(self, program: Program) -> Proposals:
        names = {site.name for site in program.sites if site.name is not None}
        unknown = sorted(set(self.given) - names)
        if unknown:
            raise ValueError(f"proposals: no draw is called {unknown[0]!r}; those with a name are {sorted(names)}")
        return {name: _maker(proposal) for name, proposal in self.given.items()}


def _maker(proposal: Any) -> Callable[[Any], Any]:
    made = callable(proposal) and not hasattr(proposal, "log_prob")
    return proposal if made else lambda own: proposal
