"""The optimal transport of white noise to noisy data, in place of the first part of a run (DPM-OT)."""

import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from variate.checks import check_column, check_key, check_number, check_positive, check_positive_int, describe
from variate.estimates import Estimate

from ..checks import check_points
from ..fitted.base import Saved, Tables, Told
from ..processes.base import Process, check_process, exact_levels

BLOCK, GROUPS, SURE = 50, 16, 3.0  # steps between looks at masses; of how many parts a look is, and standard errors
RATE, FIRST, SECOND = 0.3, 0.9, 0.99  # of Adam: in the spread of the points, and of its means
GAIN = 0.8  # less than this between looks, or steps are halved
PIECE = 1024  # noise that is mapped at once


class Transport(Saved):
    r"""The map of white noise z to the point $y_j$ in whose cell it lies, the j that is best at $z \cdot y_j + h_j$.

    What `fit_transport` finds; `transport(noise)` is a start for `vt.diffusion.sample` whose times begin at `time`.
    """

    points: Float[Array, "n ..."]  # y, noisy data
    potentials: Float[Array, " n"]  # h, with mean zero by weight
    weights: Float[Array, " n"]
    masses: Float[Array, " n"]  # of the cells, as measured in the end
    divergence: Estimate  # chi-square: the mean square, by weight, of the relative errors of the masses
    time: float = eqx.field(static=True)
    steps: int = eqx.field(static=True)  # that were taken
    converged: bool = eqx.field(static=True)  # whether the masses were as near as they were asked to be

    def cells(self, noise: Float[Array, "m ..."]) -> Int[Array, " m"]:
        """Which point each is mapped to."""
        event = self.points.shape[1:]
        if jnp.ndim(noise) != self.points.ndim or jnp.shape(noise)[1:] != event:
            shape = ", ".join(["m", *map(str, event)])
            raise ValueError(f"noise must be standard normal, of the shape ({shape}), got {describe(noise)}")
        flat, points = (x.reshape(len(x), -1) for x in (noise, self.points.astype(noise.dtype)))
        potentials = self.potentials.astype(noise.dtype)
        return jax.lax.map(lambda z: jnp.argmax(points @ z + potentials), flat, batch_size=PIECE)

    def __call__(self, noise: Float[Array, "m ..."]) -> Float[Array, "m ..."]:
        return self.points[self.cells(noise)].astype(noise.dtype)

    def _written(self) -> tuple[Told, Tables]:
        told = {"time": self.time, "steps": self.steps, "converged": self.converged}
        told |= {"num_samples": int(self.divergence.num_samples)}
        tables = {name: np.asarray(getattr(self, name)) for name in ("points", "potentials", "weights", "masses")}
        return told, tables | {name: np.asarray(getattr(self.divergence, name)) for name in ("value", "stderr")}

    @classmethod
    def _read(cls, told: Told, tables: Tables) -> "Transport":
        arrays = {name: jnp.asarray(tables[name], float) for name in ("points", "potentials", "weights", "masses")}
        value, stderr = (jnp.asarray(tables[name], float) for name in ("value", "stderr"))
        divergence = Estimate(value, stderr, num_samples=told["num_samples"])
        return cls(divergence=divergence, time=told["time"], steps=told["steps"], converged=told["converged"], **arrays)

    def __repr__(self) -> str:
        n, *event = self.points.shape
        said = "" if self.converged else f"\nnot converged in {self.steps:,} steps"
        return (
            f"white noise to {n:,} points of shape {tuple(event)} at time {self.time:.4g}; mean square of the relative "
            f"errors of masses {self.divergence}{said}"
        )


