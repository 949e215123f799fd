"""Proposals learnt from weighted runs, by a scheme that says from which of them."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from variate import checks
from variate.estimates.sampling import opened, staged
from variate.programs import distributions
from variate.programs.program import Program
from variate.programs.runs import Wishes, run_with
from variate.trees import Static, as_float

from .adaptive_multiple import AdaptiveMultiple
from .cross_entropy import CrossEntropy
from .fitted import Fit, Fitted, onto_support, placed
from .importance import check_own, check_sites
from .mixture import Mixture
from .population_monte_carlo import PopulationMonteCarlo


class _Runs(NamedTuple):
    """Runs side by side: coordinates of the draws by name, the log density of these under the program, results."""

    y: dict[str, Float[Array, "*n d"]]
    log_density: Float[Array, "*n"]
    results: Float[Array, "*n m"]


class _Own(NamedTuple):
    """A draw's own distribution, which tells the coordinates of what it draws."""

    own: Any
    onto: Any

    def sample(self, key: Key[Array, ""]) -> Array:
        return distributions.sample(self.own, key)

    def log_prob(self, x: Array) -> Array:
        return distributions.log_prob(self.own, x)

    def beside(self, x: Array) -> Array:
        with distributions.numpyro_promotion():
            return jnp.ravel(self.onto.inv(x)).astype(float)


def adapt(
    f: Callable[..., PyTree],
    names: Any,
    *,
    scheme: PopulationMonteCarlo | None = None,
    own: float = 0.1,
    budget: int | None = None,
) -> Callable[..., Mixture]:
    r"""A proposal for the expectation of a program: a function `(key, *args)` returning a `Mixture` for `vt.expect`.

    The named draws' mixtures approach $\pi \propto p\,|f|$, under which f of one sign has no variance. Of several
    results it is $p\,(\sum_j f_j^2 / a_j^2)^{1/2}$ with $a_j$ the mean of $|f_j|$, which makes the sum of the squared
    relative errors least. Named draws are fitted each for itself, so draws that depend on each other under $\pi$ should
    be one vector. Draws for adaptation are not used again: give `vt.expect` another key, and its estimate is unbiased
    and its error bar that of independent runs.

    With a `budget` of N runs for both, adaptation ends where it no longer pays, with half of N spent at the latest:
    after a round with $\sum_j v_j / (N - n) \ge \sum_j v'_j / (N - n')$, where n and n' are the runs spent so far and
    without this round, v and v' the variances of weighted runs in this round and the last, over the squares of their
    means. `Mixture.runs` is n, and the estimate takes the rest. v is noisy where a round has few runs that matter.

    The wrong choice where plain runs never find what matters (raise `spread`), in more than some ten dimensions, and
    without a budget where the adaptation costs more than it saves, `rounds` times `num_samples` runs.

    Args:
        names: of a draw or of several, continuous and outside of loops and of `vmap`.
        scheme: `AdaptiveMultiple()`, `PopulationMonteCarlo()` or, for rare events, `CrossEntropy(above=...)`.
        own: the share of the draws' own distributions in the mixture (`Mixture`).
        budget: N, at least four times the runs of a round.

    Raises:
        TypeError: `names`, `scheme` or the key are none, or it runs under a caller's `jit`.
        ValueError: no draw has that name, it is discrete, in a loop or under `vmap`, or no run has a result but 0; a
            budget that is too small, or beside `CrossEntropy`, whose score is not what is to be estimated.

    Source: `AdaptiveMultiple`, `PopulationMonteCarlo`; the target: Owen (2013), Monte Carlo theory, methods and
    examples, section 9.1; several results, and when to end: Demange-Chryst, Bachoc and Morio (2023), Efficient
    estimation of multiple expectations with the same sample by adaptive importance sampling and control variates, Stat.
    Comput. 33, 103, here without their controls.
    """
    checks.check_callable("f", f)
    wanted = checks.check_names("names", names)
    scheme = AdaptiveMultiple() if scheme is None else scheme
    if not isinstance(scheme, PopulationMonteCarlo):
        raise TypeError(f"scheme must be AdaptiveMultiple() or another of its kind, got {checks.describe(scheme)}")
    check_own(own)
    rounds = scheme.rounds if budget is None else min(scheme.rounds, _affordable(scheme, budget))

    @functools.wraps(f, updated=())
    def adapted(key: Any = None, *args: Any) -> Mixture:
        call = opened(f, key, args)
        if not call.known:
            raise TypeError("adapt: proposals are learnt where numbers are known, not under jit, vmap or scan")
        fits, found, done = _adapted(scheme, rounds, budget, wanted, call.static, key, call.numbers)
        if not bool(found):
            raise ValueError(
                f"no run in {scheme.num_samples} of the first round had a finite result other than 0 to learn from: "
                f"raise num_samples or spread, now {scheme.spread}, of the scheme"
            )
        components = {
            name: [Fitted(loc, tril, scheme.degrees) for loc, tril in zip(fit.loc, fit.scale_tril, strict=True)]
            for name, fit in fits.items()
        }
        shares = {name: fit.shares.tolist() for name, fit in fits.items()}
        return Mixture(components, shares=shares, own=own, runs=(1 + int(done)) * scheme.num_samples)

    return adapted


