"""Draws made of gammas and the noise that comes with them, at nodes at which sums over their density are integrals."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from gradients.exactness import derivatives
from jax import Array, lax
from jax.nn import sigmoid
from jax.scipy.special import gammaln
from programs.laws import loosely

from variate.gradients.rules.acceptance_rejection import FAMILIES, Noise, reparameterized
from variate.programs import distributions


class Exact(NamedTuple):
    """A law of parameters, nodes of its values as (values, weights), and what its expectation is taken of."""

    make: Callable[[Array], Any]
    at: list[float]
    nodes: Callable[[], tuple[Array, Array]]
    functions: Callable[[Array], list[Array]]
    augmentation: int = 0
    order: int = 2
    step: float = 0.3


def line(low: float, high: float, step: float) -> Array:
    """Nodes of the trapezoidal rule, which on a line converges as fast as what it integrates decays."""
    return jnp.arange(low, high, step)


def positive(low: float = -42.0, high: float = 4.4, step: float = 0.2) -> tuple[Array, Array]:
    x = jnp.exp(line(low, high, step))
    return x, x * step


def fraction(reach: float = 24.0, step: float = 0.2) -> tuple[Array, Array]:
    y = line(-reach, reach, step)
    return sigmoid(y), sigmoid(y) * sigmoid(-y) * step


def real(step: float = 0.1) -> tuple[Array, Array]:
    y = line(-14.0, 14.0, step)
    return jnp.sinh(y), jnp.cosh(y) * step


def simplex() -> tuple[Array, Array]:
    x, weight = fraction(20.0, 0.4)
    first, second = jnp.meshgrid(x, x, indexing="ij")
    values = jnp.stack([first, (1 - first) * second, (1 - first) * (1 - second)], axis=-1)
    return values.reshape(-1, 3), (jnp.outer(weight * (1 - x), weight)).ravel()


def smooth(x: Array) -> list[Array]:
    return [x**2, jnp.exp(-x), x / (1 + x)]


def tails(x: Array) -> list[Array]:
    return [x, x / (1 + x**2)]


def products(x: Array) -> list[Array]:
    return [x[..., 0] ** 2 * x[..., 1], jnp.exp(x[..., 2])]


EXACT = {
    "gamma": Exact(lambda t: dist.Gamma(t[0], t[1]), [1.7, 1.3], positive, smooth),
    "gamma, augmented": Exact(lambda t: dist.Gamma(t[0], t[1]), [0.7, 1.3], positive, smooth, 1),
    "gamma, augmented twice": Exact(
        lambda t: dist.Gamma(t[0], t[1]), [0.7, 1.3], lambda: positive(step=0.4), smooth, 2, 1, 0.4
    ),
    "inverse gamma": Exact(lambda t: dist.InverseGamma(t[0], t[1]), [2.7, 1.3], lambda: positive(-5.0, 40.0), tails),
    "chi square": Exact(lambda t: dist.Chi2(t[0]), [3.2], positive, smooth, order=1),
    "beta": Exact(lambda t: dist.Beta(t[0], t[1]), [1.8, 2.4], fraction, smooth),
    "beta of a proportion": Exact(lambda t: dist.BetaProportion(t[0], t[1]), [0.4, 4.5], fraction, smooth, order=1),
    "dirichlet": Exact(dist.Dirichlet, [1.8, 2.2, 1.5], simplex, products, order=1),
    "student": Exact(lambda t: dist.StudentT(t[0], t[1], t[2]), [5.2, 0.3, 1.2], real, tails),
}


def auxiliary(row: Exact, law: Any, x: Array) -> tuple[Array, Noise, Array]:
    """Places among the values, the noise that comes with them, and its weights."""
    family = FAMILIES[type(law)]
    y = line(-34.0, 4.4, row.step)
    axes = [jnp.arange(len(x))]
    parts = family.gammas(law, x[:1], jnp.ones(1)).shape[-1]
    axes += [y] * (row.augmentation * parts + (family.total is not None))
    place, *logs = (axis.ravel() for axis in jnp.meshgrid(*axes, indexing="ij"))
    total, weight = jnp.ones(()), jnp.ones_like(place, float)
    if family.total is not None:
        total, concentration = jnp.exp(logs[0]), family.total(law, x)[place]
        weight = jnp.exp(concentration * logs.pop(0) - total - gammaln(concentration)) * row.step
    added = jnp.exp(jnp.stack(logs)) if logs else jnp.ones((0, len(place)))
    weight = weight * jnp.prod(added * jnp.exp(-added) * row.step, axis=0)
    by_step = added.reshape(row.augmentation, parts, len(place))
    return place, Noise(total, jnp.swapaxes(by_step, 1, 2)), weight


@loosely
def expectations(row: Exact, t: Array) -> Array:
    x, size = row.nodes()
    density = jnp.exp(distributions.log_prob(row.make(t), x))
    return jnp.stack(row.functions(x)) @ (size * density)


@loosely
def corrected(row: Exact, t: Array) -> Array:
    """The same, with the derivatives that moved values and the densities of their noise have by themselves."""
    x, size = row.nodes()
    held = row.make(lax.stop_gradient(t))
    weight = size * jnp.exp(distributions.log_prob(held, x))
    place, noise, weights = auxiliary(row, held, x)
    moved, log_densities = reparameterized(row.make(t), x[place], noise)
    log_density = jnp.sum(log_densities, axis=-1)
    values = jnp.stack(row.functions(moved)) * jnp.exp(log_density - lax.stop_gradient(log_density))
    return values @ lax.stop_gradient(weight[place] * weights)


def discrepancies(row: Exact, order: int) -> list[float]:
    """Of the derivatives of each order, relative to what they are."""
    at = jnp.asarray(row.at)
    exact, found = (jax.jit(derivatives(functools.partial(f, row), order))(at) for f in (expectations, corrected))
    return [float(jnp.max(jnp.abs(a - b) / (1 + jnp.abs(a)))) for a, b in zip(exact, found, strict=True)]
