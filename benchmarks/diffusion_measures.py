"""What claims on samplers of diffusion models are judged by, each with a standard error over draws."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from claim import Claim, verdict
from diffusion_problems import PROBLEMS, PROCESS, grids
from jaxtyping import Array, Float

from variate.diffusion import Denoiser, Level, Prediction, sample

SECTION = "Diffusion and flow models"
WORDS = """Models are 25 normals in the plane, ten in 32 dimensions, a set of handwritten digits, and the network that
learned them. Solvers of the probability flow are judged by the root mean square distance, a coordinate, of 400 draws
from the exact ends of the flow that starts where each of them started; where the grid of times is chosen, it is by the
first half of them, and measured on the other. Samplers that put in noise are judged by the sliced Wasserstein distance
of 4,000 draws from the law. An error is one standard error, over draws, and what is said to be nearer is so by more
than three of them. An imperfect model is an exact one with 0.1 of noise too much or too little in each coordinate, as
a smooth field. None of this is an FID on images.

At equal evaluations multistep solvers gain over DDIM on most models. Where there are few evaluations, some draws of
mixtures end in another mode than they should, which dominates the mean square; so which of two solvers of a high order
is the better changes from model to model, and what a paper reports of one network need not hold here. Single steps of
order three gain nothing on a network in a dozen evaluations, which are four steps. DDIM is nearer in ten steps than
the chain with the smaller variance, but not than DDPM's larger one, where the last step ends without noise, as it does
here. Solvers for noise are not always less stable under guidance than those for data, if they too may choose their
grid. Where no loss is claimed, what is measured is that none is seen. Factors of epsilon scaling, strengths of
DualFast, windows of time shifts, and grids of samplers that put in noise, are chosen on the draws that they are judged
by. DualFast helps the network far more than an exact model that is made imperfect, whose errors are not such as it
takes them to be. In few steps the larger of the two fixed variances is nearer here than those that are learned between
them, again as the last step ends without noise. With velocities, Euler-Maruyama's method is near the law in fifty
steps already, so that splitting has little to gain: what it does not solve exactly is stiff near the data, whose modes
are narrow. Langevin's steps on a product were tried with one length and number, so that they do not mend it says
little of others. The clock of parallel draws was read on a machine that was busy with other programs; rounds do not
depend on that."""
DRAWS = 400  # that are paired with exact ends, at most
GROUPS, DIRECTIONS, QUANTILES = 10, 32, 500
SHORT = dict(zip(PROBLEMS, ("25 normals", "10 normals", "digits", "network"), strict=True))


class Reached(NamedTuple):
    """A model, where draws of it start, and where the probability flow leads them."""

    model: Denoiser
    start: Float[Array, "n ..."]
    ends: np.ndarray


problem = cache(lambda name: PROBLEMS[name]())


@cache
def reached(name: str, count: int, scale: float = 1.0) -> Reached:
    one, count = problem(name), min(count, DRAWS)
    at, draws = PROCESS.level(jnp.asarray(1.0)), np.random.default_rng(1).normal(size=(count, *one.shape))
    start = jnp.asarray(draws * float(at.sigma), jnp.float32)
    ends = one.ends(scale, np.asarray(start, np.float64) / float(at.alpha), float(at.sigma / at.alpha))
    return Reached(one.guided(PROCESS, scale), start, ends)


class Misses(NamedTuple):
    """Mean squares, over coordinates, of how far draws are from where they should be."""

    squares: np.ndarray

    @property
    def rms(self) -> float:
        return float(np.sqrt(np.mean(self.squares)))

    @property
    def error(self) -> float:
        return float(np.std(self.squares)) / (2 * self.rms * len(self.squares) ** 0.5)

    def __str__(self) -> str:
        return f"{self.rms:.2g} ± {self.error:.1g}"


def misses(to: Reached, solver: Any, times: Any, model: Denoiser | None = None) -> Misses:
    model = to.model if model is None else model
    run = sample(jax.random.key(0), model, solver, times, to.start.shape, start=to.start, dtype=jnp.float32)
    far = np.mean((np.asarray(run.values, np.float64) - to.ends) ** 2, axis=1)
    return Misses(np.where(np.isfinite(far), far, np.inf))


def best(to: Reached, solver: Any, budget: int, each: int = 1, model: Denoiser | None = None) -> Misses:
    """On that grid of times which is best for half of the draws, of the other half."""
    return best_of(to, [solver], budget, each, model)


def best_of(to: Reached, solvers: Sequence[Any], budget: int, each: int = 1, model: Denoiser | None = None) -> Misses:
    """By that solver too."""
    halves = len(to.start) // 2
    tried = [
        misses(to, solver, times, model).squares
        for solver in solvers
        for _, times in grids(-(-budget // each))
        if len(solver.plan(PROCESS, times).level.time) <= budget
    ]
    return Misses(min(tried, key=lambda squares: np.mean(squares[:halves]))[halves:])


class Ratio(NamedTuple):
    """How many times less one is than another, as a logarithm with its standard error."""

    log: float
    error: float

    @property
    def more(self) -> bool:
        """Than one, by more than three standard errors."""
        return self.log > 3 * self.error

    @property
    def less(self) -> bool:
        return self.log < -3 * self.error

    def __str__(self) -> str:
        if not np.isfinite(self.log):
            return "without bound" if self.log > 0 else "none"
        value = float(np.exp(self.log))
        return f"{value:.3g} ± {value * self.error:.1g}"


def nearer(ours: Misses, other: Misses) -> Ratio:
    """How many times less the root mean square is, paired by draws."""
    if not (np.isfinite(ours.rms) and np.isfinite(other.rms)):
        return Ratio(float(np.inf if np.isfinite(ours.rms) else -np.inf), 0.0)
    apart = other.squares / np.mean(other.squares) - ours.squares / np.mean(ours.squares)
    return Ratio(float(np.log(other.rms / ours.rms)), float(np.std(apart)) / (2 * len(apart) ** 0.5))


class Distance(NamedTuple):
    """Between laws, and its standard error by leaving out a group of draws in turn."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ± {self.error:.1g}"


