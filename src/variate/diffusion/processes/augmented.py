"""Processes that carry data along with velocities, or other variables, which alone may get the noise."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Float, Key

from variate.checks import check_positive, describe

DOUBLINGS = 8  # of the time for which moments are found at first


class AugmentedProcess(eqx.Module):
    r"""$dz = -(D + Q)\, S^{-1} z\, dt + \sqrt{2 D}\, dw$ for k variables z of each element of the data, which is $z_1$.

    Whatever the positive semidefinite D and the skew-symmetric Q, the normal distribution with covariance S is
    invariant, and where every variable gets noise, by itself or by way of others, the process leads there. A process
    in which only the velocity gets noise (`critically_damped`) has smoother paths than one that adds it to data. It
    knows its own moments, by which networks are trained; `sample` draws from it by `GDDIM` or `SSCS`, with an
    `Augmented` model.

    Args:
        friction: D.
        rotation: Q.
        stationary: S, the covariance that it ends with.
        first: the variances of all variables but the data at time 0, where their means are zero.
        horizon: the time at which it ends.

    Raises:
        ValueError: matrices of other shapes, that are not symmetric, skew or (semi)definite as they should be, or with
            which the process does not lead to S.

    Source: Singhal, Goldstein and Ranganath (2023), Where to diffuse, how to diffuse, and how to get back: automated
    learning for multivariate diffusions, ICLR, section 4; Ma, Chen and Fox (2015), A complete recipe for stochastic
    gradient MCMC, NeurIPS 28, eqs. 2 and 3.
    """

    friction: Float[Array, "k k"]
    rotation: Float[Array, "k k"]
    stationary: Float[Array, "k k"]
    first: Float[Array, " rest"]
    horizon: float

    def __init__(self, friction: Any, rotation: Any, stationary: Any, first: Any, horizon: float = 1.0) -> None:
        d, q, s = (np.asarray(x, np.float64) for x in (friction, rotation, stationary))
        rest = np.asarray(first, np.float64)
        k = len(s) if s.ndim else 0
        if k < 1 or any(x.shape != (k, k) for x in (d, q, s)) or rest.shape != (k - 1,):
            raise ValueError(
                "friction, rotation and stationary must be square matrices of one size k, and first k - 1 variances, "
                f"got shapes {d.shape}, {q.shape}, {s.shape} and {rest.shape}"
            )
        if not (np.allclose(s, s.T) and np.all(np.linalg.eigvalsh(s) > 0)):
            raise ValueError(f"stationary must be symmetric and positive definite, got {s}")
        if not (np.allclose(d, d.T) and np.all(np.linalg.eigvalsh(d) >= -1e-12)):
            raise ValueError(f"friction must be symmetric and positive semidefinite, got {d}")
        if not np.allclose(q, -q.T):
            raise ValueError(f"rotation must be skew-symmetric, got {q}")
        if not np.all(rest >= 0):
            raise ValueError(f"first must be variances of at least 0, got {rest}")
        if not np.all(np.linalg.eigvals(-(d + q) @ np.linalg.inv(s)).real < -1e-9):
            raise ValueError(
                "friction must reach every variable, by way of rotation, but one never forgets its start: "
                f"got friction {d} and rotation {q}"
            )
        self.friction, self.rotation, self.stationary, self.first = (jnp.asarray(x) for x in (d, q, s, rest))
        self.horizon = check_positive("horizon", horizon)

    @property
    def drift(self) -> Float[Array, "k k"]:
        """F, of the equation dz = F z dt + ..."""
        return -jnp.linalg.solve(self.stationary, (self.friction + self.rotation).T).T

    def transition(self, s: Any, t: Any) -> tuple[Float[Array, "k k"], Float[Array, "k k"]]:
        r"""The matrix $\Phi = e^{F (t - s)}$ and the covariance of what is added with which $z_t = \Phi z_s + \ldots$.

        The covariance is $\int_0^{t - s} e^{F u}\, 2 D\, e^{F^T u}\, du = S - \Phi S \Phi^T$, found by halves: in one
        piece the first form overflows over long times, and over short ones the second has nothing left.

        Source: Van Loan (1978), Computing integrals involving the matrix exponential, IEEE Transactions on Automatic
        Control 23(3), 395-404, eq. 1.2, for a short piece.
        """
        drift = self.drift
        return _by_halves(jnp, jax.scipy.linalg.expm, drift, self.friction, jnp.asarray(t - s, drift.dtype))

    def moments(self, t: Any) -> tuple[Float[Array, " k"], Float[Array, "k k"]]:
        """What the variables are on average, for one unit of the data, and their covariance around that."""
        matrix, added = self.transition(0.0, t)
        rest = matrix[:, 1:]
        return matrix[:, 0], rest @ jnp.diag(self.first) @ rest.T + added

    def sigma(self, t: Any) -> Float[Array, "k k"]:
        """A root of their covariance at a time t > 0, as a process of the data has the standard deviation of noise."""
        return jnp.linalg.cholesky(self.moments(t)[1])

    def spread(self, sigma: Float[Array, "k k"], noise: Float[Array, "k ..."]) -> Float[Array, "k ..."]:
        """Standard normal noise, made one of the covariance whose root is given."""
        return jnp.tensordot(sigma, noise, 1)

    def noisy(self, key: Key[Array, ""], data: Float[Array, "..."], t: Any) -> Float[Array, "k ..."]:
        """A draw of all variables at time t > 0, one after another along the first axis, given data."""
        mean, covariance = self.moments(t)
        noise = jax.random.normal(key, (len(mean), *data.shape), data.dtype)
        return jnp.multiply.outer(mean, data) + self.spread(jnp.linalg.cholesky(covariance), noise)


def _by_halves(xp: Any, expm: Any, drift: Any, friction: Any, length: Any) -> Any:
    """Transitions, by the functions of a library of arrays."""
    k = len(drift)
    blocks = xp.block([[-drift, 2 * friction], [xp.zeros_like(drift), drift.T]])
    whole = expm(blocks * length / 2**DOUBLINGS)
    matrix = whole[..., k:, k:].swapaxes(-1, -2)
    added = matrix @ whole[..., :k, k:]
    for _ in range(DOUBLINGS):
        matrix, added = matrix @ matrix, matrix @ added @ matrix.swapaxes(-1, -2) + added
    return matrix, 0.5 * (added + added.swapaxes(-1, -2))


def exact_transitions(
    process: AugmentedProcess, lengths: Float[np.ndarray, " n"], reversed_in_time: bool = False
) -> tuple[Float[np.ndarray, "n k k"], Float[np.ndarray, "n k k"]]:
    """Transitions over some lengths of time in double precision, outside of any program.

    Reversed, they are those of the process with -Q: of what leads to S, run backwards once it is there.
    """
    d, q, s = (np.asarray(x, np.float64) for x in (process.friction, process.rotation, process.stationary))
    drift = -(d - q if reversed_in_time else d + q) @ np.linalg.inv(s)
    return _by_halves(np, scipy.linalg.expm, drift, d, np.asarray(lengths, np.float64)[:, None, None])


def exact_moments(
    process: AugmentedProcess, times: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, "n k"], Float[np.ndarray, "n k k"]]:
    """The moments at some times, likewise."""
    matrix, added = exact_transitions(process, times)
    rest = matrix[..., 1:]
    return matrix[..., 0], rest * np.asarray(process.first, np.float64) @ rest.swapaxes(-1, -2) + added


def check_augmented(value: Any) -> None:
    if not isinstance(value, AugmentedProcess):
        raise TypeError(f"process must be augmented, critically_damped() say, got {describe(value)}")


def check_variables(process: AugmentedProcess | Any, event: tuple[int, ...]) -> None:
    """Raise ValueError unless a draw of this shape has all variables of a process, if it is augmented."""
    count = len(getattr(process, "stationary", ()))
    if count and event[:1] != (count,):
        raise ValueError(f"shape must be (n, {count}, ...), with an axis of variables, got draws of shape {event}")


def critically_damped(
    inverse_mass: float = 4.0, rate: float = 4.0, first: float = 0.04, horizon: float = 1.0
) -> AugmentedProcess:
    r"""$dx = \beta M^{-1} v\, dt$, $dv = -\beta x\, dt - \beta \Gamma M^{-1} v\, dt + \sqrt{2 \Gamma \beta}\, dw$.

    With $\Gamma^2 = 4 M$ it forgets its start as fast as it can without swinging, on the way to
    $x \sim N(0, 1)$, $v \sim N(0, M)$.

    Args:
        inverse_mass: $M^{-1}$.
        rate: $\beta$.
        first: the variance of the velocity at time 0, as a share of M.
        horizon: the time at which it ends.

    Raises:
        TypeError, ValueError: a number that is not positive.

    Source: Dockhorn, Vahdat and Kreis (2022), Score-based generative modeling with critically-damped Langevin
    diffusion, ICLR, section 3, with the values of their experiments.
    """
    mass, rate = 1 / check_positive("inverse_mass", inverse_mass), check_positive("rate", rate)
    friction = np.diag([0.0, rate * 2 * np.sqrt(mass)])
    rotation = rate * np.array([[0.0, -1.0], [1.0, 0.0]])
    return AugmentedProcess(friction, rotation, np.diag([1.0, mass]), [check_positive("first", first) * mass], horizon)
