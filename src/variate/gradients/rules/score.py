"""Score function: the derivative of the log probability weighs the cost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Array

from variate.gradients.base import Facts, fixed_sample
from variate.gradients.rules.baseline import Baseline
from variate.programs.program import Site
from variate.programs.simulation import log_prob


@dataclass(frozen=True)
class Score:
    r"""$\nabla_\theta E f(x) = E\,(f(x) - b)\,\nabla_\theta \log p_\theta(x)$.

    Serves any distribution whose support stays where it is, over any program. A draw's log probability weighs only
    those terms of the result that it reaches. The wrong choice where `Pathwise` is legal, or where `Enumerate` is
    affordable: both have less variance.

    Args:
        baseline: $b$: `LeaveOneOut()`, `NoBaseline()`, `Linear`, `Learned`, `Given`, `MovingAverage`, `Optimal`, or a
            function of the arguments of the program (the key left out) that returns a number; left out, leave-one-out
            with two samples or more.

    Source: Glynn (1990); Williams (1992); any order by Foerster et al. (2018), the DiCE construction, with the baseline
    of Mao et al. (2019).
    """

    baseline: Baseline | Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        known = self.baseline is None or isinstance(self.baseline, Baseline) or callable(self.baseline)
        if not known or isinstance(self.baseline, type):
            what = f"the class {self.baseline.__name__} itself" if isinstance(self.baseline, type) else self.baseline
            raise TypeError(f"baseline: expected a baseline, LeaveOneOut() say, or a function, got {what}")

    def refuse(self, facts: Facts) -> str | None:
        if not facts.normalized:
            return "its log_prob is not normalised, as its class says"
        return self.refuse_score(facts)

    def refuse_score(self, facts: Facts) -> str | None:
        """Why a score, of whatever density, cannot serve that draw."""
        if isinstance(self.baseline, Baseline) and (reason := self.baseline.refuse(facts)):
            return reason
        if facts.edges:
            return "its parameters move its support, and the score function misses what enters and leaves at the edge"
        if facts.shared_key:
            return facts.shared_key
        if facts.order > 1 and facts.unbounded:
            return "it is inside a while_loop, which reverse mode cannot pass: only its first derivative is available"
        if facts.kinks:
            return f"its log probability has a kink in its parameters: {facts.kinks[0]}"
        return None

    def bias(self, facts: Facts) -> str | None:
        return None

    def draw(self, site: Site, operands: Sequence[Array]) -> tuple[list[Array], Any]:
        values = fixed_sample(site, operands)
        return values, log_prob(site, values, operands)
