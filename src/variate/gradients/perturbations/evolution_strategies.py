"""Evolution strategies: the gradient of an expectation smoothed by a Gaussian, from antithetic pairs."""

from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, Key

from variate.gradients.perturbations.perturbation import positive_scale
from variate.programs import generator


class EvolutionStrategies(eqx.Module):
    r"""$\frac{f(\theta + \sigma\varepsilon) - f(\theta - \sigma\varepsilon)}{2\sigma}\,\varepsilon$,
    with $\varepsilon \sim N(0, I)$.

    For `black_box`. Without bias for the gradient of $F_\sigma(\theta) = E f(\theta + \sigma\varepsilon)$, which is
    $F = E f$ smoothed by a Gaussian, and has a gradient even where $F$ jumps; the value estimates $F_\sigma$ likewise.
    For the gradient of $F$ itself, where that is smooth, the bias is
    $\frac{\sigma^2}{2} \nabla_\theta \sum_j \partial_j^2 F + O(\sigma^4)$, so a quadratic has none. To first order in
    $\sigma$, the variance of a sample is $(\partial_i F)^2 + \sum_j (\partial_j F)^2$ and that of the program's own
    noise.

    Choose it to blur what is rough: a landscape of steps, or of many small minima. It is the wrong choice where $F$ is
    smooth within $\sigma$ already, since `SPSA` has less variance there.

    The field `scale` is $\sigma$, positive, in the units of the arguments. Raises `ValueError` or `TypeError` for
    another.

    Source: Nesterov and Spokoiny (2017), Random gradient-free minimization of convex functions, Found. Comput. Math.
    17(2), 527-566; antithetic pairs as in Salimans et al. (2017), Evolution strategies as a scalable alternative to
    reinforcement learning.
    """

    scale: Float[Array, ""] | float = eqx.field(converter=positive_scale)

    def direction(self, key: Key[Array, ""], shape: tuple[int, ...], dtype: Any) -> Array:
        return jax.random.normal(generator.flat(key), shape, dtype)