def lower(ours: Distance, other: Distance) -> bool:
    """By more than three standard errors."""
    return other.value - ours.value > 3 * float(np.hypot(ours.error, other.error))


class Law(NamedTuple):
    """What should be drawn: a model that is asked, exact or not, and draws that are right."""

    model: Denoiser
    right: np.ndarray

    def far(self, values: Any) -> Distance:
        """The sliced Wasserstein distance of order two, by quantiles, since there are more right draws than others.

        In `diffusion.py` each draw has an exact end of its own, so that pairs can be sorted instead, and left out as
        pairs: a solver without error is at zero there, and here at the distance of right draws.
        """
        directions = np.random.default_rng(2).normal(size=(self.right.shape[1], DIRECTIONS))
        directions /= np.linalg.norm(directions, axis=0)
        shares = (np.arange(QUANTILES) + 0.5) / QUANTILES
        wanted = np.quantile(self.right @ directions, shares, axis=0)
        groups = np.split(np.asarray(values, np.float64) @ directions, GROUPS)

        def distance(of: list[np.ndarray]) -> float:
            return float(np.sqrt(np.mean((np.quantile(np.concatenate(of), shares, axis=0) - wanted) ** 2)))

        rest = np.array([distance(groups[:i] + groups[i + 1 :]) for i in range(GROUPS)])
        return Distance(distance(groups), float(np.sqrt((GROUPS - 1) * np.var(rest))))

    def floor(self, count: int) -> Distance:
        """Of as many draws that are right."""
        return self.far(np.random.default_rng(3).choice(self.right, count))

    def of(self, count: int, solver: Any, times: Any, start: Any = None) -> Distance:
        shape = (count, self.right.shape[1])
        return self.far(
            sample(jax.random.key(4), self.model, solver, times, shape, start=start, dtype=jnp.float32).values
        )


class Imperfect(Denoiser):
    """A model whose predicted noise is off by a smooth field of a given size, a coordinate, that nothing corrects."""

    model: Denoiser
    matrix: Float[Array, "d d"]
    size: float

    def __init__(self, model: Denoiser, dimension: int, size: float) -> None:
        self.model, self.size = model, size
        self.matrix = jnp.asarray(np.random.default_rng(5).normal(size=(dimension, dimension)) / dimension**0.5)

    @property
    def process(self) -> Any:
        return self.model.process

    def predict(self, x: Float[Array, "d"], level: Level) -> Prediction:
        found, phase = self.model.predict(x, level), jnp.arange(x.size, dtype=x.dtype)
        off = 2**0.5 * self.size * jnp.sin(self.matrix.astype(x.dtype) @ x * 2 + phase)
        return Prediction(found.data - level.sigma / level.alpha * off, found.noise + off)


@cache
def law(name: str, off: float = 0.0) -> Law:
    """All of the law, without the condition; of the network, that of the digits that it learned."""
    one = problem(name)
    model = one.unconditional(PROCESS)
    if name.startswith("digits"):
        from variate.demo import digit_denoiser

        right = np.asarray(digit_denoiser.digits()[0], np.float64)
    else:
        drawn: Any = jax.vmap(lambda key: model.draw(key))
        right = np.asarray(drawn(jax.random.split(jax.random.key(6), 50_000)), np.float64)
    return Law(Imperfect(model, one.shape[0], off) if off else model, right)


def told(rows: Iterable[tuple[str, Any]]) -> str:
    return ", ".join(f"{name} {value}" for name, value in rows)


def judged(paper: str, headline: str, measured: str, outcomes: dict[str, bool], note: str = "") -> Claim:
    """A claim that holds as far as its outcomes do, each on one problem say."""
    good = [name for name, holds in outcomes.items() if holds]
    if 0 < len(good) < len(outcomes):
        bad = [name for name, holds in outcomes.items() if not holds]
        said = f"in part; not: {', '.join(bad)}" + (f"; {note}" if note else "")
        return Claim(paper, headline, measured, said, SECTION)
    return Claim(paper, headline, measured, verdict(bool(good), note), SECTION)


def everywhere(
    of: Callable[[Reached], Ratio], count: int, names: Sequence[str] = tuple(PROBLEMS), scale: float = 1.0
) -> dict[str, Ratio]:
    """A comparison on each problem, by its short name."""
    return {SHORT[name]: of(reached(name, count, scale)) for name in names}
