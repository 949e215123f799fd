"""Covariance: the score of a density that is known up to a constant."""

from dataclasses import dataclass, field

from variate.gradients.base import Facts
from variate.gradients.rules.baseline import Baseline, LeaveOneOut
from variate.gradients.rules.score import Score


@dataclass(frozen=True)
class Covariance(Score):
    r"""$\nabla_\theta E f(x) = \mathrm{Cov}(f(x), \nabla_\theta \log q_\theta(x))$ for $x \sim q_\theta / Z_\theta$.

    $\nabla_\theta \log Z_\theta = E\,\nabla_\theta \log q_\theta$ is never computed: with leave-one-out,
    $\frac{1}{S} \sum_s (f_s - \frac{1}{S-1} \sum_{r \ne s} f_r) \nabla_\theta \log q_\theta(x_s)$ is the sample
    covariance, so whatever all samples share drops out. Serves distributions of one's own whose class says
    `normalized = False`, where `log_prob` is $\log q$; for them it is chosen unasked. `sample` has to be exact. Refused
    where the distribution depends on other random numbers, as $Z$ would differ from sample to sample, and in a branch.
    The wrong choice where $Z$ is known, as `Score` knows what each element reaches.

    Source: the derivative of an exponential family's mean; as a gradient of unnormalised models Hinton (2002), eq. 3.
    """

    baseline: Baseline = field(default=LeaveOneOut(), init=False)

    def refuse(self, facts: Facts) -> str | None:
        if facts.normalized:
            return "its log_prob is normalised"
        if facts.linked:
            return "its constant depends on other random numbers and is not known"
        if any(loop.kind == "cond" for loop in facts.site.loops):
            return "it is in a branch, and a run that takes another says nothing of its constant"
        if facts.order > 1:
            return "only its first derivative is available"
        return self.refuse_score(facts)
