"""Dual averaging: the step size at which proposals are accepted as often as they should be."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

_GAMMA, _DELAY, _KAPPA = 0.05, 10.0, 0.75  # of the paper's section 3.2.1


class DualAveraging(eqx.Module):
    r"""$\log \epsilon_{t+1} = \mu - \sqrt t\, \gamma^{-1} (t + t_0)^{-1} \sum_{s \le t} (\delta - \alpha_s)$, averaged.

    $\alpha_s$ is the acceptance of step s, the mean over all chains, and $\delta$ what it should be. `averaged`, with
    weights $t^{-\kappa}$, is the step size to go on with.

    Source: Nesterov (2009), Math. Program. 120, 221-259; Hoffman and Gelman (2014), JMLR 15, 1593-1623, equation 6.
    """

    center: Float[Array, ""]  # mu
    error: Float[Array, ""]  # the mean of delta - alpha, with more weight on what is late
    log_step: Float[Array, ""]
    log_averaged: Float[Array, ""]
    count: Float[Array, ""]

    @staticmethod
    def around(step_size: Float[Array, ""]) -> "DualAveraging":
        log_step = jnp.log(step_size)
        zero = jnp.zeros_like(log_step)
        return DualAveraging(log_step, zero, log_step, zero, zero)

    @property
    def step_size(self) -> Float[Array, ""]:
        return jnp.exp(self.log_step)

    @property
    def averaged(self) -> Float[Array, ""]:
        return jnp.exp(jnp.where(self.count > 0, self.log_averaged, self.log_step))

    def learned(self, acceptance: Float[Array, ""], wanted: float | Float[Array, ""]) -> "DualAveraging":
        """After one step more."""
        count = self.count + 1
        share = 1 / (count + _DELAY)
        error = (1 - share) * self.error + share * (wanted - acceptance)
        log_step = self.center - jnp.sqrt(count) / _GAMMA * error
        late = count**-_KAPPA
        averaged = late * log_step + (1 - late) * self.log_averaged
        return DualAveraging(self.center, error, log_step, averaged, count)
