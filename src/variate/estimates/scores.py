"""The score of the draws as control variates: derivatives of log probabilities, whose means are zero."""

import equinox as eqx
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float

from variate import checks
from variate.programs.program import Operation, Program, every_operation, one_lane
from variate.programs.runs import Run, Wishes
from variate.programs.samplers import nature

from .controlled import ControlledMoments

# Laws whose log probability, differentiated in each array that they hold, has the mean 0. Others hold the same
# parameter twice, move their support or are normalised on a simplex alone (`Categorical(probs=...)`).
_LAWS = frozenset(
    {
        dist.BernoulliLogits,
        dist.BernoulliProbs,
        dist.Beta,
        dist.BinomialLogits,
        dist.BinomialProbs,
        dist.CategoricalLogits,
        dist.Dirichlet,
        dist.Exponential,
        dist.Gamma,
        dist.GeometricLogits,
        dist.GeometricProbs,
        dist.Gumbel,
        dist.HalfNormal,
        dist.InverseGamma,
        dist.Laplace,
        dist.Logistic,
        dist.LogNormal,
        dist.MultivariateNormal,
        dist.Normal,
        dist.Poisson,
        dist.StudentT,
        dist.Weibull,
    }
)


class Scores(eqx.Module):
    r"""Controls $\partial_\theta \log p_\theta(x)$ for every draw x and every parameter $\theta$ of its distribution.

    Their mean is zero whatever the program does with the draws, so that nothing has to be known of it: for a normal
    draw they are its deviation from the mean and that of its square, for a coin its deviation. Elements of a draw are
    controls of their own up to `limit` in all, beyond it their sum is. Left out are parameters given as Python's
    numbers instead of arrays, laws other than the common ones of numbers, normal and Dirichlet vectors (their supports
    may move, or probabilities be normalised only on a simplex), and draws whose number is random. The wrong choice for
    results that are no sum of parts with one draw each, which these controls do not see.

    The field `limit` is the most controls, 64 unless it is given. Raises `ValueError` where no draw has such a
    parameter, or where there are more of them than `limit`.

    Source: the score's mean: Fisher (1925); as control variates: Ranganath, Gerrish and Blei (2014), Black box
    variational inference, section 3.2.
    """

    limit: int = eqx.field(static=True, default=64)
    stated = False
    fold = ControlledMoments

    def __check_init__(self) -> None:
        checks.check_positive_int("limit", self.limit)

    def wishes(self, program: Program) -> Wishes:
        found = {op.site.index: _smooth(op) for op in every_operation(program) if op.site}
        found = {index: positions for index, positions in found.items() if positions}
        if not found:
            raise ValueError(
                "method: Scores() has no draw to serve, one with real parameters, given as arrays, that leave its "
                "support where it is"
            )
        if (number := sum(map(len, found.values()))) > self.limit:
            raise ValueError(f"method: the draws have {number} parameters, more than Scores(limit={self.limit})")
        return Wishes(scores=found)

    def controls(self, run: Run) -> Float[Array, " p"]:
        scores = [score.astype(float) for scores in run.scores.values() for score in scores]
        whole = sum(score.size for score in scores) > self.limit
        return jnp.concatenate([jnp.sum(score)[None] if whole else score.ravel() for score in scores])


def _smooth(draw: Operation) -> tuple[int, ...]:
    """The operands in which the log probability may be differentiated under the integral."""
    assert draw.site is not None
    if any(loop.kind == "while" for loop in draw.site.loops):
        return ()
    real = [i for i, x in enumerate(one_lane(draw)) if i and jnp.issubdtype(x.dtype, jnp.floating)]
    found = nature(draw)
    return tuple(i for i in real if i not in found.edges) if found.law in _LAWS else ()
