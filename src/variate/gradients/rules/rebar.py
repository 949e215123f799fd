"""REBAR: the score of a discrete draw with the relaxed run as its control variate."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from jax.nn import softmax
from jaxtyping import Array, Float, Key

from variate import checks
from variate.gradients.base import Facts, another_key, by_lane, fixed_sample
from variate.gradients.rules.relaxation import (
    given,
    held_at,
    log_probabilities,
    one_hot,
    why_no_integers,
    why_not_passed,
)
from variate.programs import distributions
from variate.programs.primitive import over_lanes
from variate.programs.program import Site
from variate.programs.simulation import log_prob


class Controlled(NamedTuple):
    r"""What the control variate of a draw needs.

    `perturbed`: $z_k = \log p_k + G_k$, of which the largest was drawn. Its derivative is that of $z$ with its noise
    held, less that of $z$ given what was drawn with the noise of that held.
    """

    log_prob: Float[Array, ""]
    perturbed: Float[Array, "*elements k"]


class Control:
    r"""The part that is common to $(f(x) - c(z))\,\nabla\log p(x) + \nabla c(z) - \nabla c(\tilde z)$.

    $z$ is the perturbed log probabilities and $\tilde z$ those given $x$, coupled so that they are equal in every run
    and differ in their derivatives alone.
    """

    def refuse(self, facts: Facts) -> str | None:
        if facts.support is None:
            return "its support is not finite, or not known"
        if facts.order > 1:
            return "only its first derivative is available"
        if facts.unbounded:
            return "it is inside a while_loop, where the number of draws is random"
        return facts.shared_key

    def bias(self, facts: Facts) -> str | None:
        return None

    def draw(self, site: Site, operands: Sequence[Array]) -> tuple[list[Array], Any]:
        (value,) = fixed_sample(site, operands)

        def perturbed(distribution: Any, value: Array, key: Array) -> Array:
            return _perturbed(log_probabilities(distribution), one_hot(distribution, value), key)

        control = by_lane(perturbed, site, value, operands)
        return [value], Controlled(log_prob(site, [value], operands), control)


def _perturbed(log_probs: Array, drawn: Array, key: Key[Array, ""]) -> Array:
    """Perturbed log probabilities with the difference of both derivatives."""
    conditional = given(log_probs, drawn, key)
    return held_at(conditional, log_probs - conditional)


@dataclass(frozen=True)
class Rebar(Control):
    r"""$\nabla_\theta E f(x) = E\,(f(x) - \eta f(\zeta))\,\nabla_\theta\log p_\theta(x) + \eta\,\nabla_\theta
    f(\zeta) - \eta\,\nabla_\theta f(\tilde\zeta)$ with $\zeta = \mathrm{softmax}(z / \tau)$.

    $z_k = \log p_k + G_k$ are the perturbed log probabilities of which the largest was drawn, $\tilde z$ the same given
    what was drawn. Unbiased at any $\tau$ and $\eta$: the relaxed run is only a control variate. Takes one replay of
    the program for a whole draw (in a loop, for each of its steps), with derivatives through it; in it reals that are
    made of the drawn integer are averages over its values, and later draws of this rule are relaxed too. The wrong
    choice where the relaxed run says little of the real one. A program that branches by the draw is refused, and one in
    which a discrete draw depends on it and has another rule.

    Args:
        temperature: $\tau$.
        scale: $\eta$.

    Source: Tucker, Mnih, Maddison, Lawson and Sohl-Dickstein (2017), eq. 6 to 8; categorical draws by appendix C.
    """

    temperature: float = 0.5
    scale: float = 1.0

    def __post_init__(self) -> None:
        checks.check_positive("temperature", self.temperature)
        checks.check_number("scale", self.scale)

    def refuse(self, facts: Facts) -> str | None:
        return super().refuse(facts) or why_no_integers(facts) or why_not_passed(facts)

    def relaxed(self, perturbed: Array) -> Array:
        r"""Weights of the values: $\zeta$."""
        return softmax(perturbed / self.temperature, axis=-1)

    def afresh(self, site: Site, operands: Sequence[Array]) -> Array:
        """Weights for a run in which an earlier draw is relaxed: they move smoothly with what that one moves."""

        def one(key: Array, *arrays: Array) -> Array:
            with distributions.numpyro_promotion():
                log_probs = log_probabilities(site.structure.build(arrays))
                return self.relaxed(log_probs + jax.random.gumbel(another_key(key), log_probs.shape, log_probs.dtype))

        return over_lanes(one, site.lanes)(*operands)
