"""`tune`: the rules of a program's draws, chosen by measuring variance and time."""

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from rich.progress import track

from variate import checks, trees
from variate.gradients.base import BiasedGradientError, Rule
from variate.gradients.rules.marginalize import Marginalize
from variate.gradients.staged import derive
from variate.gradients.tables import Tabular, name_of
from variate.gradients.transform import Gradient, value_and_grad
from variate.programs.generator import run_keys

_FINAL = 3  # combinations that are measured of those that looked best
_COMBINATIONS = 100_000  # that are ranked; a program of more keeps to the best rule of each draw
_ROUNDING = 64  # relative errors of a gradient, in units of its type, below which it does not vary
_RUNS = 3  # of a pilot, of which the fastest counts: another process can only slow one down

Assignment = tuple[tuple[str, Rule], ...]


class Change(NamedTuple):
    """What a rule of one draw adds to variance and seconds; None for the rule that is chosen by default."""

    rule: Rule | None
    variance: float
    seconds: float


class Measured(NamedTuple):
    """What a gradient of `num_samples` runs has for variance, summed over its coordinates, and what it takes."""

    variance: float
    stderr: float  # of the variance
    seconds: float

    @property
    def cost(self) -> float:
        """Variance times time: what an accuracy costs."""
        return self.variance * self.seconds

    @property
    def rank(self) -> tuple[float, float]:
        """Of rules that are exact the fastest is the best."""
        return self.cost, self.seconds


class Trial(NamedTuple):
    """An assignment of rules and what came of it: what was measured, or why it was refused."""

    rules: dict[str, Rule]
    measured: Measured | None
    refused: str | None = None

    @property
    def name(self) -> str:
        """What tables and pictures call it."""
        return ", ".join(f"{name}: {name_of(rule)}" for name, rule in self.rules.items()) or "as chosen by default"


@dataclass(frozen=True)
class Tuning(Tabular):
    """What `tune` found: `rules`, for `vt.grad(f, rules=...)`, and all that was tried, the best first."""

    rules: dict[str, Rule]
    trials: tuple[Trial, ...]
    num_samples: int
    replicates: int

    header: ClassVar = ("rules", "variance", "time", "variance x time", "to the best")

    @property
    def caption(self) -> str:
        return (
            f"variance of a gradient of {self.num_samples} samples, summed over its coordinates, from {self.replicates}"
            " of them; draws that are not named keep the rule chosen for them"
        )

    def cells(self) -> list[list[str]]:
        best = next(trial.measured for trial in self.trials if trial.measured)
        return [_cells(trial, best) for trial in self.trials]


def tune(
    f: Callable[..., Any],
    argnums: int | Sequence[int] = 1,
    *,
    candidates: Mapping[str, Sequence[Rule]] | Sequence[Rule] | None = None,
    budget: int = 4096,
    num_samples: int = 16,
    block_size: int | None = None,
    looped: bool = False,
    progress: bool = True,
) -> Callable[..., Tuning]:
    r"""Choose the rules of the named draws of `f` by variance x time, measured on a pilot.

    A draw's rule adds its own part to the variance and to the time of a gradient, so each candidate of each draw is
    tried with the other draws as they are chosen by default, `Marginalize` for all draws at once too. The combinations
    that this makes look best are measured in turn, and the best of all that was measured is returned. It takes a
    compilation for each trial.

    Args:
        f: a program `f(key, *args)`, as for `vt.grad`, with names for the draws to be tuned.
        argnums: which arguments to differentiate in, by Python's position, the key being 0.
        candidates: the rules to try, by the name of the draw or for all of them; all that are legal and unbiased if
            left out. Those that cannot serve a draw are shown as refused, and so are biased ones: less variance says
            nothing of them.
        budget: how many runs of the program a trial may take.
        num_samples: how many runs the gradient is to have later; a baseline's worth depends on it.
        block_size: as for `vt.grad`.
        looped: what a gradient's time is: that of a call from Python, as of a step that is jitted, with the dispatch
            that is most of it for a small program; or, if true, that of a turn of a compiled loop, without.
        progress: whether to show a bar.

    Returns:
        A function of `(key, *args)` that returns a `Tuning`.

    Raises:
        TypeError: `candidates` are no lists of rules.
        ValueError: no draw is named, a name is unknown, or `budget` is less than eight times `num_samples`.
    """
    num_samples = checks.check_positive_int("num_samples", num_samples)
    budget = checks.check_positive_int("budget", budget)
    if budget < 8 * num_samples:
        raise ValueError(
            f"budget: expected at least {8 * num_samples}, 8 gradients of {num_samples} samples, got {budget}"
        )

    def gradient(rules: Assignment) -> Gradient:
        options = {"num_samples": num_samples, "block_size": block_size, "rules": dict(rules)}
        return value_and_grad(f, argnums, **options)

    def tuned(key: Any, *args: Any) -> Tuning:
        plain = gradient(())
        plain.check(key, args)
        names = _candidates(plain, key, args, candidates)
        replicates = budget // num_samples
        keys = run_keys(key, jnp.arange(replicates))

        def tried(rules: Assignment) -> Trial:
            try:
                return Trial(dict(rules), _measure(gradient(rules), keys, args, looped))
            except (ValueError, BiasedGradientError) as error:  # of a rule that cannot serve
                return Trial(dict(rules), None, str(error))

        single = [((name, rule),) for name, rules in names.items() for rule in rules]
        # What this rule of one draw is worth depends on whether those after it have it: it is tried for all at once.
        together = tuple((n, rule) for n, rules in names.items() for rule in rules if isinstance(rule, Marginalize))
        found: dict[Assignment, Trial] = {}
        first = dict.fromkeys([(), *single, together])
        for rules in track(first, "measuring rules", transient=True, disable=not progress):
            found[rules] = tried(rules)
        if found[()].measured is None:
            raise ValueError(f"f: with the rules chosen by default, {found[()].refused}")
        for rules in _promising(found):
            found[rules] = tried(rules)
        trials = sorted(found.values(), key=lambda trial: trial.measured.rank if trial.measured else (math.inf, 0.0))
        return Tuning(trials[0].rules, tuple(trials), num_samples, replicates)

    return tuned


