"""Simultaneous perturbation: every parameter a step up or down at once, by fair coins."""

from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, Key

from variate.gradients.perturbations.perturbation import positive_scale
from variate.programs import generator


class SPSA(eqx.Module):
    r"""$\frac{f(\theta + c\Delta) - f(\theta - c\Delta)}{2c}\,\Delta^{-1}$, with $\Delta_i = \pm 1$ by fair coins.

    For `black_box`; $\Delta_i^{-1} = \Delta_i$. With $F = E f$, smooth, the bias of coordinate $i$ is
    $\frac{c^2}{6}\bigl(\partial_i^3 F + 3 \sum_{j \ne i} \partial_i \partial_j^2 F\bigr) + O(c^4)$, so a quadratic has
    none. To first order in $c$, the variance of a sample is $\sum_{j \ne i} (\partial_j F)^2$ and that of the program's
    own noise.

    Choose it where $F$ is smooth and $c$ can be small, as its directions add the least variance. It is the wrong choice
    where $F$ jumps or wiggles within $c$ (`EvolutionStrategies` says what it estimates there). Too small a $c$ is wrong
    too: the rounding of $f$ grows as $1/c$, and so does the variance of a program that jumps.

    The field `scale` is $c$, positive, in the units of the arguments. Raises `ValueError` or `TypeError` for another.

    Source: Spall (1992), Multivariate stochastic approximation using a simultaneous perturbation gradient
    approximation, IEEE Trans. Automatic Control 37(3), 332-341.
    """

    scale: Float[Array, ""] | float = eqx.field(converter=positive_scale)

    def direction(self, key: Key[Array, ""], shape: tuple[int, ...], dtype: Any) -> Array:
        return jax.random.rademacher(generator.flat(key), shape, dtype)
