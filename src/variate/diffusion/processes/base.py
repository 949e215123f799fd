"""How noise takes over: the signal and the noise of a process at each time, and all that follows from the two."""

import abc
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from variate.checks import check_number, check_positive, describe

Number = float | np.ndarray | Array
ROUNDING = 1e-12  # of signal
GRID = 1001  # times at which levels are looked at


class Level(NamedTuple):
    """How much of a draw is left at a time."""

    time: Any
    alpha: Any  # of the data
    sigma: Any  # of the noise


class Process(eqx.Module):
    r"""A process that turns data into noise: $x_t = \alpha(t)\, x_0 + \sigma(t)\, \epsilon$.

    $\epsilon$ is standard normal. Time runs from 0, where $\sigma = 0$, to `horizon`, where hardly anything of the
    data is left. As a stochastic differential equation it is $dx = f(t)\, x\, dt + g(t)\, dw$ with $f = \alpha' /
    \alpha$ and $g^2 = (\sigma^2)' - 2 f \sigma^2$. A process of your own is a subclass with `alpha` and `sigma`,
    written with `jax.numpy`, or an `Interpolant` of two functions.

    Raises:
        ValueError: of your own, for levels that are not those of such a process, as seen at 1001 times.

    Source: Kingma, Salimans, Poole and Ho (2021), Variational diffusion models, NeurIPS 34, section 3.1; the
    equation's f and g are those of their appendix.
    """

    horizon: eqx.AbstractVar[float]
    cutoff: eqx.AbstractVar[float]  # where schedules end, unless told otherwise: the denoiser is not asked below it

    def __check_init__(self) -> None:
        horizon = check_positive("horizon", self.horizon)
        if not 0 < check_number("cutoff", self.cutoff) < horizon:
            raise ValueError(f"cutoff must be between 0 and the horizon {horizon}, got {self.cutoff}")
        own = type(self).__module__.startswith(f"{__package__}.")  # whose levels tests look at
        if not own:
            check_levels(self)

    @abc.abstractmethod
    def alpha(self, t: Float[Array, "..."]) -> Float[Array, "..."]:
        """What is left of the data at time t."""

    @abc.abstractmethod
    def sigma(self, t: Float[Array, "..."]) -> Float[Array, "..."]:
        """The standard deviation of the noise at time t."""

    def level(self, t: Any) -> Level:
        t = as_time(t)
        return Level(t, self.alpha(t), self.sigma(t))

    def half_log_snr(self, t: Any) -> Any:
        r"""$\lambda(t) = \log \alpha(t) - \log \sigma(t)$, which falls with time."""
        t = as_time(t)
        return jnp.log(self.alpha(t)) - jnp.log(self.sigma(t))

    def spread(self, sigma: Float[Array, ""], noise: Float[Array, "..."]) -> Float[Array, "..."]:
        r"""$\sigma\, \epsilon$."""
        return sigma * noise

    def slopes(self, t: Any) -> Level:
        r"""$\alpha'(t)$ and $\sigma'(t)$."""
        t = as_time(t)
        one = jnp.ones_like(t)
        return Level(one, jax.jvp(self.alpha, (t,), (one,))[1], jax.jvp(self.sigma, (t,), (one,))[1])

    def drift(self, t: Any) -> Any:
        """f(t), of the stochastic differential equation."""
        t = as_time(t)
        return self.slopes(t).alpha / self.alpha(t)

    def diffusion(self, t: Any) -> Any:
        """g(t), of the stochastic differential equation."""
        t = as_time(t)
        slope, sigma = self.slopes(t), self.sigma(t)
        return jnp.sqrt(2 * sigma * (slope.sigma - slope.alpha / self.alpha(t) * sigma))

    def transition(self, s: Any, t: Any) -> tuple[Any, Any]:
        """The factor a and the standard deviation b with which $x_t = a x_s + b z$ for times s ≤ t."""
        s, t = as_time(s), as_time(t)
        if not (isinstance(s, Tracer) or isinstance(t, Tracer)) and np.any(np.asarray(s) > np.asarray(t)):
            raise ValueError(f"s and t must be times with s <= t, got {s} and {t}: noise is added, not taken away")
        factor = self.alpha(t) / self.alpha(s)
        return factor, jnp.sqrt(self.sigma(t) ** 2 - (factor * self.sigma(s)) ** 2)

    def time_of(self, half_log_snr: Any) -> np.ndarray:
        r"""The times at which $\lambda$ has these values, in double precision, by bisection."""
        wanted = np.asarray(half_log_snr, np.float64)
        low, high = np.zeros_like(wanted), np.full_like(wanted, self.horizon)
        for _ in range(200):  # every bit of a double, wherever the time lies
            middle = 0.5 * (low + high)
            if np.all((middle == low) | (middle == high)):
                break
            at = exact_levels(self, middle)
            with np.errstate(divide="ignore"):
                later = np.log(at.alpha) - np.log(at.sigma) > wanted
            low, high = np.where(later, middle, low), np.where(later, high, middle)
        return np.asarray(0.5 * (low + high))


