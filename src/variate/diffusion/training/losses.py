"""Losses whose minimum is the expected data behind a noisy point: what a step of an optimizer needs."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from variate.checks import check_number, check_takes, describe

from ..checks import check_points
from ..denoisers.base import Denoiser, Prediction, check_model
from ..processes.base import Level
from .base import check_column, check_rows, check_times

Form = Callable[[Prediction, Level, Level], Array]  # of a prediction, a level and the slopes there


def data(found: Prediction, level: Level, slopes: Level) -> Float[Array, "..."]:
    """The data: weight on early times is what matters to the eye."""
    return found.data


def noise(found: Prediction, level: Level, slopes: Level) -> Float[Array, "..."]:
    """The noise: the loss of Ho, Jain and Abbeel (2020), Denoising diffusion probabilistic models, eq. 14."""
    return found.noise


def velocity(found: Prediction, level: Level, slopes: Level) -> Float[Array, "..."]:
    """The velocity: the loss of flow matching, and of stochastic interpolants."""
    return slopes.alpha * found.data + slopes.sigma * found.noise


def denoising_loss(
    key: Key[Array, ""] | Any,
    model: Denoiser | Any,
    rows: Float[Array, "n ..."] | Any,
    times: Float[Array, " n"] | Any,
    *,
    form: Form | Any = noise,
    weights: Float[Array, " n"] | Any = None,
    perturbation: float | Any = 0.0,
    start: Float[Array, "n ..."] | Any = None,
) -> Float[Array, ""]:
    r"""The mean over rows of $w\, \lVert \hat F(x_t, t) - F \rVert^2 / d$, with F the noise, the data or the velocity.

    $x_t = \alpha(t)\, x_0 + \sigma(t)\, (\epsilon + \gamma z)$, where z is noise that the target does not know of. Its
    minimum over all functions is the conditional expectation, whatever the weights and the form, at $\gamma = 0$.

    Args:
        key: of the noise.
        model: the denoiser that is trained, `NoisePrediction(process, network)` say.
        rows: the data $x_0$, one a row.
        times: t, one for each row, drawn by you.
        form: `noise`, `data` or `velocity` of `vt.diffusion`: on what the squared error is.
        weights: w, one for each row; 1 by default.
        perturbation: $\gamma$, at which the model learns to forgive errors of earlier steps.
        start: $\epsilon$, from `coupled` say; standard normal and independent by default.

    Raises:
        TypeError, ValueError: an argument that is none of the above; times beyond the horizon, where they are not
            traced.

    Sources: Ho, Jain and Abbeel (2020), NeurIPS 33, eq. 14; Lipman et al. (2023), Flow matching for generative
    modeling, ICLR, eq. 9; Ning, Sangineto, Porrello, Calderara and Cucchiara (2023), Input perturbation reduces
    exposure bias in diffusion models, ICML, algorithm 2, for $\gamma$ (0.1 there).
    """
    check_model("model", model)
    rows = check_rows(key, rows)
    times = check_times("times", times, model, rows)
    check_takes("form", form, (None, None, None), "a prediction, a level and the slopes there")
    weights = jnp.ones_like(times) if weights is None else check_column("weights", weights, rows)
    if check_number("perturbation", perturbation) < 0:
        raise ValueError(f"perturbation must not be negative, got {perturbation}")
    key_noise, key_more = jax.random.split(key)
    shape, dtype = rows.shape, rows.dtype
    start = jax.random.normal(key_noise, shape, dtype) if start is None else check_points("start", start)
    if start.shape != shape:
        raise ValueError(f"start must be of the shape {shape} of the rows, got {describe(start)}")
    extra = perturbation * jax.random.normal(key_more, shape, dtype) if perturbation else jnp.zeros_like(start)

    def error(row: Any, drawn: Any, more: Any, t: Any) -> Float[Array, ""]:
        level, slopes = model.process.level(t), model.process.slopes(t)
        found = model.predict(level.alpha * row + level.sigma * (drawn + more), level)
        return jnp.mean((form(found, level, slopes) - form(Prediction(row, drawn), level, slopes)) ** 2)

    return jnp.mean(weights * jax.vmap(error)(rows, start, extra, times))


def sliced_score_loss(
    key: Key[Array, ""] | Any,
    score: Callable[[Float[Array, "..."]], Float[Array, "..."]] | Any,
    rows: Float[Array, "n ..."] | Any,
) -> Float[Array, ""]:
    r"""The mean over rows of $v^\top \nabla s(x)\, v + \frac12 \lVert s(x) \rVert^2$, v standard normal.

    No noise is put in. Up to a constant its expectation is half the expected squared distance of s from the score of
    the data.

    Args:
        key: of v.
        score: s, a function of one point.
        rows: the data, one a row.

    Raises:
        TypeError, ValueError: an argument that is none of the above.

    Source: Song, Garg, Shi and Ermon (2019), Sliced score matching, UAI, eq. 8, with the second term in closed form.
    """
    rows = check_rows(key, rows)
    check_takes("score", score, (None,), "a point")
    directions = jax.random.normal(key, rows.shape, rows.dtype)

    def one(x: Any, v: Any) -> Float[Array, ""]:
        value, slope = jax.jvp(score, (x,), (v,))
        return jnp.sum(v * slope) + 0.5 * jnp.sum(value**2)

    return jnp.mean(jax.vmap(one)(rows, directions))
