"""The log density of a model at given points, by the flow that takes them to noise."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from variate.checks import (
    check_at_least,
    check_key,
    check_number,
    check_positive,
    check_positive_int,
    check_takes,
    describe,
)
from variate.closures import fresh_jit
from variate.estimates import Estimate
from variate.estimates.moments import Moments

from .checks import asked, check_points
from .denoisers.base import Denoiser, ExactDenoiser, check_model
from .reference import follow

Prior = Callable[[Float[Array, "..."]], Float[Array, ""]]


NODES, WEIGHTS = (0.5 * (1 - 3**-0.5), 0.5 * (1 + 3**-0.5)), (0.5, 0.5)  # Gauss's, of an integral from 0 to 1


class LogLikelihood(NamedTuple):
    """Log densities, whether each is one to the tolerance, and what the prior leaves out of it."""

    value: Float[Array, " n"]
    converged: Bool[Array, " n"]
    left_out: Float[Array, " n"]  # to be added for the density of the model, in place of that of what its flow draws


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
    prior: Prior | Any = None,
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
        prior: the log density at the horizon T. By default the model's own, where it knows it (`ExactDenoiser`); else
            normal with the standard deviation $\sigma(T)$, from which `sample` starts.
        tolerance: of the error of one step of the flow, absolute or relative.
        max_steps: after which a point is given up, which its `converged` says.

    Returns:
        The log densities. Those of a model that does not know its own are of what its flow draws from normal noise, and
        `left_out` is how far that is from $\log p_t(x)$, on account of the signal that is left at the horizon: to the
        second order in $\alpha / \sigma$, by the data that the model predicts there. It is zero otherwise.

    Raises:
        TypeError, ValueError: no denoiser, no rows of points, a time that is not between 0 and the horizon, a prior
            that is no function of a point or returns more than a number.

    Source: Song, Sohl-Dickstein, Kingma, Kumar, Ermon and Poole (2021), Score-based generative modeling through
    stochastic differential equations, ICLR, eq. 39.
    """
    x = check_points("x", x)
    flow = _checked(model, time, prior, tolerance, max_steps)
    return _exact(model, x, flow)


def log_likelihood_by_probes(
    key: Key[Array, ""] | Any,
    model: Denoiser | Any,
    x: Float[Array, "n ..."],
    probes: int = 16,
    *,
    time: float | None = None,
    prior: Prior | Any = None,
    tolerance: float = 1e-6,
    max_steps: int = 4096,
) -> Estimate:
    r"""As `log_likelihood`, with the divergence estimated as $\frac1m \sum_i v_i^\top (\partial v / \partial x)\, v_i$.

    The m directions have coordinates of random sign and stay the same along a path. Each gives an answer without
    bias, from whose spread the error bars are found; of each point its own, so they are independent. It is unbiased
    for the log density, not for the density. Neither the error of the tolerance is in the error bars, nor what a normal
    prior leaves out: `left_out` of `log_likelihood` is of the same size.

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
        check_takes("prior", prior, (None,), "a point at the horizon")
    tolerance, max_steps = check_positive("tolerance", tolerance), check_positive_int("max_steps", max_steps)
    return _Flow((t, process.horizon), prior, tolerance, max_steps)


@fresh_jit
def _exact(model: Denoiser, x: Float[Array, "n ..."], flow: _Flow) -> LogLikelihood:
    basis = jnp.eye(x[0].size, dtype=x.dtype).reshape(-1, *x.shape[1:])

    def one(x: Float[Array, "..."]) -> LogLikelihood:
        value, converged, end = _along(model, x, basis, jnp.sum, flow)
        known = flow.prior is not None or isinstance(model, ExactDenoiser)
        return LogLikelihood(value, converged, jnp.zeros_like(value) if known else _left_out(model, end, basis))

    return jax.vmap(one)(x)


@fresh_jit
def _estimated(keys: Key[Array, " n"], model: Denoiser, x: Float[Array, "n ..."], probes: int, flow: _Flow) -> Estimate:
    def one(key: Key[Array, ""], x: Float[Array, "..."]) -> Estimate:
        directions = jax.random.rademacher(key, (probes, *x.shape), x.dtype)
        values, converged, _ = _along(model, x, directions, lambda each: each, flow)
        found = Moments.of_rows(values).read()
        return eqx.tree_at(lambda estimate: estimate.converged, found, found.converged & converged)

    return jax.vmap(one)(keys, x)


def _along(model: Denoiser, x: Array, directions: Array, made: Any, flow: _Flow) -> tuple[Array, Array, Array]:
    """Log densities of one point, of what is `made` of the directions' shares or one for each; and where it ends."""
    first, last = (jnp.asarray(t, x.dtype) for t in flow.ends)

    def speed(t: Float[Array, ""], state: tuple[Array, Array]) -> tuple[Array, Array]:
        velocity, push = jax.linearize(lambda x: model.velocity(x, t), state[0])
        return velocity, made(jax.vmap(lambda v: jnp.sum(v * push(v)))(directions))

    nothing = made(jnp.zeros(len(directions), x.dtype))
    (end, spread), converged, _ = follow(speed, (x, nothing), (first, last), flow.tolerance, flow.max_steps)
    return _prior(model, flow)(end) + spread, converged, end


def _prior(model: Denoiser, flow: _Flow) -> Prior:
    level = model.process.level(flow.ends[1])

    def own(given: Prior, x: Float[Array, "..."]) -> Float[Array, ""]:
        found = asked("prior", given, x)
        if jnp.shape(found) != ():
            raise ValueError(f"prior must return one number for one point, got {describe(found)}")
        return jnp.asarray(found, x.dtype)

    def normal(x: Float[Array, "..."]) -> Float[Array, ""]:
        sigma = level.sigma.astype(x.dtype)
        return jnp.sum(jax.scipy.stats.norm.logpdf(x / sigma) - jnp.log(sigma))

    if flow.prior is not None:
        return partial(own, flow.prior)
    return (lambda x: model.log_marginal(x, level)) if isinstance(model, ExactDenoiser) else normal


def _left_out(model: Denoiser, x: Float[Array, "..."], basis: Float[Array, "d ..."]) -> Float[Array, ""]:
    r"""$\log p_T(x) - \log N(x; 0, \sigma^2)$ at the horizon, by the predicted data $D$.

    It is $\log E\, e^{(\alpha\, x \cdot x_0 - \alpha^2 |x_0|^2 / 2) / \sigma^2}$, whose slope is
    $\alpha D(x) / \sigma^2$. At 0 it is $-\frac{\alpha^2}{2 \sigma^2} E[|x_0|^2 \mid x = 0]$ and terms of the fourth
    order, and the covariance of the data there is $\sigma^2 \partial D / \alpha$.
    """
    level = jax.tree.map(lambda number: number.astype(x.dtype), model.process.level(model.process.horizon))
    share = level.alpha / level.sigma**2

    def data(x: Float[Array, "..."]) -> Float[Array, "..."]:
        return model.predict(x, level).data

    slope = sum(weight * jnp.sum(x * data(node * x)) for node, weight in zip(NODES, WEIGHTS, strict=True))
    mean, push = jax.linearize(data, jnp.zeros_like(x))
    second = jnp.sum(mean**2) + jnp.sum(jax.vmap(lambda v: jnp.sum(v * push(v)))(basis)) / share
    found = share * slope - 0.5 * share * level.alpha * second
    return jnp.where(level.alpha > 0, found, jnp.zeros_like(found))  # no data are predicted where nothing is left