def _candidates(plain: Gradient, key: Any, args: tuple, given: Any) -> dict[str, list[Rule]]:
    """The rules to try of each named draw, without the one that it has."""
    numbers, static = trees.split((plain.f, args))
    derivation = derive(plain.request, static, key, numbers)
    sites = {site.index: site.name for site in derivation.plan.program.sites if site.name is not None}
    own = derivation.choice.rules
    legal = {sites[i]: [r for r in rules if r != own[i]] for i, rules in derivation.choice.legal.items() if i in sites}
    if not legal:
        raise ValueError("f: no draw that needs a rule has a name to be tuned by; give one with vt.draw(..., name=...)")
    if given is None:
        return legal
    chosen = checks.check_candidates(given, legal)
    return {name: chosen[name] for name in legal if name in chosen}


def _measure(gradient: Gradient, keys: Any, args: tuple, looped: bool) -> Measured:
    """Of gradients from many keys: how much they vary, and how long one takes."""
    numbers, static = trees.split(args)

    def one(key: Any, numbers: list[Any]) -> Array:
        estimate = gradient(key, *trees.join(list(numbers), static))[1]
        if estimate.biased:
            raise ValueError("its gradient is biased, and its variance no measure of its error")
        return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(estimate.value)])

    if looped:
        loop = jax.jit(lambda keys, numbers: jax.lax.map(lambda key: one(key, numbers), keys))
    else:
        # Indexed, for to unpack so many is a program that takes a second to compile.
        called, each = jax.jit(one), [jax.random.clone(keys)[i] for i in range(len(keys))]

        def loop(_: Any, numbers: list[Any]) -> list[Array]:
            return [jax.block_until_ready(called(key, numbers)) for key in each]

    def timed() -> float:
        start = time.perf_counter()
        jax.block_until_ready(loop(keys, numbers))
        return time.perf_counter() - start

    found = np.asarray(loop(keys, numbers))
    rows, eps = found.astype(float), float(jnp.finfo(found.dtype).eps)
    if not np.all(np.isfinite(rows)):
        raise ValueError("its gradient is not finite")
    squares = np.sum((rows - rows.mean(axis=0)) ** 2, axis=1) * (len(rows) / (len(rows) - 1))
    seconds = min(timed() for _ in range(_RUNS)) / len(keys)
    variance, stderr = float(squares.mean()), float(squares.std() / math.sqrt(len(rows)))
    # What is left of the variance of an exact rule is rounding, by which rules are not to be told apart.
    rounding = (_ROUNDING * eps) ** 2 * float(np.max(np.sum(rows**2, axis=1)))
    return Measured(variance, stderr, seconds) if variance > rounding else Measured(0.0, 0.0, seconds)


def _promising(found: Mapping[Assignment, Trial]) -> list[Assignment]:
    """Combinations that should be best if each draw adds its own to variance and time."""
    start = found[()].measured
    assert start is not None
    changes: dict[str, list[Change]] = {}
    for rules, trial in found.items():
        if len(rules) == 1 and trial.measured is not None:
            ((name, rule),) = rules
            variance, _, seconds = trial.measured
            change = Change(rule, variance - start.variance, seconds - start.seconds)
            changes.setdefault(name, [Change(None, 0.0, 0.0)]).append(change)
    if len(changes) < 2:
        return []

    def cost(choice: Sequence[Change]) -> tuple[float, float, float]:
        """Ties are between sums that noise has made less than nothing."""
        variance = max(start.variance + sum(change.variance for change in choice), 0.0)
        seconds = max(start.seconds + sum(change.seconds for change in choice), 0.0)
        return variance * seconds, variance, seconds

    if math.prod(len(options) for options in changes.values()) > _COMBINATIONS:
        changes = {name: [min(options, key=lambda x: cost([x]))] for name, options in changes.items()}
    ranked = sorted(itertools.product(*changes.values()), key=cost)
    named = [tuple((n, x.rule) for n, x in zip(changes, choice, strict=True) if x.rule) for choice in ranked]
    return [rules for rules in named if rules not in found][:_FINAL]


def _cells(trial: Trial, best: Measured) -> list[str]:
    if trial.measured is None:
        return [trial.name, f"refused: {trial.refused}", "", "", ""]
    variance, stderr, seconds = trial.measured
    exact = seconds / best.seconds if variance == 0 else math.inf  # such rules differ by their time
    ratio = trial.measured.cost / best.cost if best.cost > 0 else exact
    return [
        trial.name,
        f"{variance:.3g} ± {stderr:.1g}",
        f"{1e3 * seconds:.3g} ms",
        f"{trial.measured.cost:.3g}",
        f"{ratio:.2f}",
    ]