def _affordable(scheme: PopulationMonteCarlo, budget: int) -> int:
    """How many rounds leave half of the budget; the first runs, which are the program's own, are one besides."""
    checks.check_positive_int("budget", budget)
    if isinstance(scheme, CrossEntropy):
        raise ValueError(
            "budget: CrossEntropy learns from a score, which does not tell what the estimate's variance is"
        )
    if budget < 4 * scheme.num_samples:
        raise ValueError(f"budget must be at least 4 rounds of {scheme.num_samples} runs, got {budget}")
    return budget // (2 * scheme.num_samples) - 1


class _Round(NamedTuple):
    """Before a round: its number, the mixtures to draw from, all runs and mixtures so far, whether it is worth it."""

    index: Int[Array, ""]
    fits: dict[str, Fit]
    past: _Runs
    used: dict[str, Fit]
    expected: Float[Array, ""]  # the criterion after the last round
    over: Bool[Array, ""]


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _adapted(
    scheme: PopulationMonteCarlo,
    rounds: int,
    budget: int | None,
    names: tuple[str, ...],
    static: Static,
    key: Key[Array, ""],
    numbers: list[Any],
) -> tuple[dict[str, Fit], Bool[Array, ""], Int[Array, ""]]:
    """The mixtures after the last round, whether any run had a result other than 0, and how many rounds there were."""
    program, _ = staged(static, key, numbers)
    _check_draws(program, names)

    def runs(key: Key[Array, ""], fits: dict[str, Fit] | None) -> _Runs:
        many = jax.random.split(key, scheme.num_samples)
        return jax.vmap(lambda key: _run(program, [key, *numbers], names, fits))(many)

    first, second, last = jax.random.split(key, 3)
    own = runs(first, None)
    spots = jax.random.split(second, len(names))
    wide = {name: _wide(scheme, own.y[name], spot) for name, spot in zip(names, spots, strict=True)}
    keys = jax.random.split(last, rounds)

    def repeated(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (rounds, *leaf.shape)), tree)

    def step(state: _Round) -> _Round:
        index, fits = state.index, state.fits
        put = lambda all_rounds, one: all_rounds.at[index].set(one)  # noqa: E731
        made = runs(keys[index], fits)
        past, used = jax.tree.map(put, state.past, made), jax.tree.map(put, state.used, fits)
        places = jnp.arange(rounds)
        counts = places <= index if scheme.recycled else places == index
        left = (budget or 0) - scheme.num_samples * (index + 2)
        expected = _relative_variance(fits, made) / left.astype(float)
        over = jnp.asarray(budget is not None) & jnp.isfinite(state.expected) & (expected >= state.expected)
        return _Round(index + 1, _refitted(scheme, fits, past, used, counts), past, used, expected, over)

    start = _Round(jnp.zeros((), int), wide, repeated(own), repeated(wide), jnp.asarray(jnp.inf), jnp.zeros((), bool))
    end = jax.lax.while_loop(lambda state: (state.index < rounds) & ~state.over, step, start)
    past = end.past
    found = jnp.any(jnp.isfinite(past.log_density[..., None]) & jnp.isfinite(past.results) & (past.results != 0))
    return end.fits, found, end.index