def as_time(t: Any) -> Any:
    """Integers are times too."""
    t = jnp.asarray(t)
    return t if jnp.issubdtype(t.dtype, jnp.floating) else t.astype(float)


def exact_levels(process: Process, times: Any) -> Level:
    """The levels at some times as numbers in double precision, whatever precision the program has.

    Coefficients of solvers are differences of these: in single precision hardly a digit of them would be left. Signal
    that is what rounding leaves of none, as a cosine does, is none: solvers divide by it.
    """
    time, alpha, sigma = _evaluated(process, times)
    return Level(time, np.where(np.abs(alpha) <= ROUNDING, 0.0, alpha), sigma)


def _evaluated(process: Process, times: Any) -> Level:
    check_process(process)
    with jax.ensure_compile_time_eval(), jax.enable_x64(True):
        t = jnp.asarray(np.asarray(times, np.float64))
        return Level(np.asarray(t), np.asarray(process.alpha(t)), np.asarray(process.sigma(t)))


def exact_slopes(process: Process, times: Any) -> Level:
    """Their slopes in time, in double precision too."""
    check_process(process)
    with jax.ensure_compile_time_eval(), jax.enable_x64(True):
        return Level(*map(np.asarray, process.slopes(jnp.asarray(np.asarray(times, np.float64)))))


def check_process(value: Any) -> None:
    if isinstance(value, Process):
        return
    if hasattr(value, "stationary"):
        raise TypeError(
            f"process must be one of the data alone, VariancePreserving() say, got {describe(value)}, whose variables "
            "have no one signal and noise: its times are any that fall, numpy.geomspace(1.0, 0.01, 30) say, its "
            "solvers GDDIM and SSCS"
        )
    raise TypeError(f"process must be one of vt.diffusion, VariancePreserving() say, got {describe(value)}")


def check_levels(process: Process) -> None:
    """Raise unless noise takes over from data, at a grid of times; what is traced is not looked at."""
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(process)):
        return
    times = np.linspace(0.0, process.horizon, GRID)
    _, alpha, sigma = _evaluated(process, times)
    if alpha.shape != times.shape or sigma.shape != times.shape:
        raise ValueError(
            f"alpha and sigma must be functions from times to numbers, one for each of {GRID}, "
            f"got arrays of shapes {alpha.shape} and {sigma.shape}"
        )
    if not (abs(alpha[0] - 1) <= 1e-6 and abs(sigma[0]) <= 1e-6):
        raise ValueError(f"alpha(0) must be 1 and sigma(0) must be 0, got {alpha[0]:.6g} and {sigma[0]:.6g}")
    if not (np.all(alpha[:-1] > 0) and alpha[-1] >= -ROUNDING and np.all(sigma[1:] > 0)):
        raise ValueError(f"alpha and sigma must be positive between time 0 and the horizon {process.horizon}")
    rising = np.diff(alpha[1:] / sigma[1:]) >= 0
    if np.any(rising):
        raise ValueError(f"alpha / sigma must fall with time, and does not at time {times[1:-1][rising][0]:.4g}")
