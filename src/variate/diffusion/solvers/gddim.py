"""DDIM with matrices: the probability flow of augmented processes, between whose variables noise moves."""

from itertools import pairwise
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from scipy.integrate import solve_ivp

from variate.checks import check_positive_int

from ..processes.augmented import AugmentedProcess, check_augmented, check_variables
from ..processes.base import Level
from .base import Coefficient, Stage, State

NODES, WEIGHTS = np.polynomial.legendre.leggauss(8)  # of the integral over a step


class GDDIM(eqx.Module):
    r"""$z_t = m_t\, \hat x_0 + R_t R_s^{-1} (z_s - m_s\, \hat x_0)$ for the variables z of an augmented process.

    $m_t$ and $\Sigma_t = R_t R_t^\top$ are its moments, with the root for which $R' = F R + D R^{-\top}$: a step is
    exact where the predicted data do not change, whatever its length. With `order` 2 they change linearly in time,
    through the last two predictions. A draw is an array of k variables, the first of which is the data: `sample` is
    given the shape (n, k, ...), and starts from normal noise of covariance $\Sigma$.

    It does nothing but multiply and add: the roots are found beforehand, in double precision. The wrong choice where
    noise on the way is to forgive the network its errors (`SSCS`), and on other processes, where it is `DDIM`.

    Raises:
        ValueError: an order that is not 1 or 2; times that end at 0, where the root has no inverse, or draws of other
            variables.
        TypeError: a process that is not augmented.

    Source: Zhang, Tao and Chen (2023), gDDIM: generalized denoising diffusion implicit models, ICLR, section 4, with
    polynomials through the data in place of the noise.
    """

    order: int = eqx.field(static=True, default=2)

    def __check_init__(self) -> None:
        check_positive_int("order", self.order, at_most=2)

    def plan(self, process: AugmentedProcess | Any, times: np.ndarray) -> "Moved":
        check_augmented(process)
        if times[-1] <= 0:
            raise ValueError(f"times must end where there is noise left, got {times[-1]}")
        friction, at = np.asarray(process.friction, np.float64), paths(process, times)
        levels, moved, held, slopes = [], [], [], []
        for i, (s, t) in enumerate(pairwise(times)):
            (mean_s, root_s), (mean_t, root_t) = at(s), at(t)
            matrix = root_t @ np.linalg.inv(root_s)
            levels.append((s, mean_s, root_s))
            moved.append(matrix)
            held.append(mean_t - matrix @ mean_s)
            integral = np.zeros_like(mean_s)
            if self.order == 2 and i:
                for node, weight in zip(0.5 * (1 + NODES), 0.5 * WEIGHTS, strict=True):
                    mean, root = at(s + node * (t - s))
                    pull = friction @ np.linalg.inv(root @ root.T) @ mean
                    integral -= weight * (t - s) ** 2 * node * (root_t @ np.linalg.solve(root, pull))
                integral /= s - times[i - 1]
            slopes.append(integral)
        return Moved(Level(*map(np.array, zip(*levels, strict=True))), *map(np.array, (moved, held, slopes)))

    def check_model(self, model: Any, event: tuple[int, ...]) -> None:
        check_variables(model.process, event)


def paths(process: AugmentedProcess, times: np.ndarray) -> Any:
    """m and R between the last of some times and the first, as a function."""
    with jax.ensure_compile_time_eval(), jax.enable_x64(True):
        exact = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), process)
        first, covariance = map(np.asarray, exact.moments(float(times[-1])))
        drift = np.asarray(exact.drift)
    friction, k = np.asarray(process.friction, np.float64), len(first)

    def speed(_: float, flat: np.ndarray) -> np.ndarray:
        root = flat[k:].reshape(k, k)
        return np.concatenate([drift @ flat[:k], (drift @ root + friction @ np.linalg.inv(root).T).ravel()])

    start = np.concatenate([first, np.linalg.cholesky(covariance).ravel()])
    found = solve_ivp(speed, (times[-1], times[0]), start, "DOP853", dense_output=True, rtol=1e-12, atol=1e-13)

    def at(t: float) -> tuple[np.ndarray, np.ndarray]:
        both = found.sol(t)
        return both[:k], both[k:].reshape(k, k)

    return at


class Moved(Stage):
    """One step of all variables."""

    level: Level
    matrix: Coefficient  # of the variables
    held: Coefficient  # of the predicted data, one a variable
    slope: Coefficient  # of how they changed since the last prediction

    def init(self, x: Float[Array, "k ..."]) -> State:
        return State(x, None, (jnp.zeros_like(x[0]),))

    def step(self, key: Key[Array, ""], model: Any, state: State) -> State:
        data = model.predict(state.x, self.level).data
        kept = jnp.tensordot(self.matrix, state.x, 1) + jnp.multiply.outer(self.held, data)
        return State(kept + jnp.multiply.outer(self.slope, data - state.history[0]), None, (data,))
