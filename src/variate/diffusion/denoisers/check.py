"""Whether a denoiser says what its class claims: a wrong parameterization, seen by what it does to data of yours."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from variate.checks import check_key
from variate.closures import fresh_jit
from variate.estimates import Estimate
from variate.estimates.moments import Moments

from ..checks import check_points
from .base import Denoiser, check_model
from .predictions import AnglePrediction, DataPrediction, NoisePrediction, ScorePrediction, VelocityPrediction

PREDICTIONS = (DataPrediction, NoisePrediction, ScorePrediction, VelocityPrediction, AnglePrediction)
TIMES = 5
SURE = 5.0  # standard errors


def check_denoiser(key: Key[Array, ""] | Any, model: Denoiser | Any, data: Any) -> Estimate:
    r"""The error $E|\epsilon - \epsilon_\theta(x_t, t)|^2$ an element at five times, if the model is what it claims.

    A network whose class here is not what it was trained to predict draws like a bad network, and nothing else would
    tell. It is refused where it is surely worse than no prediction, which has the error 1, or if its function as
    another class is surely better: a network that is close to the best prediction is neither. `sample` cannot check
    this, since it takes data.

    Args:
        key: of the noise.
        model: a denoiser.
        data: what it was trained on, or drawn from the same: a few hundred, one a row.

    Returns:
        The errors with their error bars, from the process's cutoff to its horizon in equal ratios of the time.

    Raises:
        ValueError: errors that are by five standard errors more than 1 at some time, or in sum than those of another
            class; errors that are no numbers.
    """
    check_key(key)
    check_model("model", model)
    data = check_points("data", data).astype(float)
    if len(data) < 2 or not np.all(np.isfinite(data)):
        raise ValueError(f"data must be two or more finite points, one a row, got an array of shape {data.shape}")
    own = type(model).__name__
    models = {own: model}
    if isinstance(model, PREDICTIONS):
        models |= {kind.__name__: kind(model.process, model.function) for kind in PREDICTIONS}
    times = np.geomspace(model.process.cutoff, model.process.horizon, TIMES)
    errors, nothing = _errors(key, models, data, jnp.asarray(times, data.dtype))
    others = [name for name in models if name != own and not np.any(_surely_more(errors[name], nothing))]
    better = [name for name in others if _surely_more(jnp.sum(errors[own], 1), jnp.sum(errors[name], 1))]
    best = min(better, key=lambda name: float(jnp.sum(errors[name])), default=None)
    found = Moments.of_rows(errors[own]).read()
    if np.any(bad := _surely_more(errors[own], nothing)) or best is not None:
        at = int(np.argmax(bad if np.any(bad) else np.asarray(found.value)))
        hint = "" if best is None else f"; the same function as {best} is surely better"
        raise ValueError(
            f"model must predict what {own} says, for data of this scale, got the squared error "
            f"{np.asarray(found.value)[at]:.3g} of the noise at time {times[at]:.4g}, where no prediction has 1{hint}"
        )
    return found


@fresh_jit
def _errors(key: Key[Array, ""], models: dict[str, Denoiser], data: Float[Array, "n ..."], times: Any) -> Any:
    """By row and time: the errors of the models, which share a process, and of no prediction."""

    def one(x: Float[Array, "..."], key: Key[Array, ""], t: Any) -> Any:
        noise, level = jax.random.normal(key, x.shape, x.dtype), next(iter(models.values())).process.level(t)
        noisy = level.alpha * x + level.sigma * noise
        found = {name: model.predict(noisy, level).noise for name, model in models.items()}
        return {name: jnp.mean((noise - each) ** 2) for name, each in found.items()}, jnp.mean(noise**2)

    keys = jax.random.split(key, (len(data), len(times)))
    return jax.vmap(lambda x, keys: jax.vmap(lambda key, t: one(x, key, t))(keys, times))(data, keys)


def _surely_more(errors: Float[Array, "n ..."], others: Float[Array, "n ..."]) -> Any:
    """Whether errors are on average more than others of the same rows, or no numbers."""
    more = Moments.of_rows(errors - others).read()
    return np.logical_not(np.asarray(more.value) <= SURE * np.asarray(more.stderr))