def fit_transport(
    key: Key[Array, ""],
    process: Process | Any,
    rows: Any,
    time: float | Any,
    *,
    weights: Any = None,
    tolerance: float | Any = 0.1,
    steps: int | Any = 10_000,
    batch: int | Any = 4096,
) -> Transport:
    r"""The optimal transport of white noise to noisy data $y_j = \alpha x_j + \sigma \epsilon_j$ at a time.

    Of all maps that put the mass $w_j$ on each $y_j$, it is that of the least mean square distance: the gradient of
    Brenier's potential $u(z) = \max_j z \cdot y_j + h_j$. The h minimize $E[u(z)] - \sum_j w_j h_j$, which is convex
    and has the gradient $m_j - w_j$, with the masses m of the cells of white noise. They are found by Adam on counts of
    random noise, with steps that are halved when they gain nothing. Every 50 steps, or more where a mean over so few is
    too noisy, their means over those are measured on as much fresh noise as it takes to tell. It ends where the mean
    square of the relative errors of the masses, $\sum_j (m_j - w_j)^2 / w_j$, is below `tolerance`$^2$ by three
    standard errors; no more than half the tolerance of the mass is then in wrong cells. What the result says of its
    masses is measured once more.

    A run may `start` at what noise is mapped to, and skip all before. The same noise always makes the same start, near
    noise near ones where that can be, and modes are not mixed on the way. But starts are the rows that were given, each
    with one noise: a solver without noise ends at no more than that many points. Where no draw needs to belong to its
    noise, rows drawn at random with fresh noise are starts with the right law, and cost nothing. The wrong choice too
    without data at hand, or with more rows than can be compared with each noise.

    Args:
        key: of the noise of the points, and of that which is transported.
        process: how noise takes over.
        rows: the data $x_j$, along the first axis.
        time: of the points; the less it is, the more a draw is a copy of its row.
        weights: w, up to a factor; equal by default.
        tolerance: root of the mean square, by weight, of the relative errors of masses.
        steps: after how many to give up.
        batch: how much noise a step looks at; it takes memory for as many numbers times rows.

    Returns:
        A `Transport`, whose `converged` is False where the steps were not enough.

    Raises:
        TypeError, ValueError: an argument that is none of the above, fewer than two rows, or ones that are not finite.

    Source: Li, Li, Wang, Lei, Luo and Gu (2023), DPM-OT: a new diffusion probabilistic model based on optimal
    transport, ICCV, after An, Guo, Lei, Luo, Yau and Gu (2020), AE-OT, ICLR. Their extension of the map between
    neighbouring cells is left out, as a mean of noisy points has too little noise for its time; and so is that noise
    near the border of points far apart is thrown away, which changes the masses.
    """
    check_key(key)
    check_process(process)
    rows = check_points("rows", rows).astype(float)
    if rows.ndim < 2 or len(rows) < 2 or not np.all(np.isfinite(rows)):
        raise ValueError(f"rows must be finite numbers, two points or more, one a row, got {describe(rows)}")
    time = check_number("time", time)
    if not 0 <= time <= process.horizon:
        raise ValueError(f"time must lie between 0 and {process.horizon}, the horizon, got {time}")
    shares = check_column("weights", weights, len(rows))
    shares = shares / np.sum(shares)
    tolerance, steps = check_positive("tolerance", tolerance), check_positive_int("steps", steps)
    batch = check_positive_int("batch", batch)
    key_points, key_fit = jax.random.split(key)
    level = exact_levels(process, time)
    noise = jax.random.normal(key_points, rows.shape, rows.dtype)
    points = jnp.asarray(level.alpha, rows.dtype) * rows + jnp.asarray(level.sigma, rows.dtype) * noise
    problem = Problem(points.reshape(len(points), -1), jnp.asarray(shares, rows.dtype))
    # As many steps that the noise of their mean is half of what is to be told, and of what is measured a third of that.
    each = max(BLOCK, math.ceil(2 * len(rows) / (tolerance**2 * batch)))
    sizes = math.ceil(6 * math.sqrt(2 * len(rows) / GROUPS) / (tolerance**2 * batch)), batch
    state, rate, before, taken, converged = problem.begin(), RATE, math.inf, 0, False
    potentials = state.potentials
    while not converged and taken < steps:
        key_steps, key_look, key_fit = jax.random.split(key_fit, 3)
        state, potentials = _descended(key_steps, problem, state, jnp.asarray(rate, rows.dtype), (each, batch))
        taken += each
        found, error = (float(x) for x in _measured(key_look, problem, potentials, sizes)[1:])
        converged = found + SURE * error < tolerance**2
        rate, before = rate if found < GAIN * before else rate / 2, found
    masses, found, error = _measured(key_fit, problem, potentials, sizes)
    divergence = Estimate(found, error, num_samples=GROUPS * sizes[0] * batch)
    return Transport(points, potentials, problem.weights, masses, divergence, time, taken, converged)


