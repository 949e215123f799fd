"""What is known of data that travel with velocities, by an ordinary denoiser."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..processes.augmented import AugmentedProcess, check_augmented
from ..processes.base import Level
from .base import Denoiser, Model, Prediction
from .rescaled import check_edm


class Augmented(Model):
    r"""$E[x_0 \mid z_t = z]$ of an augmented process, by an ordinary denoiser of the same data.

    All k variables are the data times m(t) and normal noise of covariance $\Sigma(t)$, so all that they say of the data
    is $m^\top \Sigma^{-1} z / a^2$ with $a^2 = m^\top \Sigma^{-1} m$: the data and noise of standard deviation $1 / a$.
    A `GaussianMixture` on `EDM` is thus the exact model of such a process, and any network for `EDM` serves it.

    Raises:
        TypeError, ValueError: a process that is not augmented, a denoiser on another process than `EDM`.
    """

    process: AugmentedProcess  # how noise takes over, `critically_damped()` say
    denoiser: Denoiser  # on `EDM`

    def __check_init__(self) -> None:
        check_augmented(self.process)
        check_edm(self.denoiser)

    def predict(self, x: Float[Array, "k ..."], level: Level) -> Prediction:
        r"""The data, and the noise $R^{-1} (z - m \otimes \hat x_0)$ of the root R of $\Sigma$ that the level has."""
        whiten = jnp.linalg.inv(level.sigma)
        white = whiten @ level.alpha
        square = white @ white
        seen = jnp.tensordot(white @ whiten, x, 1) / square
        sigma = square**-0.5
        data = self.denoiser.predict(seen, Level(sigma, jnp.ones_like(sigma), sigma)).data
        return Prediction(data, jnp.tensordot(whiten, x - jnp.multiply.outer(level.alpha, data), 1))