def _relative_variance(fits: dict[str, Fit], made: _Runs) -> Float[Array, ""]:
    """Of a weighted run, over the squares of the means and summed over the results."""
    log_q = sum((jax.vmap(fits[name].log_density)(made.y[name]) for name in fits), jnp.zeros(made.log_density.shape))
    rows = jnp.exp(made.log_density - log_q)[:, None] * made.results
    rows = jnp.where(jnp.isfinite(rows), rows, 0)
    return jnp.sum(jnp.var(rows, axis=0, ddof=1) / jnp.mean(rows, axis=0) ** 2)


def _refitted(
    scheme: PopulationMonteCarlo,
    fits: dict[str, Fit],
    past: _Runs,
    used: dict[str, Fit],
    counts: Bool[Array, " rounds"],
) -> dict[str, Fit]:
    """Towards the runs of the rounds that count, weighted against the mixture of what these were drawn from."""
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), past)
    drawn = jnp.repeat(counts, scheme.num_samples)

    def of_round(fits: dict[str, Fit]) -> Float[Array, " n"]:
        return sum((jax.vmap(fits[name].log_density)(flat.y[name]) for name in fits), jnp.zeros(drawn.shape))

    each = jnp.where(counts[:, None], jax.vmap(of_round)(used), -jnp.inf)
    log_p = jnp.where(drawn, flat.log_density - jax.nn.logsumexp(each, axis=0), -jnp.inf)
    weights = _normalized(log_p + jnp.log(scheme.magnitude(flat.results, _normalized(log_p), drawn)))
    for _ in range(scheme.steps):
        fits = {name: fit.improved(flat.y[name], weights) for name, fit in fits.items()}
    return fits


def _normalized(logs: Float[Array, " n"]) -> Float[Array, " n"]:
    """Weights of sum 1, all 0 if there is none; what is not a number has none."""
    logs = jnp.where(jnp.isnan(logs) | jnp.isposinf(logs), -jnp.inf, logs)
    return jnp.where(jnp.isneginf(jnp.max(logs)), 0.0, jax.nn.softmax(logs))


def _run(program: Program, inputs: list[Any], names: tuple[str, ...], fits: dict[str, Fit] | None) -> _Runs:
    def proposal(name: str) -> Callable[[Any], Any]:
        def of(own: Any) -> Any:
            return _Own(own, onto_support(own)) if fits is None else placed(fits[name], own)

        return of

    run = run_with(program, inputs, {}, Wishes({name: proposal(name) for name in names}))
    y = {name: jnp.where(jnp.isfinite(run.beside[name]), run.beside[name], 0) for name in names}
    density = run.log_weight
    for name in names:  # a draw that was rounded to the end of its support has no coordinates
        density = jnp.where(jnp.all(jnp.isfinite(run.beside[name])), density, -jnp.inf)
    if fits is not None:
        density = density + sum(fits[name].log_density(y[name]) for name in names)
    return _Runs(y, density, jnp.concatenate([jnp.ravel(as_float(out)).astype(float) for out in run.outputs]))


def _wide(scheme: PopulationMonteCarlo, y: Float[Array, "n d"], key: Key[Array, ""]) -> Fit:
    """Components wider than the draws of the program, about their mean; of several, about places like draws."""
    mean, d = jnp.mean(y, axis=0), y.shape[1]
    tril = scheme.spread * jnp.linalg.cholesky(jnp.atleast_2d(jnp.cov(y.T)) + 1e-6 * jnp.eye(d))
    k = scheme.components
    places = mean[None] + (jax.random.normal(key, (k, d)) @ tril.T if k > 1 else jnp.zeros((1, d)))
    return Fit(jnp.full(k, 1 / k), places, jnp.broadcast_to(tril, (k, d, d)), scheme.degrees)


def _check_draws(program: Program, names: tuple[str, ...]) -> None:
    check_sites(program, dict.fromkeys(names))
    for site in program.sites:
        if site.name not in names:
            continue
        if site.repeats or site.lanes:
            raise ValueError(f"names: the draw {site.name!r} is in a loop or under vmap, and stands for many draws")
        if len(site.event.leaves) != 1 or not jnp.issubdtype(site.event.leaves[0][1], jnp.floating):
            raise ValueError(f"names: the draw {site.name!r}, of {site.distribution}, is not continuous")
