"""The two laws of a distribution: its draws follow its density, whose derivatives are those of its values.

Draws against density, at most 1e-6 false alarms a row: in one dimension counts in cells against the integral of the
density (chi-square); in more the identities of Fisher and Bartlett: the score has the mean 0, its square along a
direction that of minus the second derivative (z-tests, Bonferroni). Derivatives: differences of fourth order in double
precision, one-sided at the edge of the parameters, to a tolerance of the difference between two step sizes, which
bounds the truncation, and of the rounding of the values.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree
from numpyro.distributions import constraints
from scipy import stats

from variate.programs import distributions

ALPHA = 1e-6
DRAWS = 16384
PILOT = 2048
FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # halves the compile time
NODES, WEIGHTS = np.polynomial.legendre.leggauss(16)
STEP = 2e-3
ULPS = 100  # of the values of special functions
# Offsets (the last is the place itself) and weights, for the step and for half of it: central, and one-sided.
STENCILS = {
    0: (
        np.array([-2, -1, -0.5, 0.5, 1, 2, 0]),
        np.array([1, -8, 0, 0, 8, -1, 0]) / 12,
        np.array([0, 1, -8, 8, -1, 0, 0]) / 6,
    ),
    1: (
        np.array([0.5, 1, 1.5, 2, 3, 4, 0]),
        np.array([0, 48, 0, -36, 16, -3, -25]) / 12,
        np.array([48, -36, 16, -3, 0, 0, -25]) / 6,
    ),
}
BASE = -1


class Point(NamedTuple):
    """A special place: parameters that differ from the row's, a value, and what is differentiated from which side."""

    value: Any
    changed: Mapping[str, Any] = MappingProxyType({})
    wrt: tuple[str, ...] | None = None  # parameters, "value" too; all parameters if None
    side: int = 0  # 1: only larger ones are allowed, -1: only smaller ones


class Row(NamedTuple):
    make: Callable[..., Any]
    parameters: dict[str, Any]
    law: Callable[..., float]
    special: tuple[Point, ...] = ()
    order: int = 2  # JAX has no second derivative of the incomplete gamma function in its shape
    lanes: int | None = None  # evaluated at a time; a few where the density is expensive
    slow: bool = False  # a sampler that takes longer to run badly compiled than to compile well


class Methods(NamedTuple):
    """What is judged: ours, or a mutant's."""

    log_prob: Callable[[Any, Any], Array] = distributions.log_prob
    sample: Callable[[Any, Array], Any] = distributions.sample


