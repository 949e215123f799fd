"""When chains have drawn enough: rules that are asked between blocks."""

import dataclasses
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

from variate.checks import check_positive, describe
from variate.estimates import StdErr
from variate.estimates.rules import Pair, Rule

from .draws import Draws
from .folded import Folded
from .measures import Known


class SoFar(NamedTuple):
    """What a rule may ask about: the draws, or the means of them that were not kept, and the seconds since the call."""

    draws: Draws | Folded
    seconds: float


@runtime_checkable
class Until(Protocol):
    """A rule that `vt.sample(until=...)` asks after blocks of draws, each time there are a tenth more."""

    def met(self, so_far: SoFar, /) -> bool:
        """Whether draws are enough."""
        ...


@dataclasses.dataclass(frozen=True)
class ESS(Rule):
    """Until every number has so many effective draws, by ranks and over all chains together.

    A mean is then known to 1 / sqrt(ESS) of a standard deviation. Chains that disagree have few effective draws, so
    that the rule waits for them to mix. A number that never changes in one of the chains is never enough, but for
    those that a support has as they are.

    Raises `ValueError` if the number is not positive.

    Source: Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), Bayesian Analysis 16(2), 667-718, section 4.
    """

    at_least: float | int

    def __post_init__(self) -> None:
        check_positive("at_least", self.at_least)

    def met(self, so_far: SoFar) -> bool:
        return all(np.all(n >= self.at_least) for n in jax.tree.leaves(so_far.draws.ess()))


@dataclasses.dataclass(frozen=True)
class RHat(Rule):
    """Until the R-hat of every number is below a bound, 1.01 unless given.

    Raises `ValueError` if the bound is not above one.
    """

    below: float | int = 1.01

    def __post_init__(self) -> None:
        if not self.below > 1:
            raise ValueError(f"below must be above 1, got {self.below}")

    def met(self, so_far: SoFar) -> bool:
        return all(np.all(r < self.below) for r in jax.tree.leaves(so_far.draws.rhat()))


@dataclasses.dataclass(frozen=True)
class Seconds(Rule):
    """Until so much time has passed since the call, warm-up and compilation included.

    Raises `ValueError` if it is not positive.
    """

    most: float | int

    def __post_init__(self) -> None:
        check_positive("most", self.most)

    def met(self, so_far: SoFar) -> bool:
        return so_far.seconds >= self.most


@dataclasses.dataclass(frozen=True)
class Precise(Rule):
    r"""`StdErr` for dependent draws: until every mean's standard error is within the tolerance.

    There is no confidence sequence here, and no price for looking: as the tolerance goes to zero, the interval at the
    moment of stopping covers as it should where the standard error is consistent, and a rule that cannot stop by chance
    among the first draws is all that is needed. Here no look counts below an effective sample size of 100.

    Source: Glynn and Whitt (1992), The asymptotic validity of sequential stopping rules for stochastic simulations,
    Ann. Appl. Probab. 2(1), 180-198, theorem 1.
    """

    tolerance: StdErr

    def met(self, so_far: SoFar) -> bool:
        return all(np.all(self.within(known)) for known in so_far.draws.known())

    def within(self, known: Known) -> np.ndarray:
        """Which of the means are known as well as they are to be."""
        allowed = self.tolerance.allowed(known.mean, known.sd if self.tolerance.relative_to == "sd" else 1.0)
        return np.asarray((known.stderr <= allowed) & (known.ess >= _FEWEST))


_FEWEST = 100  # effective draws
_PLENTY = 100_000  # of a chain, where a rule decides


def rule_of(until: Any) -> Until:
    """Raise TypeError unless it is a rule."""
    if isinstance(until, Pair):
        return until.map(rule_of)
    if isinstance(until, StdErr):
        return Precise(until)
    if isinstance(until, type) or not isinstance(until, Until):
        raise TypeError(f"until must be a rule, vt.ESS(400) say, got {describe(until)}")
    return until


def ends_of(until: Any, num_samples: int | None) -> tuple[Until | None, int]:
    """The rule that ends a run, if there is one, and after how many draws of each chain it ends in any case."""
    if until is None:
        return None, 1_000 if num_samples is None else num_samples
    return rule_of(until), _PLENTY if num_samples is None else num_samples
