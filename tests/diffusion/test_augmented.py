"""Processes with velocities: their moments are integrals, closed forms where there are any, and invariant at last."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

from variate.diffusion import AugmentedProcess, critically_damped

NODES, WEIGHTS = np.polynomial.legendre.leggauss(30)
THREE = AugmentedProcess(
    np.diag([0.3, 0.0, 2.0]), [[0, -2, 0], [2, 0, -1], [0, 1, 0]], [[1, 0.2, 0], [0.2, 0.5, 0], [0, 0, 2]], [0.1, 0.0]
)
DAMPED = critically_damped()


def is_the_integral(process: AugmentedProcess) -> None:
    d, q, s = (np.asarray(x) for x in (process.friction, process.rotation, process.stationary))
    drift = -(d + q) @ np.linalg.inv(s)
    for start, end in ((0.2, 0.201), (0.1, 0.6)):
        matrix, added = process.transition(start, end)
        pieces = [expm(drift * 0.5 * (end - start) * (1 + x)) for x in NODES]
        integral = sum(0.5 * (end - start) * w * (m @ (2 * d) @ m.T) for w, m in zip(WEIGHTS, pieces, strict=True))
        np.testing.assert_allclose(matrix, expm(drift * (end - start)), rtol=1e-9, atol=1e-14)
        np.testing.assert_allclose(added, integral, rtol=1e-8, atol=1e-14)
        np.testing.assert_allclose(matrix @ s @ matrix.T + added, s, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("process", [THREE, DAMPED])
def test_transitions_are_integrals(process: AugmentedProcess) -> None:
    is_the_integral(process)


class Halved(AugmentedProcess):
    def transition(self, s: Any, t: Any) -> Any:
        matrix, added = super().transition(s, t)
        return matrix, 0.5 * added  # D for 2 D


class Turned(AugmentedProcess):
    def transition(self, s: Any, t: Any) -> Any:
        matrix, added = super().transition(s, t)
        return matrix.T, added


@pytest.mark.parametrize("kind", [Halved, Turned])
def test_mutants_are_not(kind: Any) -> None:
    with pytest.raises(AssertionError):
        is_the_integral(kind(THREE.friction, THREE.rotation, THREE.stationary, THREE.first))


def test_moments_are_those_of_critical_damping() -> None:
    """With unit friction, mass 1/4 and rate 4: from x at rest to (1 + 8 t, -4 t) exp(-8 t) x."""
    for t in (0.05, 0.4):
        mean, covariance = DAMPED.moments(t)
        np.testing.assert_allclose(mean, np.exp(-8 * t) * np.array([1 + 8 * t, -4 * t]), rtol=1e-9)
        # At rest but for a fifth of the speed that it has at last: the rest comes from the second column.
        second = np.exp(-8 * t) * np.array([16 * t, 1 - 8 * t])
        stationary = np.diag([1.0, 0.25])
        first = np.outer(mean, mean) + 0.24 * np.outer(second, second)
        np.testing.assert_allclose(covariance, stationary - first, rtol=1e-8, atol=1e-12)
    mean, covariance = DAMPED.moments(100.0)
    np.testing.assert_allclose(mean, 0, atol=1e-12)
    np.testing.assert_allclose(covariance, np.diag([1.0, 0.25]), atol=1e-10)


def test_noisy_points_have_these_moments() -> None:
    data = jnp.asarray([0.5, -2.0])
    draws = jax.vmap(lambda key: DAMPED.noisy(key, data, 0.1))(jax.random.split(jax.random.key(0), 20_000))
    mean, covariance = DAMPED.moments(0.1)
    rest = np.asarray(draws) - np.multiply.outer(np.asarray(mean), np.asarray(data))
    root = np.linalg.cholesky(np.asarray(covariance))
    white = np.einsum("ij,njd->nid", np.linalg.inv(root), rest).reshape(20_000, -1)
    z = np.sqrt(20_000) * np.concatenate([white.mean(0), (white[:, :, None] * white[:, None]).mean(0).ravel()])
    z[4:] = (z[4:] - np.sqrt(20_000) * np.eye(4).ravel()) / np.sqrt(1 + np.eye(4)).ravel()
    assert np.all(np.abs(z) < 5.7)  # 20 of them: 2.4e-7 in all


EYE = np.eye(2)
TURN = np.array([[0.0, -1.0], [1.0, 0.0]])
BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "shapes": (lambda: AugmentedProcess(EYE, TURN, np.eye(3), [1.0]), "must be square matrices of one size"),
    "a rotation that is none": (lambda: AugmentedProcess(EYE, EYE, EYE, [1.0]), "rotation must be skew-symmetric"),
    "negative friction": (lambda: AugmentedProcess(-EYE, TURN, EYE, [1.0]), "friction must be symmetric and positive"),
    "no covariance": (lambda: AugmentedProcess(EYE, TURN, -EYE, [1.0]), "stationary must be symmetric and positive"),
    "a variable apart": (lambda: AugmentedProcess(np.diag([0.0, 1.0]), 0 * EYE, EYE, [1.0]), "friction must reach"),
    "no mass": (lambda: critically_damped(0.0), "inverse_mass must be"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused(name: str) -> None:
    make, words = BAD[name]
    with pytest.raises(ValueError, match=words):
        make()
