"""Compositions: mixtures of models, which are exact, and products and powers of them, which are not."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from variate.checks import check_column, describe

from ..processes.base import Level, Process
from .base import Denoiser, ExactDenoiser, Prediction, check_models


class Mixture(ExactDenoiser):
    r"""Of $p_0 = \sum_k w_k\, p_0^k$, exact: $\sum_k r_k(x)\, E_k[x_0 \mid x]$ with $r_k \propto w_k\, p_t^k(x)$.

    It is exact at every time if the models are, since noise added to a mixture makes the mixture of the noisy
    distributions. It needs their log densities, which networks do not have, but every `ExactDenoiser` does:
    `GaussianMixture`, `DataSet` and mixtures.

    Args:
        models: a list of denoisers with the same process.
        weights: $w_k$, positive; they are divided by their sum. Equal if left out.

    Raises:
        TypeError: models that are no denoisers, or have no log density.
        ValueError: weights that are not positive, models with different processes.
    """

    models: tuple[ExactDenoiser, ...]
    weights: Float[Array, " k"]

    def __init__(self, models: Sequence[Denoiser] | Any, weights: Any = None) -> None:
        given = _models(models)
        for i, model in enumerate(given):
            if not isinstance(model, ExactDenoiser):
                raise TypeError(
                    f"models[{i}] must know its log density, as GaussianMixture and DataSet do: how much of each model "
                    f"there is at a point depends on it, and {type(model).__name__} does not"
                )
        self.models = tuple(model for model in given if isinstance(model, ExactDenoiser))
        column = check_column("weights", weights, len(given))
        self.weights = jnp.asarray(column / column.sum())

    @property
    def process(self) -> Process:
        return self.models[0].process

    def predict(self, x: Float[Array, "..."], level: Level) -> Prediction:
        shares = jax.nn.softmax(self._logs(x, level))
        found = [model.predict(x, level) for model in self.models]
        return jax.tree.map(lambda *each: jnp.tensordot(shares, jnp.stack(each), 1), *found)

    def log_marginal(self, x: Float[Array, "..."], level: Level) -> Float[Array, ""]:
        return jax.nn.logsumexp(self._logs(x, level))

    def _logs(self, x: Float[Array, "..."], level: Level) -> Float[Array, " k"]:
        logs = [model.log_marginal(x, level) for model in self.models]
        return jnp.log(self.weights).astype(x.dtype) + jnp.stack(logs)


class Product(Denoiser):
    r"""The score $\sum_k w_k \nabla \log p_t^k(x)$: products, powers ($w \ne 1$) and negations ($w < 0$) of models.

    A heuristic: it has the score of $\prod_k p_t^k(x)^{w_k}$ at each time, which is not what the process makes of
    $\prod_k p_0^k(x)^{w_k}$, so it is the denoiser of no distribution, and draws depend on the process and on the
    solver. Weights that sum to one leave the noise at the start right, $p(x) \prod_k p(x \mid c_k) / p(x)$ say, with
    the unconditional model's weight $1 - n$; with others, the start should have the deviation $\sigma / \sqrt{\sum
    w_k}$, and at a time with no data left the prediction is not finite.

    Args:
        models: a list of denoisers with the same process.
        weights: $w_k$, any numbers.

    Raises:
        TypeError: models that are no denoisers.
        ValueError: weights that are not finite or not one for each, models with different processes.

    Source: Liu, Li, Du, Torralba and Tenenbaum (2022), Compositional visual generation with composable diffusion
    models, ECCV, eq. 11; Du, Durkan, Strudel et al. (2023), Reduce, reuse, recycle, ICML, section 3, for why not.
    """

    models: tuple[Denoiser, ...]
    weights: Float[Array, " k"]

    def __init__(self, models: Sequence[Denoiser] | Any, weights: Any) -> None:
        self.models = _models(models)
        numbers = np.asarray(weights, np.float64)
        if numbers.shape != (len(self.models),) or not np.all(np.isfinite(numbers)):
            raise ValueError(f"weights must be {len(self.models)} finite numbers, one for each model, got {weights}")
        self.weights = jnp.asarray(numbers)

    @property
    def process(self) -> Process:
        return self.models[0].process

    def predict(self, x: Float[Array, "..."], level: Level) -> Prediction:
        weights = self.weights.astype(x.dtype)
        found = [model.predict(x, level) for model in self.models]
        data, noise = jax.tree.map(lambda *each: jnp.tensordot(weights, jnp.stack(each), 1), *found)
        missing = 1 - jnp.sum(weights)  # none of it, exactly, at a time with no data left
        return Prediction(data + jnp.where(missing == 0, 0.0, missing / level.alpha) * x, noise)


def _models(models: Any) -> tuple[Denoiser, ...]:
    if not isinstance(models, list | tuple) or not models:
        raise TypeError(f"models must be a list of denoisers, got {describe(models)}")
    check_models(**{f"models[{i}]": model for i, model in enumerate(models)})
    return tuple(models)
