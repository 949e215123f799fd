"""`tune` chooses the best of what it measured, measures what promises most, and shows what it refused."""

import inspect
import io
import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import Array
from jax.random import split
from rich.console import Console

import variate as vt
from variate.gradients import (
    ARSM,
    Coupled,
    Enumerate,
    LeaveOneOut,
    Linear,
    MeasureValued,
    NoBaseline,
    Pathwise,
    Rebar,
    Score,
    tuning,
)
from variate.gradients.rules.straight_through import StraightThrough
from variate.gradients.tables import name_of
from variate.gradients.tuning import Measured, Trial, Tuning, tune


def two(key: Array, t: Array) -> Array:
    k1, k2 = split(key)
    z = vt.draw(k1, dist.Normal(t, 1.0), name="z")
    n = vt.draw(k2, dist.Bernoulli(logits=t), name="n").astype(float)
    return jnp.sin(z) + n * z


CANDIDATES = {
    "z": [Pathwise(), MeasureValued(), Score(NoBaseline())],
    "n": [Enumerate(), Score(), Score(NoBaseline())],
}


def measuring(table: Callable[[Mapping[str, Any]], Measured], seen: list[dict]) -> Callable[..., Measured]:
    """A measurement that looks up what it would find, and keeps what was asked for."""

    def measure(gradient: Any, *options: Any) -> Measured:
        rules = dict(gradient.request.rules)
        seen.append(rules)
        return table(rules)

    return measure


def additive(variances: Mapping[Any, float], times: Mapping[Any, float]) -> Callable[[Mapping[str, Any]], Measured]:
    """Each draw adds its own, that of its default where it has no rule."""

    def table(rules: Mapping[str, Any]) -> Measured:
        chosen = [(name, rules.get(name)) for name in ("z", "n")]
        return Measured(sum(variances[x] for x in chosen), 0.01, sum(times[x] for x in chosen))

    return table


def test_it_chooses_the_best_combination_and_measures_few(monkeypatch: pytest.MonkeyPatch, key: Array) -> None:
    rng = np.random.default_rng(0)
    options = [(name, rule) for name in CANDIDATES for rule in (None, *CANDIDATES[name])]
    for _ in range(20):
        table = additive(*(dict(zip(options, rng.exponential(size=8) + 0.1, strict=True)) for _ in range(2)))
        seen: list[dict] = []
        monkeypatch.setattr(tuning, "_measure", measuring(table, seen))
        found = tune(two, candidates=CANDIDATES, progress=False)(key, 0.5)
        everything = [
            {name: rule for name, rule in zip(CANDIDATES, rules, strict=True) if rule}
            for rules in itertools.product(*([None, *CANDIDATES[name]] for name in CANDIDATES))
        ]
        assert table(found.rules).cost == min(table(rules).cost for rules in everything)
        assert len(seen) == 1 + 6 + 3
        costs = [trial.measured.cost for trial in found.trials if trial.measured]
        assert costs == sorted(costs)
        assert found.rules == found.trials[0].rules


def test_what_interacts_is_measured_before_it_is_chosen(monkeypatch: pytest.MonkeyPatch, key: Array) -> None:
    """Two rules that are good alone and bad together."""

    def table(rules: Mapping[str, Any]) -> Measured:
        return Measured(9.0 if len(rules) == 2 else {"z": 0.5, "n": 0.6}.get(next(iter(rules), ""), 1.0), 0.01, 1.0)

    monkeypatch.setattr(tuning, "_measure", measuring(table, []))
    found = tune(two, candidates={"z": [Score()], "n": [Coupled()]}, progress=False)(key, 0.5)
    assert found.rules == {"z": Score()}
    assert found.trials[-1].rules == {"z": Score(), "n": Coupled()}


