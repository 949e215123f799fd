"""The scale of a target: what makes its draws, or its draws and gradients together, as round as can be."""

import numpy as np
from jaxtyping import Float
from scipy import linalg

DENSE = 200  # coordinates; beyond, each has a scale of its own
_FLOOR = 1e-10  # of a variance, beside the largest: what rounding leaves of it


def of_gradients(
    positions: Float[np.ndarray, "n d"], gradients: Float[np.ndarray, "n d"], *, dense: bool
) -> Float[np.ndarray, "..."]:
    r"""S such that $S^{-1} x$ has the covariance that $S^\top \nabla \log \pi$ has, near the identity for a normal law.

    $S S^\top = C_x \# C_g^{-1}$, the geometric mean of the covariance of draws and the inverse of that of gradients,
    which minimizes the Fisher divergence to a normal law. For a normal target it is the covariance, whatever law the
    positions have: gradients tell as much as draws. Each coordinate is first scaled by $(C_x / C_g)^{1/4}$ of its own,
    which is all if not `dense`; then each covariance is mixed with the identity, of weight $(d / (n + d))^2$.

    Source: Seyboldt, Carlson and Carpenter (2026), Preconditioning Hamiltonian Monte Carlo by minimizing Fisher
    divergence, arXiv:2603.18845.
    """
    x, g = positions - positions.mean(0), gradients - gradients.mean(0)
    each = np.sqrt(_positive(x.std(0)) / _positive(g.std(0)))
    if not dense:
        return each
    n, d = x.shape
    least = (d / (n + d)) ** 2  # of the eigenvalues, but for rounding
    spread, slope = (_shrunk(y.T @ y / n, least) for y in (x / each, g * each))
    values, vectors = linalg.eigh(slope)
    root, inverse = (vectors * np.maximum(values, least) ** power @ vectors.T for power in (0.5, -0.5))
    # A # B^-1 = B^-1/2 (B^1/2 A B^1/2)^1/2 B^-1/2
    values, vectors = linalg.eigh(root @ spread @ root)
    mean = inverse @ (vectors * np.sqrt(np.maximum(values, least**2)) @ vectors.T) @ inverse
    try:
        return each[:, None] * linalg.cholesky(mean, lower=True)
    except linalg.LinAlgError:  # too many scales apart for a triangle
        return np.diag(each)


def of_draws(positions: Float[np.ndarray, "n d"], *, dense: bool) -> Float[np.ndarray, "..."]:
    """S with the covariance of draws as its square, with the weight (d / (n + d))² of its diagonal."""
    x = positions - positions.mean(0)
    each = _positive(x.std(0))
    if not dense:
        return each
    n, d = x.shape
    correlation = (x / each).T @ (x / each) / n
    np.fill_diagonal(correlation, 1)
    return each[:, None] * linalg.cholesky(_shrunk(correlation, (d / (n + d)) ** 2), lower=True)


def _shrunk(matrix: np.ndarray, weight: float) -> np.ndarray:
    return (1 - weight) * matrix + weight * np.eye(len(matrix))


def _positive(spread: np.ndarray) -> np.ndarray:
    """Coordinates that do not move keep a scale of one."""
    return np.where(spread > _FLOOR * np.max(spread, initial=0), spread, 1.0)