class State(NamedTuple):
    """Of Adam: the potentials, means of slopes and of their squares, and how many steps were taken."""

    potentials: Float[Array, " n"]
    mean: Float[Array, " n"]
    square: Float[Array, " n"]
    count: Float[Array, ""]


class Problem(NamedTuple):
    """What is to be transported to."""

    points: Float[Array, "n d"]
    weights: Float[Array, " n"]

    @property
    def squares(self) -> Float[Array, " n"]:
        """Of the distances from the mean."""
        return jnp.sum((self.points - (self.weights @ self.points)[None]) ** 2, axis=1)

    def begin(self) -> State:
        r"""From $-|y|^2 / 2 \tau$, right for many normal points; of few in many dimensions, lengths count for less."""
        n, d = self.points.shape
        spread = jnp.sqrt(self.weights @ self.squares / d)
        lengths = min(1.0, math.sqrt(2 * math.log(n) / d)) * self.squares / (2 * spread)
        potentials = self.weights @ lengths - lengths
        return State(potentials, jnp.zeros_like(potentials), jnp.zeros_like(potentials), jnp.zeros((), spread.dtype))

    def counts(self, key: Key[Array, ""], potentials: Float[Array, " n"], batch: int) -> Float[Array, " n"]:
        """Of so much noise, by cells."""
        noise = jax.random.normal(key, (batch, self.points.shape[1]), self.points.dtype)
        cells = jnp.argmax(noise @ self.points.T + potentials[None], axis=1)
        return jnp.zeros_like(potentials).at[cells].add(1.0)


@eqx.filter_jit
def _descended(
    key: Key[Array, ""], problem: Problem, state: State, rate: Float[Array, ""], sizes: tuple[int, int]
) -> tuple[State, Float[Array, " n"]]:
    """Some steps, and the mean of the potentials over them."""
    steps, batch = sizes
    size = rate * jnp.sqrt(problem.weights @ problem.squares)

    def step(state: State, key: Key[Array, ""]) -> tuple[State, Array]:
        slope = problem.counts(key, state.potentials, batch) / batch - problem.weights
        count = state.count + 1
        mean = FIRST * state.mean + (1 - FIRST) * slope
        square = SECOND * state.square + (1 - SECOND) * slope**2
        root = jnp.sqrt(square / (1 - SECOND**count))
        move = mean / (1 - FIRST**count) / jnp.where(root > 0, root, jnp.ones_like(root))
        potentials = state.potentials - size * move
        potentials = potentials - problem.weights @ potentials
        return State(potentials, mean, square, count), potentials

    state, path = jax.lax.scan(step, state, jax.random.split(key, steps))
    return state, jnp.mean(path, axis=0)


@eqx.filter_jit
def _measured(
    key: Key[Array, ""], problem: Problem, potentials: Float[Array, " n"], sizes: tuple[int, int]
) -> tuple[Float[Array, " n"], Float[Array, ""], Float[Array, ""]]:
    r"""Masses, and $\sum_j (m_j - w_j)^2 / w_j$ with its standard error: no bias, as no noise is paired with itself."""
    part, batch = sizes
    total = part * batch

    def group(key: Key[Array, ""]) -> Array:
        def more(counts: Array, key: Key[Array, ""]) -> tuple[Array, None]:
            return counts + problem.counts(key, potentials, batch), None

        return jax.lax.scan(more, jnp.zeros_like(potentials), jax.random.split(key, part))[0]

    counts = jax.lax.map(group, jax.random.split(key, GROUPS))
    pairs = jnp.sum(counts * (counts - 1) / problem.weights[None], axis=1) / (total * (total - 1.0)) - 1
    return jnp.mean(counts, axis=0) / total, jnp.mean(pairs), jnp.std(pairs, ddof=1) / GROUPS**0.5
