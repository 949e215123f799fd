"""Simulation-based calibration: whether a sampler's posteriors are right, over data that the model itself makes."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Int, Key
from scipy import stats

from variate import checks
from variate.programs import condition
from variate.programs.prediction import predict
from variate.trees import place

_BINS = 16


class Finding(NamedTuple):
    """What the ranks of one number say."""

    name: str
    p_value: float  # of as small a chi-square by chance
    words: str


class Calibration(eqx.Module):
    """Ranks of what was true among the draws of posteriors, from 0 to `num_draws`, by name, a row for each data set.

    `doubtful`: how many of the runs had something against them by their own account. Prints the verdict.
    """

    ranks: dict[str, Int[np.ndarray, "sets ..."]]
    num_draws: int = eqx.field(static=True)
    doubtful: int = eqx.field(static=True)

    def findings(self) -> list[Finding]:
        """A row for each number, the least likely first."""
        rows = []
        for name, ranks in self.ranks.items():
            for index in np.ndindex(ranks.shape[1:]):
                rows.append(Finding(name + place(index), *self._judged(ranks[:, *index])))
        return sorted(rows, key=lambda row: row.p_value)

    @property
    def p_value(self) -> float:
        """Of all numbers together: the least p-value times how many there are (Bonferroni), at most 1."""
        rows = self.findings()
        return min(1.0, rows[0].p_value * len(rows))

    def _judged(self, ranks: np.ndarray) -> tuple[float, str]:
        # Bins differ in how many ranks they hold where these are no multiple of them.
        edges = np.linspace(0, self.num_draws + 1, _BINS + 1).round()
        counts, _ = np.histogram(ranks, edges - 0.5)
        p = float(stats.chisquare(counts, len(ranks) * np.diff(edges) / edges[-1]).pvalue)
        at = (ranks + 0.5) / (self.num_draws + 1)
        shift = (at.mean() - 0.5) / np.sqrt(1 / 12 / len(ranks))
        wide = (np.mean((at - 0.5) ** 2) - 1 / 12) / np.sqrt(1 / 180 / len(ranks))
        if abs(shift) > abs(wide):
            return p, "posteriors are too low" if shift > 0 else "posteriors are too high"
        return p, "posteriors are too narrow" if wide > 0 else "posteriors are too wide"

    def __repr__(self) -> str:
        sets = len(next(iter(self.ranks.values())))
        doubtful = f"; {self.doubtful} runs are in doubt by their own account" if self.doubtful else ""
        worst = self.findings()[0]
        if self.p_value < 0.01:
            return f"{worst.name}: {worst.words}, p = {self.p_value:.2g} of {sets} data sets{doubtful}"
        return f"nothing is found, p = {self.p_value:.2g} of {sets} data sets{doubtful}"


def calibration(
    model: Any,
    sampler: Any,
    data: Any,
    *,
    num_sets: int = 200,
    num_draws: int = 63,
) -> Callable[..., Calibration]:
    r"""Whether a sampler and a model agree: a function of `(key, *args)`, the model's own arguments.

    For each of `num_sets` data sets the model draws x and then y given x, and the sampler draws of the posterior given
    y. If it is right, the rank of x among independent draws of it is uniform on 0, 1, ..., `num_draws`. Draws are
    thinned to so many, evenly over all chains.

    Args:
        model: a program that observes; its draws that are summed out are not ranked.
        sampler: `vt.sample`, or another function of a key and a target that returns `values`, by name, with axes of
            chains and of draws.
        data: the arguments of the model that a run of it makes: `lambda run: (run.observed["y"],)`.
        num_sets: the more, the smaller the errors that are seen.
        num_draws: how many are ranked; where they depend on each other ranks pile up at the ends.

    Raises:
        TypeError: model, sampler or data are no functions, or the sampler returns no values by name.
        ValueError: counts that are not positive, or fewer draws than are to be ranked.

    Wrong where the prior makes data that no one would see: what is found there may not matter for those at hand.

    Source: Talts, Betancourt, Simpson, Vehtari and Gelman (2018), Validating Bayesian inference algorithms with
    simulation-based calibration, arXiv:1804.06788, theorem 1 and algorithm 1.
    """
    for name, function in (("model", model), ("sampler", sampler), ("data", data)):
        if not callable(function):
            raise TypeError(f"{name} must be a function, got {checks.describe(function)}")
    sets = checks.check_positive_int("num_sets", num_sets)
    ranked = checks.check_positive_int("num_draws", num_draws)

    def calibrated(key: Key[Array, ""], *args: Any) -> Calibration:
        checks.check_key(key)
        key_model, key_sampler = jax.random.split(key)
        runs = jax.jit(jax.vmap(lambda key: predict(model)(key, *args)))(jax.random.split(key_model, sets))
        target, rows, doubtful = None, [], 0
        for number, own in enumerate(jax.random.split(key_sampler, sets)):
            run = jax.tree.map(lambda x, number=number: x[number], runs)
            target = condition(model, *data(run)) if target is None else target.given(*data(run))
            found = sampler(own, target)
            values = getattr(found, "values", None)
            if not isinstance(values, Mapping):
                raise TypeError(f"sampler must return draws with values by name, got {checks.describe(found)}")
            rows.append({name: _rank(run.draws[name], x, ranked) for name, x in values.items() if name in run.draws})
            doubtful += bool(found.doubts()) if hasattr(found, "doubts") else 0
        return Calibration(jax.tree.map(lambda *rows: np.stack(rows), *rows), ranked, doubtful)

    return calibrated


def _rank(true: Any, draws: Any, count: int) -> np.ndarray:
    draws = np.asarray(draws)
    draws = draws.reshape(-1, *draws.shape[2:])
    if len(draws) < count:
        raise ValueError(f"num_draws must be no more than the sampler makes, {len(draws)}, got {count}")
    kept = draws[np.linspace(0, len(draws) - 1, count).round().astype(int)]
    return np.asarray(np.sum(kept < np.asarray(true)[None], axis=0))
