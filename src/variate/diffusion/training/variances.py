"""The loss by which the variances of steps are learned: a term of the variational bound."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Key

from variate.checks import describe

from ..denoisers.shared_variance import NoiseAndShare
from ..solvers.ancestral_learned import backwards
from .base import check_rows, check_times


def variance_loss(
    key: Key[Array, ""] | Any,
    model: NoiseAndShare | Any,
    rows: Float[Array, "n ..."] | Any,
    times: Float[Array, " n"] | Any,
    earlier: Float[Array, " n"] | Any,
) -> Float[Array, ""]:
    r"""The mean over rows and coordinates of $KL(q(x_t \mid x_s, x_0) \,\Vert\, p(x_t \mid x_s))$, in nats.

    $q$ is normal with the variance $\tilde\beta$ and $p$ with $\beta^v \tilde\beta^{1 - v}$, around means that differ
    by $\alpha_t\, b^2 / \sigma_s^2\, (x_0 - \hat x_0)$. The predicted noise gets no gradient from it, so that only v
    learns: add a thousandth of it, as the source does, to `denoising_loss` at the same `times`.

    Args:
        key: of the noise.
        model: says v beside the noise.
        rows: the data $x_0$, one a row.
        times: s, one for each row: steps of the schedule that will be drawn along.
        earlier: t < s, the next times of that schedule, at which there must be some noise: $\tilde\beta$ is zero for a
            step to none, and the loss not finite. Leave out the last step; nothing is learned for it.

    Raises:
        TypeError, ValueError: an argument that is none of the above, where it is not traced.

    Source: Nichol and Dhariwal (2021), Improved denoising diffusion probabilistic models, ICML, eqs. 4, 15 and 16.
    """
    if not isinstance(model, NoiseAndShare):
        raise TypeError(f"model must be a NoiseAndShare, which knows its variances, got {describe(model)}")
    rows = check_rows(key, rows)
    times, earlier = (check_times(*named, model, rows) for named in (("times", times), ("earlier", earlier)))
    if not (isinstance(times, Tracer) or isinstance(earlier, Tracer)):
        wrong = np.flatnonzero(~((np.asarray(earlier) > 0) & (np.asarray(earlier) < np.asarray(times))))
        if len(wrong):
            raise ValueError(
                f"earlier must be times between 0 and `times`, got {earlier[wrong[0]]} for {times[wrong[0]]} in row "
                f"{wrong[0]}"
            )
    noise = jax.random.normal(key, rows.shape, rows.dtype)

    def one(row: Any, drawn: Any, s: Any, t: Any) -> Float[Array, ""]:
        before, after = model.process.level(s), model.process.level(t)
        found, share = model.both(before.alpha * row + before.sigma * drawn, before)
        b, _, fresh = backwards(before, after)
        apart = after.alpha * fresh * jax.lax.stop_gradient(found.data - row)
        log_beta, log_ratio = 2 * jnp.log(b), 2 * jnp.log(after.sigma / before.sigma)
        log_variance = log_beta + (1 - share) * log_ratio
        more = -share * log_ratio  # by how much it is above the log of that of q
        return 0.5 * jnp.mean(more + jnp.expm1(-more) + apart**2 * jnp.exp(-log_variance))

    return jnp.mean(jax.vmap(one)(rows, noise, times, earlier))
