"""Importance sampling: draws from other distributions, weighted by the ratio of the densities."""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax

from variate import checks
from variate.programs import distributions
from variate.programs.program import Program
from variate.programs.uniforms import Proposals


class Importance(eqx.Module):
    r"""$\hat\mu = n^{-1} \sum_i w_i f(x_i)$ with $x_i \sim q$ and $w = p(x)/q(x)$, p the program's own distribution.

    Named draws come from their proposals, all others from their own distributions; the weight is the product over draws
    (over loops and lanes too). Unbiased wherever q is positive where $p f$ is. The best q is proportional to $p |f|$;
    the wrong choice is a q of lighter tails than $p f$, under which the variance is infinite (`Estimate.tail`), and one
    that is 0 where p is not, which no draw can tell but the mean weight, then not 1 (`Estimate.mean_weight`).

    With `self_normalized` it is $\sum_i w_i f(x_i) / \sum_i w_i$, for densities known up to a factor; it has a bias of
    order 1/n, and both q lighter than p and q lighter than $p f$ are wrong. `smoothed` besides smooths the largest
    weights (`ParetoSmoothed`), of independent runs. The error bar is withheld, NaN, where it would mean nothing.

    Args:
        proposals: for the name of a draw, a distribution, or a function from its own distribution to one,
            `{"z": lambda p: dist.Normal(p.loc + 3, p.scale)}` say.
        self_normalized: divide by the sum of the weights instead of their number.
        smoothed: smooth the largest of the self-normalised weights.

    Raises:
        ValueError: no draw has that name, the proposal draws something of another shape or type, or is discrete where
            the draw is continuous; `smoothed` without `self_normalized` or with a design.

    Source: Owen (2013), Monte Carlo theory, methods and examples, sections 9.1 and 9.2.
    """

    given: dict[str, Any]
    self_normalized: bool = eqx.field(static=True)
    smoothed: bool = eqx.field(static=True)
    regressed = False

    def __init__(self, proposals: Mapping[str, Any], *, self_normalized: bool = False, smoothed: bool = False):
        for name, proposal in proposals.items():
            checks.check_name(name)
            check_proposal(proposal)
        self.given = dict(proposals)
        if smoothed and not self_normalized:
            raise ValueError("smoothed: only self-normalised weights are smoothed, for it changes what they add up to")
        self.self_normalized, self.smoothed = bool(self_normalized), bool(smoothed)

    def proposals(self, program: Program) -> Proposals:
        check_sites(program, self.given)

        def at(name: str) -> Callable[[Any], Any]:
            return lambda own: made(name, maker(self.given[name]), own)

        return {name: at(name) for name in self.given}


def check_proposal(proposal: Any) -> None:
    """Raise unless it is a distribution or a function."""
    if not callable(proposal) or isinstance(proposal, type):
        checks.check_distribution(proposal)


def check_sites(program: Program, names: Mapping[str, Any]) -> None:
    """Raise unless there is a draw of each name."""
    known = {site.name for site in program.sites if site.name is not None}
    if unknown := sorted(set(names) - known):
        raise ValueError(f"proposals: no draw is called {unknown[0]!r}; those with a name are {sorted(known)}")


def maker(proposal: Any) -> Callable[[Any], Any]:
    """The function from a draw's own distribution to the proposal."""
    is_function = callable(proposal) and not hasattr(proposal, "log_prob")
    return proposal if is_function else lambda own: proposal


def made(name: str, proposal: Callable[[Any], Any], own: Any) -> Any:
    """The proposal, which must be discrete where the draw is."""
    source = proposal(own)
    with distributions.numpyro_promotion():
        shapes = [jax.eval_shape(one.sample, jax.random.key(0)) for one in (own, source)]
    kinds = [
        "discrete" if distributions.is_discrete(*of) else "continuous" for of in zip((own, source), shapes, strict=True)
    ]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"proposals[{name!r}]: expected draws like those of {type(own).__name__}, which are {kinds[0]}, got "
            f"{kinds[1]} ones from {type(source).__name__}"
        )
    return source
