"""Importance sampling: draws from other distributions, weighted by the ratio of the densities."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from variate import checks
from variate.programs import distributions
from variate.programs.program import Program
from variate.programs.uniforms import Proposals

OWN = 1 / 8  # a power of two, so that nets of points in base 2 have exactly that share of them


class Importance(eqx.Module):
    r"""$n^{-1} \sum_i w_i f(x_i)$ with $x_i \sim \alpha p + (1 - \alpha) q$, p being the program's own distribution.

    A run makes all named draws from their proposals, or with the probability $\alpha$, `own`, all from their own
    distributions; other draws are as ever. Its weight is $w = p / (\alpha p + (1 - \alpha) q)$, with q / p the product
    over draws (over loops and lanes too). It is never above $1/\alpha$, hence $\mathrm{E}[w^2 f^2]$ at most $1/\alpha$
    times that of plain runs, and the error bar holds as theirs does wherever the proposals are. The best q is
    proportional to $p |f|$, and then `own` costs a share $\alpha$ of the runs.

    The wrong choice is `own=0`, unless q is known to be at least as wide as $p f$: runs of q alone do not tell what is
    where they never were. The mean weight is then below 1 (`Estimate.mean_weight`), which rare events make it too, so
    that no error bar can be withheld for that; it is withheld where the variance is infinite, and where weights are
    light and their mean is not 1.

    With `self_normalized` it is $\sum_i w_i f(x_i) / \sum_i w_i$; it has a bias of order 1/n. `smoothed` besides
    smooths the largest weights (`ParetoSmoothed`), of independent runs, which matters where `own` is 0.

    Args:
        proposals: for the name of a draw, a distribution, or a function from its own distribution to one,
            `{"z": lambda p: dist.Normal(p.loc + 3, p.scale)}` say.
        own: $\alpha$, the share of the runs that are the program's own; 0 leaves them out.
        self_normalized: divide by the sum of the weights instead of their number.
        smoothed: smooth the largest of the self-normalised weights.

    Raises:
        ValueError: no draw has that name, the proposal draws something of another shape or type, or is discrete where
            the draw is continuous; `own` is not in [0, 1); `smoothed` without `self_normalized` or with a design.

    Source: Owen (2013), Monte Carlo theory, methods and examples, sections 9.1 and 9.2; runs of p itself: Hesterberg
    (1995), Weighted average importance sampling and defensive mixture distributions, Technometrics 37(2), 185-194.
    """

    given: dict[str, Any]
    own: float = eqx.field(static=True)
    self_normalized: bool = eqx.field(static=True)
    smoothed: bool = eqx.field(static=True)
    regressed = False

    @property
    def defensive(self) -> float:
        return self.own

    def __init__(
        self,
        proposals: Mapping[str, Any],
        *,
        own: float | int = OWN,
        self_normalized: bool = False,
        smoothed: bool = False,
    ):
        for name, proposal in proposals.items():
            checks.check_name(name)
            check_proposal(proposal)
        self.given, self.own = dict(proposals), check_own(own)
        if smoothed and not self_normalized:
            raise ValueError("smoothed: only self-normalised weights are smoothed, for it changes what they add up to")
        self.self_normalized, self.smoothed = bool(self_normalized), bool(smoothed)

    def proposals(self, program: Program) -> Proposals:
        check_sites(program, self.given)

        def at(name: str) -> Callable[[Any], Any]:
            return lambda own: made(f"proposals[{name!r}]", maker(self.given[name]), own)

        return {name: at(name) for name in self.given}


def defended(log_weight: Float[Array, ""], share: float) -> Float[Array, ""]:
    r"""$-\log(\alpha + (1 - \alpha) q / p)$ of $\log(p / q)$, a share $\alpha$ of the runs being the program's own."""
    return -jnp.logaddexp(math.log(share), math.log1p(-share) - log_weight)


def check_own(own: Any) -> float:
    """A share that may be 0."""
    return float(own) if own == 0 else checks.check_fraction("own", own)


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


def made(words: str, proposal: Callable[[Any], Any], own: Any) -> Any:
    """The proposal, which must draw what the draw's own distribution does; `words` are what an error calls it.

    Raises `ValueError` where it draws something of another shape or type, or is discrete where the draw is not.
    """
    source = proposal(own)
    with distributions.numpyro_promotion():
        drawn = [jax.eval_shape(one.sample, jax.random.key(0)) for one in (own, source)]
    pairs = zip((own, source), drawn, strict=True)
    kinds = ["discrete" if distributions.is_discrete(*of) else "continuous" for of in pairs]
    likes = ["of shape and type " + " and ".join(map(_like, jax.tree.leaves(tree))) for tree in drawn]
    for was, came in (kinds, likes):
        if was != came:
            raise ValueError(
                f"{words}: expected draws like those of {type(own).__name__}, which are {was}, got {came} ones from "
                f"{type(source).__name__}"
            )
    return source


def _like(leaf: Any) -> str:
    return f"{leaf.shape} {leaf.dtype.name}"
