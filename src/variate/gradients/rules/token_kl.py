"""The baseline of on-policy distillation: what a token is expected to cost, from the logits of student and teacher."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpyro.distributions as dist
from jax.nn import log_softmax
from jaxtyping import Array, Float

from variate import checks
from variate.gradients.base import Facts
from variate.gradients.rules.baseline import Baseline, LeaveOneOut, MovingAverage, NoBaseline


@dataclass(frozen=True)
class TokenKL(Baseline):
    r"""$b_t = \beta\,\mathrm{KL}(p_t \,\|\, q_t) + r_t$ for tokens $x_t \sim p_t$ that cost
    $\beta \log (p_t(x_t) / q_t(x_t))$ and what comes of them.

    The Kullback-Leibler divergence of the teacher $q_t$ from the student $p_t$, given the tokens before, is what the
    token $t$ itself is expected to cost, exactly. What is charged beyond it, the cost of the tokens after it, has a
    baseline $r_t$ of its own. Serves categorical draws. The wrong choice where the cost is another: any baseline is
    unbiased, but this one then takes off a number that says nothing.

    Args:
        student: the name of the logits that the tokens are drawn by, the vocabulary last, by `checkpoint_name`.
        teacher: the name of those of the teacher, in the same shape.
        scale: $\beta$.
        rest: $r_t$: `NoBaseline()`, `LeaveOneOut()`, which pays with many samples and long texts, or `MovingAverage`.

    Source: Oh, Song, Choi, Choi and Jo (2026), KL for a KL: on-policy distillation with control variate baseline, where
    a token is charged with its own cost alone.
    """

    student: str
    teacher: str
    scale: float = 1.0
    rest: Baseline = field(default_factory=NoBaseline)

    axes = 2

    def __post_init__(self) -> None:
        checks.check_name(self.student)
        checks.check_name(self.teacher)
        checks.check_number("scale", self.scale)
        if not isinstance(self.rest, NoBaseline | LeaveOneOut | MovingAverage):
            known = "NoBaseline(), LeaveOneOut() or MovingAverage(argument)"
            raise TypeError(f"rest: expected {known}, got {checks.describe(self.rest)}")

    @property
    def names(self) -> tuple[str, ...]:
        return (self.student, self.teacher)

    @property
    def shared(self) -> bool:
        return self.rest.shared

    @property
    def least(self) -> int:
        return self.rest.least

    def refuse(self, facts: Facts) -> str | None:
        if not issubclass(facts.law, dist.CategoricalLogits | dist.CategoricalProbs):
            return f"{facts.law.__name__} draws no tokens, of which alone the baseline TokenKL knows the cost"
        return super().refuse(facts)

    def values(
        self,
        charges: Float[Array, "samples *elements"],
        seen: Sequence[Float[Array, "samples *elements tokens vocabulary"]],
        args: Sequence[Any],
    ) -> Array:
        student, teacher = seen
        if student.shape != teacher.shape:
            raise ValueError(
                f"baseline: the logits {self.student!r} and {self.teacher!r} should have one shape, got "
                f"{student.shape[charges.ndim :]} and {teacher.shape[charges.ndim :]} of each charge"
            )
        known = self.scale * jnp.sum(divergence(student, teacher), axis=-1).astype(charges.dtype)
        rest = self.rest.values(charges - known, (), args)
        return known if rest is None else known + rest


def divergence(student: Float[Array, "*axes k"], teacher: Float[Array, "*axes k"]) -> Float[Array, "*axes"]:
    r"""$\sum_k p_k (\log p_k - \log q_k)$ of two rows of logits; a value of which $p$ is zero adds nothing."""
    own, other = log_softmax(student), log_softmax(teacher)
    possible = own > -jnp.inf
    return jnp.sum(jnp.where(possible, jnp.exp(own) * (jnp.where(possible, own, 0) - other), 0), axis=-1)