def loosely(function: Callable) -> Callable:
    """NumPyro's constructors and supports mix dtypes and ranks."""

    def loose(*args: Any, **kwargs: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return function(*args, **kwargs)

    return loose


@loosely
def build(row: Row, **changed: Any) -> Any:
    return row.make(**(row.parameters | changed))


def draw(row: Row, key: Array, methods: Methods = Methods(), count: int = PILOT + DRAWS) -> Any:
    """Draws with keys of their own."""
    many = jax.vmap(lambda key: methods.sample(build(row), key))
    return jax.jit(many, compiler_options=None if row.slow else FAST)(jax.random.split(key, count))


def p_value(row: Row, drawn: Any, methods: Methods = Methods()) -> float:
    """Of the first law; the pilot's draws only say where to put the cells."""
    pilot = jax.tree.map(lambda x: np.asarray(x)[:PILOT], drawn)
    return row.law(row, pilot, jax.tree.map(lambda x: np.asarray(x)[PILOT:], drawn), methods)


def _density(row: Row, methods: Methods, values: Any) -> np.ndarray:
    function = jax.jit(lambda x: methods.log_prob(build(row), x), compiler_options=FAST)
    return np.exp(np.asarray(function(jnp.asarray(values))))


def _chi_square(observed: np.ndarray, probability: np.ndarray) -> float:
    """Of counts in cells that need not cover everything: the rest is one more cell, and small cells are part of it."""
    expected = probability * DRAWS
    kept = expected >= 40
    observed = np.append(observed[kept], DRAWS - observed[kept].sum())
    expected = np.append(expected[kept], DRAWS - expected[kept].sum())
    if expected[-1] < 40:  # a rest too small to test by itself, and where it is far below 0 no density at all
        observed[-2] += observed[-1]
        expected[-2] += max(expected[-1], -40)
        observed, expected = observed[:-1], expected[:-1]
    return float(stats.chi2.sf(np.sum((observed - expected) ** 2 / expected), max(len(expected) - 1, 1)))


def counts(row: Row, pilot: np.ndarray, drawn: np.ndarray, methods: Methods) -> float:
    """For whole numbers."""
    values = np.arange(min(pilot.min(), 0), pilot.max() + 1).astype(pilot.dtype)
    return _chi_square(np.array([np.sum(drawn == value) for value in values]), _density(row, methods, values))


def bins(row: Row, pilot: np.ndarray, drawn: np.ndarray, methods: Methods) -> float:
    """For real numbers; 0 is a cell of its own where it is drawn more than once."""
    atom = np.sum(pilot == 0) > 1
    edges = np.quantile(pilot[pilot != 0] if atom else pilot, np.linspace(0.01, 0.99, 41))
    middle, half = (edges[1:] + edges[:-1]) / 2, np.diff(edges) / 2
    inside = _density(row, methods, middle[:, None] + half[:, None] * NODES) @ WEIGHTS * half
    observed = np.histogram(drawn[drawn != 0] if atom else drawn, edges)[0]
    if atom:
        inside = np.append(inside, _density(row, methods, np.zeros(1)))
        observed = np.append(observed, np.sum(drawn == 0))
    return _chi_square(observed, inside)


def torus(row: Row, pilot: np.ndarray, drawn: np.ndarray, methods: Methods) -> float:
    """For two angles: 8 x 8 cells."""
    edges = np.linspace(-np.pi, np.pi, 9)
    axis = ((edges[1:] + edges[:-1])[:, None] / 2 + np.pi / 8 * NODES).ravel()
    density = _density(row, methods, np.stack(np.meshgrid(axis, axis, indexing="ij"), -1))
    inside = np.einsum("iajb,a,b->ij", density.reshape(8, 16, 8, 16), WEIGHTS, WEIGHTS) * (np.pi / 8) ** 2
    return _chi_square(np.histogram2d(drawn[:, 0], drawn[:, 1], (edges, edges))[0].ravel(), inside.ravel())


class Derivatives(NamedTuple):
    value: np.ndarray  # [points]
    gradient: np.ndarray  # [points, coordinates]
    curvature: np.ndarray  # [points, coordinates]: second derivatives times the direction


def _derive(row: Row, methods: Methods, unravel: Callable, flat: Any, fixed: Any, direction: Any) -> Derivatives:
    """At each point, by reverse mode, and forward over it, as a gradient and its derivative are taken in use."""

    def log_prob(coordinates: Array, value: Any) -> Array:
        changed = unravel(coordinates)
        value = changed.pop("value", value)
        return jnp.sum(methods.log_prob(build(row, **changed), value))

    def one(point: tuple[Array, Any, Array]) -> tuple[Array, Array, Array]:
        coordinates, value, direction = point
        both = jax.value_and_grad(lambda coordinates: log_prob(coordinates, value))
        if row.order == 1:
            return *both(coordinates), jnp.zeros_like(coordinates)
        (value, gradient), (_, curvature) = jax.jvp(both, (coordinates,), (direction,))
        return value, gradient, curvature

    over = jax.vmap(one) if row.lanes is None else lambda points: lax.map(one, points, batch_size=row.lanes)
    points = jax.tree.map(jnp.asarray, (flat, fixed, direction))
    return Derivatives(*map(np.asarray, jax.jit(over, compiler_options=FAST)(points)))


def scores(row: Row, pilot: Any, drawn: Any, methods: Methods) -> float:
    """For everything else."""
    flat, unravel = ravel_pytree(row.parameters)
    direction = np.random.default_rng(0).uniform(0.5, 1, flat.size)
    everywhere = [np.broadcast_to(vector, (DRAWS, flat.size)) for vector in (flat, direction)]
    _, score, curvature = _derive(row, methods, unravel, everywhere[0], drawn, everywhere[1])
    identities = np.column_stack([score, (score @ direction) ** 2 + curvature @ direction])
    mean, error = identities.mean(0), identities.std(0) / np.sqrt(DRAWS)
    z = np.abs(mean) / np.where(error > 0, error, 1)
    return float(np.min(2 * stats.norm.sf(z), initial=1) * len(z))


class Line(NamedTuple):
    """A place in the coordinates of a row, a direction there, and how differences along it are taken."""

    start: Array
    direction: np.ndarray
    value: Any  # where the density cannot be differentiated in it
    stencil: tuple[np.ndarray, np.ndarray, np.ndarray]
    unravel: Callable


def _line(row: Row, place: Point, like: Any, scale: Any, random: np.random.Generator) -> Line:
    """`scale` is that of the draws, None if the value is no coordinate."""
    value = jax.tree.map(lambda x, like: jnp.asarray(x, like.dtype), place.value, like)
    inputs = {**row.parameters, **place.changed, **({} if scale is None else {"value": value})}
    wrt = row.parameters.keys() if place.wrt is None else place.wrt

    def size(name: str, x: Array) -> Array:
        natural = jnp.where(x == 0, 1, jnp.abs(x)) if name != "value" else jnp.broadcast_to(scale, x.shape)
        return natural if name in wrt else jnp.zeros_like(x)

    sizes, _ = ravel_pytree({name: jax.tree.map(lambda x, name=name: size(name, x), x) for name, x in inputs.items()})
    start, unravel = ravel_pytree(inputs)
    signs = place.side or random.choice([-1, 1], sizes.shape)
    direction = signs * random.uniform(0.5, 1, sizes.shape) * np.asarray(sizes)
    return Line(start, direction, value, STENCILS[abs(place.side)], unravel)


def worst_derivative(row: Row, drawn: Any, methods: Methods = Methods()) -> float:
    """Of the second law: the largest error of a first or second derivative in tolerances, at two draws and elsewhere.

    Infinite where it is not finite, or where the values are too rough for the differences to judge it.
    """
    flat = np.reshape(jax.tree.leaves(drawn)[0], (PILOT + DRAWS, -1))
    ranks = np.argsort(np.sum(flat, axis=1))[[DRAWS // 2, DRAWS * 3 // 4]]
    places = [Point(jax.tree.map(lambda x, i=i: x[i], drawn)) for i in ranks]
    scale = None
    if _moves(row):
        scale = np.subtract(*np.quantile(np.asarray(drawn), [0.75, 0.25], axis=0))
        places = [place._replace(wrt=(*row.parameters, "value")) for place in places]
    random = np.random.default_rng(0)
    lines = [_line(row, place, places[0].value, scale, random) for place in [*places, *row.special] * 2]
    unravel = lines[0].unravel
    direction = np.stack([line.direction for line in lines])
    offsets, whole, half = (np.stack(part) for part in zip(*(line.stencil for line in lines), strict=True))
    points = np.stack([line.start for line in lines])[:, None] + STEP * offsets[:, :, None] * direction[:, None]
    count = points.shape[1]
    found = _derive(
        row,
        methods,
        unravel,
        points.reshape(-1, points.shape[-1]),
        jax.tree.map(lambda *x: jnp.repeat(jnp.stack(x), count, axis=0), *(line.value for line in lines)),
        np.repeat(direction, count, axis=0),
    )
    value, gradient, curvature = (x.reshape(len(points), count, *x.shape[1:]) for x in found)
    along = np.where(direction[:, None] != 0, gradient * direction[:, None], 0)
    errors = [_error(along[:, BASE].sum(-1), value, whole, half)]
    if row.order > 1:
        got = np.where(direction != 0, curvature[:, BASE] * direction, 0)
        errors.append(_error(got, along, whole[..., None], half[..., None]))
    return max(float(np.max(error)) for error in errors)


def _error(got: np.ndarray, values: np.ndarray, whole: np.ndarray, half: np.ndarray) -> np.ndarray:
    """How far a derivative is from the differences of the values along axis 1, in tolerances."""
    with np.errstate(invalid="ignore"):
        coarse, fine = np.sum(whole * values, axis=1) / STEP, np.sum(half * values, axis=1) / STEP
        rounding = ULPS * np.finfo(float).eps * np.max(np.abs(values), axis=1) * np.sum(np.abs(half), axis=1) / STEP
        tolerance = np.abs(coarse - fine) + rounding
        error = np.abs(got - fine) / np.where(tolerance > 0, tolerance, 1)
    return np.where(np.isfinite(error) & (tolerance <= 1e-4 * (1 + np.abs(fine))), error, np.inf)


def _moves(row: Row) -> bool:
    """Whether the density can be differentiated in the value: where the support is a box in all of its coordinates."""
    found = []
    jax.eval_shape(lambda: found.append(loosely(lambda: getattr(build(row), "support", None))()))
    support = found[0]
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return isinstance(support, constraints.Constraint) and not (support.is_discrete or support.event_dim)
