"""What relaxations share: a drawn integer stands for weights of the values that it might have had."""

from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

from variate.gradients.base import Facts, by_lane, fixed_sample
from variate.gradients.rules.pathwise import Pathwise
from variate.programs import distributions
from variate.programs.program import Site


class Relaxation(Pathwise):
    r"""The part that is common to rules which let derivatives pass a draw of finite support.

    A real $g(x)$ that the program makes of an element $x$ of the drawn integers is taken for $\sum_k w_k g(k)$, over
    the values $k$ that it may have; rules differ in the weights $w_k(\theta)$. To make a real of it the program may
    cast it, compare it with what is not drawn and choose by that with `jnp.where` or `jnp.select` (a choice within a
    choice by the same draw is one $g$), write it as `jax.nn.one_hot`, look up `table[x]`, a row or
    `jnp.take_along_axis`, raise a real to its power, and do arithmetic with it before that: `(x**2).astype(float)` is
    an average of squares, `x.astype(float)**2` the square of an average. Several drawn integers may be added,
    multiplied, stacked and summed.

    Refused are integers on whose way to the result there is anything else: `lax.cond` and `lax.switch` on them;
    integers that go as such into or out of a loop, a branch or a `jax.checkpoint`, which are to be cast first; two
    draws compared with each other or in one condition; comparisons after the cast; places to write to (`x.at[i].set`).
    Further a draw that shares its key with other randomness, and derivatives after the first. A value $g(k)$ that is
    not finite, and was not drawn, counts as that of what was drawn.

    The gradient is biased, the estimate says so, and naming a relaxation is asking for it.
    """

    soft: ClassVar[bool] = False  # whether the weights are not zeros and a one, so that the runs are changed too

    def weights(
        self, distribution: Any, drawn: Float[Array, "*elements k"], key: Key[Array, ""]
    ) -> Float[Array, "*elements k"]:
        """Weights of the values of each element; `drawn` has a one at what was drawn and zeros elsewhere."""
        raise NotImplementedError

    def refuse(self, facts: Facts) -> str | None:
        return why_no_integers(facts) or why_not_passed(facts)

    def bias(self, facts: Facts) -> str | None:
        return "a relaxation is biased"

    def draw(self, site: Site, operands: Sequence[Array]) -> tuple[list[Array], Any]:
        (value,) = fixed_sample(site, operands)

        def weights(distribution: Any, value: Array, key: Array) -> Array:
            return self.weights(distribution, one_hot(distribution, value), key)

        return [value, by_lane(weights, site, value, operands)], None


def why_no_integers(facts: Facts) -> str | None:
    """Why the program could not be rewritten with weights of the values of that draw; None if it was."""
    whole = all(jnp.issubdtype(dtype, jnp.integer) for _, dtype in facts.site.event.leaves)
    return None if whole and facts.site.values else "it does not draw integers of a finite support that is known"


def why_not_passed(facts: Facts) -> str | None:
    """Why a derivative does not pass from a relaxed value to the result; None if it does."""
    if facts.order > 1:
        return "only its first derivative is available"
    if facts.breaks:
        return f"no derivative passes {facts.breaks[0]}, to which its value comes"
    return facts.shared_key


def one_hot(distribution: Any, value: Array) -> Float[Array, "*elements k"]:
    """Of a value that was drawn: a one at its place in the support."""
    support = distributions.support(distribution)
    assert support is not None  # or `refuse` had said so
    probabilities = jax.eval_shape(lambda: distributions.element_probs(distribution))
    return (value[..., None] == support.astype(value.dtype)).astype(probabilities.dtype)


def probabilities(distribution: Any) -> Float[Array, "*elements k"]:
    return jnp.moveaxis(distributions.element_probs(distribution), 0, -1)


def log_probabilities(distribution: Any) -> Float[Array, "*elements k"]:
    """Of each value; of an impossible one that of the smallest number there is, which has no derivative."""
    found = probabilities(distribution)
    least = jnp.finfo(found.dtype).tiny
    possible = found > least
    return jnp.where(possible, jnp.log(jnp.where(possible, found, 1)), jnp.log(least))


def held_at(drawn: Array, moving: Array) -> Array:
    """What was drawn, with the derivatives of something else."""
    return lax.stop_gradient(drawn) + (moving - lax.stop_gradient(moving))


def perturbed(log_probs: Array, drawn: Array, key: Key[Array, ""]) -> Array:
    r"""$\log p_k + G_k$ with Gumbel noise $G$ of which the largest is at what was drawn; $G$ is held.

    With $T_k = e^{-G_k} / p_k$, exponential of rate $p_k$, the smallest is exponential of rate one and independent of
    which it is, and what the others exceed it by is again exponential of rate $p_k$. (Paulus et al. 2021, sec. 3.)
    """
    return log_probs + lax.stop_gradient(given(log_probs, drawn, key) - log_probs)


def given(log_probs: Array, drawn: Array, key: Key[Array, ""]) -> Array:
    """The same numbers, of which the noise behind what was drawn is held: they move as it allows."""
    # JAX's exponential numbers may be 0, and one over the smallest probability is hardly finite: only logarithms are.
    least = jnp.finfo(log_probs.dtype).tiny
    noise = jnp.log(jnp.maximum(jax.random.exponential(key, log_probs.shape, log_probs.dtype), least))
    first = jnp.sum(drawn * noise, axis=-1, keepdims=True)
    return -jnp.where(drawn > 0, first, jnp.logaddexp(first, noise - log_probs))