def test_of_exact_rules_it_takes_the_fastest(monkeypatch: pytest.MonkeyPatch, key: Array) -> None:
    variances = {("z", None): 0.0, ("z", Score()): 1.0, ("n", None): 0.0, ("n", Coupled()): 0.0}
    times = {("z", None): 1.0, ("z", Score()): 0.1, ("n", None): 3.0, ("n", Coupled()): 2.0}
    monkeypatch.setattr(tuning, "_measure", measuring(additive(variances, times), []))
    found = tune(two, candidates={"z": [Score()], "n": [Coupled()]}, progress=False)(key, 0.5)
    assert found.rules == {"n": Coupled()}
    assert [cells[-1] for cells in found.cells()] == ["1.00", "1.33", "inf", "inf"]


def trial(*rules: tuple[str, Any], variance: float | None, seconds: float = 1.0) -> tuple[Any, Trial]:
    return rules, Trial(dict(rules), None if variance is None else Measured(variance, 0.1, seconds))


def test_what_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, c = ("z", Score()), ("z", Pathwise()), ("n", Coupled())
    found = dict([trial(variance=4.0), trial(a, variance=3.0), trial(b, variance=5.0), trial(c, variance=1.0)])
    assert tuning._promising(found) == [(a, c), (b, c)]
    # Sums that noise has made negative count as nothing, and the time decides.
    found = dict(
        [trial(variance=4.0), trial(a, variance=0.1), trial(b, variance=0.2, seconds=0.5), trial(c, variance=1)]
    )
    assert tuning._promising(found) == [(b, c), (a, c)]
    # A draw of which nothing could be measured keeps what it has.
    found = dict([trial(variance=4.0), trial(a, variance=3.0), trial(c, variance=None)])
    assert tuning._promising(found) == []
    # Too many combinations to rank: the best rule of each draw.
    monkeypatch.setattr(tuning, "_COMBINATIONS", 3)
    found = dict([trial(variance=4.0), trial(a, variance=3.0), trial(b, variance=5.0), trial(c, variance=1.0)])
    assert tuning._promising(found) == [(a, c)]


@pytest.mark.slow
@pytest.mark.table
def test_it_measures_variance_as_it_is(monkeypatch: pytest.MonkeyPatch, key: Array) -> None:
    """With time held fixed its choice is within 1.3 of the best of all combinations, measured once more and longer."""
    ticks = itertools.count()
    monkeypatch.setattr(tuning.time, "perf_counter", lambda: float(next(ticks)))
    found = tune(two, candidates=CANDIDATES, budget=4_096, looped=True, progress=False)(key, 0.5)
    variances = {}
    for rules in itertools.product(*CANDIDATES.values()):
        named = dict(zip(CANDIDATES, rules, strict=True))
        gradient = jax.jit(vt.grad(two, num_samples=8_192, block_size=16, rules=named))
        variances[rules] = float(gradient(jax.random.fold_in(key, 1), 0.5).stderr ** 2) * 512
    default = {"z": Pathwise(), "n": Enumerate(), **found.rules}
    assert variances[default["z"], default["n"]] < 1.3 * min(variances.values())
    assert max(variances.values()) > 3 * min(variances.values())
    for one in found.trials:
        rules = {"z": Pathwise(), "n": Enumerate(), **one.rules}
        assert one.measured is not None
        truth = variances[rules["z"], rules["n"]]
        assert abs(one.measured.variance - truth) < 6 * one.measured.stderr + 0.03 * truth


def test_a_run_as_it_is_used(key: Array) -> None:
    """Time is measured, so which rules are best is left open; that they can be used is not."""
    rules = [Score(), ARSM(), StraightThrough(), Score(LeaveOneOut())]
    found = tune(two, candidates={"n": rules}, budget=128)(key, 0.5)
    assert bool(jnp.isfinite(vt.grad(two, rules=found.rules)(key, 0.5).value))
    refused = {type(t.rules["n"]).__name__: t.refused for t in found.trials if t.refused}
    assert set(refused) == {"ARSM", "StraightThrough"}
    assert all(t.measured and t.measured.seconds > 0 for t in found.trials[:-2])
    assert all(math.isfinite(t.measured.cost) for t in found.trials if t.measured)
    text, html = str(found), found._repr_html_()
    for shown in ("as chosen by default", "n: Score", "refused: rules: ARSM", "8 of them"):
        assert shown in text
    assert html.count("<tr>") == len(found.trials) + 1
    assert "n: Score(LeaveOneOut)" in html
    console = Console(record=True, width=150, file=io.StringIO())
    console.print(found)
    assert "to the best" in console.export_text()


