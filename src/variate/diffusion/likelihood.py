"""The log density of a model at given points, by the flow that takes them to noise."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from variate.checks import (
    check_at_least,
    check_callable,
    check_key,
    check_number,
    check_positive,
    check_positive_int,
)
from variate.closures import fresh_jit
from variate.estimates import Estimate
from variate.estimates.moments import Moments

from .checks import check_points
from .denoisers.base import Denoiser, check_model
from .reference import follow

Prior = Callable[[Float[Array, "..."]], Float[Array, ""]]


class LogLikelihood(NamedTuple):
    """Log densities, and whether each is one to the tolerance."""

    value: Float[Array, " n"]
    converged: Bool[Array, " n"]


class _Flow(NamedTuple):
    """How points are taken to noise."""

    ends: tuple[float, float]
    prior: Prior | None
    tolerance: float
    max_steps: int


def log_likelihood(
    model: Denoiser | Any,
    x: Float[Array, "n ..."] | Any,
    *,
    time: float | None = None,
    prior: Prior | None = None,
    tolerance: float = 1e-8,
    max_steps: int = 4096,
) -> LogLikelihood:
    r"""$\log p_t(x) = \log p_T(x_T) + \int_t^T \nabla \cdot v(x_s, s)\, ds$ along the probability flow $dx / ds = v$.

    The divergence is exact: the sum of one Jacobian-vector product for each coordinate, so an evaluation costs as
    many of the model's as there are coordinates, and `log_likelihood_by_probes` is for more than some dozens of them.
    It is the density of what the flow draws, with the noise that there is at the time t; that of the data themselves
    has no such limit where they lie on a surface. What is drawn in few steps, or with fresh noise, has another law.

    Args:
        model: a denoiser.
        x: the points, one a row.
        time: t, at which they are; the process's cutoff by default.
        prior: the log density at the horizon T; normal with the standard deviation $\sigma(T)$ by default. The signal
            that is left at the horizon is then left out.
        tolerance: of the error of one step of the flow, absolute or relative.
        max_steps: after which a point is given up, which its `converged` says.

    Raises:
        TypeError, ValueError: no denoiser, no rows of points, a time that is not between 0 and the horizon.

    Source: Song, Sohl-Dickstein, Kingma, Kumar, Ermon and Poole (2021), Score-based generative modeling through
    stochastic differential equations, ICLR, eq. 39.
    """
    x = check_points("x", x)
    flow = _checked(model, time, prior, tolerance, max_steps)
    values, converged = _exact(model, x, flow)
    return LogLikelihood(values, converged)


def log_likelihood_by_probes(
    key: Key[Array, ""] | Any,
    model: Denoiser | Any,
    x: Float[Array, "n ..."],
    probes: int = 16,
    *,
    time: float | None = None,
    prior: Prior | None = None,
    tolerance: float = 1e-6,
    max_steps: int = 4096,
) -> Estimate:
    r"""As `log_likelihood`, with the divergence estimated as $\frac1m \sum_i v_i^\top (\partial v / \partial x)\, v_i$.

    The m directions have coordinates of random sign and stay the same along a path. Each gives an answer without
    bias, from whose spread the error bars are found; of each point its own, so they are independent. It is unbiased
    for the log density, not for the density. The error of the tolerance and of the prior is not in the error bars.

    Args:
        key: of the directions.
        model: a denoiser.
        x: the points, one a row.
        probes: m, two or more.
        time: as for `log_likelihood`, like all that follows.
        prior: the log density at the horizon.
        tolerance: of the error of one step of the flow.
        max_steps: after which a point is given up.

    Raises:
        TypeError, ValueError: as `log_likelihood`, or fewer than two probes.

    Sources: Hutchinson (1990), A stochastic estimator of the trace of the influence matrix; Grathwohl, Chen,
    Bettencourt, Sutskever and Duvenaud (2019), FFJORD, ICLR, section 3.1.
    """
    check_key(key)
    probes = check_at_least("probes", probes, 2)
    x = check_points("x", x)
    flow = _checked(model, time, prior, tolerance, max_steps)
    return _estimated(jax.random.split(key, len(x)), model, x, probes, flow)


def _checked(model: Any, time: Any, prior: Any, tolerance: Any, max_steps: Any) -> _Flow:
    check_model("model", model)
    process = model.process
    t = process.cutoff if time is None else check_number("time", time)
    if not 0 < t < process.horizon:
        raise ValueError(f"time must be between 0 and {process.horizon}, the horizon, got {t}")
    if prior is not None:
        check_callable("prior", prior)
    tolerance, max_steps = check_positive("tolerance", tolerance), check_positive_int("max_steps", max_steps)
    return _Flow((t, process.horizon), prior, tolerance, max_steps)


@fresh_jit
def _exact(model: Denoiser, x: Float[Array, "n ..."], flow: _Flow) -> tuple[Array, Array]:
    basis = jnp.eye(x[0].size, dtype=x.dtype).reshape(-1, *x.shape[1:])
    return jax.vmap(lambda one: _along(model, one, basis, jnp.sum, flow))(x)


@fresh_jit
def _estimated(keys: Key[Array, " n"], model: Denoiser, x: Float[Array, "n ..."], probes: int, flow: _Flow) -> Estimate:
    def one(key: Key[Array, ""], x: Float[Array, "..."]) -> Estimate:
        directions = jax.random.rademacher(key, (probes, *x.shape), x.dtype)
        values, converged = _along(model, x, directions, lambda each: each, flow)
        found = Moments.of_rows(values).read()
        return eqx.tree_at(lambda estimate: estimate.converged, found, found.converged & converged)

    return jax.vmap(one)(keys, x)


def _along(model: Denoiser, x: Array, directions: Array, made: Any, flow: _Flow) -> tuple[Array, Bool[Array, ""]]:
    """Log densities of one point: one of what is `made` of the directions' shares, or one for each of them."""
    first, last = (jnp.asarray(t, x.dtype) for t in flow.ends)

    def speed(t: Float[Array, ""], state: tuple[Array, Array]) -> tuple[Array, Array]:
        velocity, push = jax.linearize(lambda x: model.velocity(x, t), state[0])
        return velocity, made(jax.vmap(lambda v: jnp.sum(v * push(v)))(directions))

    nothing = made(jnp.zeros(len(directions), x.dtype))
    (end, spread), converged, _ = follow(speed, (x, nothing), (first, last), flow.tolerance, flow.max_steps)
    return (flow.prior or _normal(model.process.sigma(last)))(end) + spread, converged


def _normal(sigma: Float[Array, ""]) -> Prior:
    def log_density(x: Float[Array, "..."]) -> Float[Array, ""]:
        return jnp.sum(jax.scipy.stats.norm.logpdf(x / sigma) - jnp.log(sigma))

    return log_density