def test_biased_and_broken_candidates_are_refused(key: Array) -> None:
    def coin(key: Array, t: Array) -> Array:
        b = vt.draw(key, dist.Bernoulli(logits=t), name="b").astype(float)
        return b + 0.1 * b**2

    broken = Score(lambda t: jnp.inf)
    found = tune(coin, candidates=[StraightThrough(), broken, Enumerate(), Score()], budget=128, progress=False)(
        key, 0.3
    )
    refused = {type(t.rules["b"]).__name__: t.refused for t in found.trials if t.refused}
    assert "biased" in str(refused["StraightThrough"])
    assert "not finite" in str(refused["Score"])
    assert found.trials[0].measured == found.trials[0].measured._replace(variance=0.0, stderr=0.0)  # both are exact
    assert found.rules in ({}, {"b": Enumerate()})


def test_what_is_refused(key: Array) -> None:
    def refused(kind: type[Exception], match: str, f: Any = two, **options: Any) -> None:
        with pytest.raises(kind, match=match):
            inspect.unwrap(tune)(f, progress=False, **options)(key, 0.5)  # as where no type checker speaks first

    refused(ValueError, "budget: expected at least 128, 8 gradients of 16 samples, got 127", budget=127)
    refused(
        ValueError,
        r"candidates: no draw to be tuned is called 'q'; there are \['n', 'z'\]",
        candidates={"q": [Score()]},
    )
    refused(TypeError, r"candidates\['z'\] must be a list of rules", candidates=Score())
    refused(TypeError, r"candidates\['z'\] must be a list of rules", candidates={"z": []})
    refused(
        TypeError, r"candidates\['z'\]\[1\] must be a rule.* the class Score itself", candidates={"z": [Score(), Score]}
    )
    refused(TypeError, r"candidates\['n'\]\[0\] must be a rule.* 'score'", candidates={"n": ["score"]})
    refused(ValueError, "no draw that needs a rule has a name", lambda key, t: vt.draw(key, dist.Normal(t, 1.0)))
    refused(
        ValueError,
        "no draw that needs a rule has a name",
        lambda key, t: t * vt.draw(key, dist.Normal(0.0, 1.0), name="z"),
    )
    refused(
        ValueError,
        "f: with the rules chosen by default, its gradient is not finite",
        lambda key, t: jnp.sqrt(vt.draw(key, dist.Normal(t, 1.0), name="z")),
    )
    with pytest.raises(TypeError, match="the first argument must be the key"):
        tune(two)(0, 0.5)
    with pytest.raises(TypeError, match="cannot be called with"):
        tune(two)(key)


def test_the_best_comes_first_in_a_table_of_one() -> None:
    one = Tuning({}, (Trial({}, Measured(2.0, 0.5, 1e-3)),), 16, 8)
    assert one.cells() == [["as chosen by default", "2 ± 0.5", "1 ms", "0.002", "1.00"]]


def test_candidates_of_one_class_are_told_apart() -> None:
    names = {
        "Rebar": Rebar(),
        "Rebar(0.1)": Rebar(0.1),
        "Rebar(0.1, 2.0)": Rebar(0.1, 2.0),
        "Rebar(scale=0.0)": Rebar(scale=0.0),
        "Score": Score(),
        "Score(LeaveOneOut)": Score(LeaveOneOut()),
        "Score(Linear((x, y)))": Score(Linear(("x", "y"))),
        "Score(Linear(x, 2.0))": Score(Linear("x", 2.0)),
        "Score(measuring)": Score(measuring),
        "Enumerate(8)": Enumerate(8),
    }
    assert [name_of(rule) for rule in names.values()] == list(names)
