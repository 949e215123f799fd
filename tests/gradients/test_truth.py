"""The truth table: each exported rule is exact on each law that it serves, in four programs, or its row says where."""

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from gradients import (
    followed_laws,
    followed_programs,
    gamma_programs,
    sampled_programs,
    test_baselines,
    test_covariance,
    test_relaxations,
    test_token_baselines,
)
from gradients.antithetic import coin_error, dice_error
from gradients.dice_programs import elements_apart
from gradients.exactness import SEED, arrays_of, exact, fresh, largest
from gradients.law_programs import FINITE, KINDS, LAWS
from gradients.outcomes import noise, over_all
from gradients.sampled import Sampled
from gradients.sampled_checks import blind, estimated, exact_gradient, far
from gradients.test_without_replacement import EveryChoice
from jax import Array
from jax.nn import sigmoid
from subsets import small_laws

import variate as vt
from variate import gradients
from variate.gradients.rules import coupled, enumerate, marginalize, measure_valued, score
from variate.gradients.rules.baseline import Baseline

EXACT = 1e-10
QUICK = ("BernoulliLogits", "CategoricalProbs")  # others take long to compile
TABLE = (pytest.mark.slow, pytest.mark.table)


def control(z: Array, t: Array) -> Array:
    return jnp.sum(sigmoid(z)) * t[0] + jnp.sum(jnp.sin(z))


# Summed over the outcomes of the draws, and of the choice that the rule makes by itself, if it makes one.
SUMMED: dict[str, Any] = {
    "Score": gradients.Score(gradients.NoBaseline()),
    "Enumerate": gradients.Enumerate(),
    "Coupled": gradients.Coupled(),
    "Marginalize": gradients.Marginalize(),
    "SumAndSample": EveryChoice(gradients.SumAndSample(1)),
    "UnorderedSet": EveryChoice(gradients.UnorderedSet(2)),
}
# Summed over the polygons of the numbers that the rule shares with the draw.
TOGETHER: dict[str, tuple[Any, Any, tuple[str, ...]]] = {
    "DisARM": (gradients.DisARM(), coin_error, ("BernoulliLogits", "BernoulliProbs")),
    "ARM": (gradients.ARM(), coin_error, ("BernoulliLogits", "BernoulliProbs")),
    "ARSM": (gradients.ARSM(), dice_error, ("CategoricalLogits", "CategoricalProbs")),
}
# Their own noise is continuous: z-tests, with samples enough that half of the truth would not pass.
TRIED = {"Rebar": gradients.Rebar(), "Relax": gradients.Relax(control)}
NOISY = {f"ZeroInflated{by}, {kind}": 40_000 for by in ("Logits", "Probs") for kind in ("in lanes", "in a scan")}
BIASED = {
    "StraightThrough": gradients.StraightThrough(),
    "GumbelSoftmax": gradients.GumbelSoftmax(0.5),
    "GumbelStraightThrough": gradients.GumbelStraightThrough(0.5),
    "GumbelRao": gradients.GumbelRao(0.5, 4),
    "ReinMax": gradients.ReinMax(),
}
FLIPPED = ("BernoulliLogits", "BernoulliProbs")
SERVED = {
    **dict.fromkeys([*SUMMED, *TRIED, *BIASED], tuple(LAWS)),
    **{name: laws for name, (*_, laws) in TOGETHER.items()},
    "MeasureValued": (*FLIPPED, "BinomialLogits", "BinomialProbs"),
}


EVERY = {
    **{name: rule.rule if isinstance(rule, EveryChoice) else rule for name, rule in SUMMED.items()},
    **{name: rule for name, (rule, *_) in TOGETHER.items()},
    **TRIED,
    **BIASED,
    "Pathwise": gradients.Pathwise(),
    "ImplicitReparameterization": gradients.ImplicitReparameterization(),
    "AcceptanceRejection": gradients.AcceptanceRejection(),
    "MeasureValued": gradients.MeasureValued(),
    "Covariance": gradients.Covariance(),
    "StructuredRelaxation": gradients.StructuredRelaxation(1.0),
    "MarginalStraightThrough": gradients.MarginalStraightThrough(),
}


def tried(rule: type) -> list[str]:
    """The sampled programs with a draw of this rule."""
    programs = sampled_programs.PROGRAMS.items()
    return [n for n, case in programs if any(isinstance(r, rule) for a in case.assignments for r in a.values())]


# Of laws without a finite support, or with a bias: the tables of the tests that measure it.
ELSEWHERE: dict[str, Collection] = {
    "Pathwise": tried(gradients.Pathwise),
    "Score": tried(gradients.Score),
    "Coupled": tried(gradients.Coupled),
    "MeasureValued": tried(gradients.MeasureValued),
    "ImplicitReparameterization": followed_laws.ROWS | followed_programs.PROGRAMS,
    "AcceptanceRejection": [(law, program) for law in gamma_programs.LAWS for program in gamma_programs.PROGRAMS],
    "Covariance": test_covariance.EXPECTATIONS,
    "MarginalStraightThrough": small_laws.LAWS,
    "StructuredRelaxation": small_laws.LAWS,
    **dict.fromkeys(BIASED, test_relaxations.LAWS),
}


def exported(kind: type) -> set[str]:
    found = {name: getattr(gradients, name) for name in dir(gradients)}
    return {n for n, x in found.items() if isinstance(x, type) and issubclass(x, kind) and x is not kind}


def test_every_exported_rule_has_its_rows() -> None:
    assert exported(gradients.Rule) == SERVED.keys() | ELSEWHERE.keys()
    assert all(len(table) >= len(KINDS) for table in ELSEWHERE.values())
    assert {type(rule).__name__ for rule in test_relaxations.RULES} == BIASED.keys()


def test_every_exported_baseline_has_its_row() -> None:
    tested = [*test_baselines.OF_PAIR.values(), test_token_baselines.BASELINE]
    assert exported(Baseline) == {type(b).__name__ for b in tested} - {"function"}


def test_a_rule_without_a_row_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    another = type("Another", (gradients.Enumerate,), {})
    monkeypatch.setattr(gradients, "Another", another, raising=False)
    with pytest.raises(AssertionError):
        test_every_exported_rule_has_its_rows()


@pytest.mark.wide
@pytest.mark.parametrize("law", [pytest.param(law, marks=() if law in QUICK else TABLE) for law in LAWS])
def test_a_rule_serves_the_laws_of_its_row_and_no_others(law: str, key: Array) -> None:
    case = FINITE[f"{law}, in lanes"]
    assert EVERY.keys() == exported(gradients.Rule)
    serving = set()
    for name, rule in EVERY.items():
        try:
            vt.explain(case.program, num_samples=1, rules={"a": rule})(jax.random.clone(key), *case.args)
            serving.add(name)
        except ValueError as error:
            assert f"{name} cannot serve the draw 'a'" in str(error) or isinstance(error, vt.BiasedGradientError)  # noqa: PT017
    assert serving == {name for name, laws in SERVED.items() if law in laws}


def errors(name: str, rules: list[Any]) -> list[float]:
    """Of value and gradient by each rule, all compiled together."""
    case = FINITE[name]
    runs = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(SEED), jnp.arange(1))

    def estimator() -> Any:
        found = []
        for rule in rules:
            estimate = vt.value_and_grad(fresh(case), num_samples=1, rules=dict.fromkeys(case.draws, rule))
            value, gradient = estimate(jax.random.key(SEED), *case.args)
            found.append(arrays_of(value.value, gradient.value))
        return found

    with elements_apart():
        means = over_all(estimator, noise(case.program, case.args, runs)).mean
    return [largest(mean, exact(case)) for mean in means]


def cells(laws: Collection[str]) -> list[Any]:
    slow = {law: () if law in QUICK else TABLE for law in laws}
    return [pytest.param(f"{law}, {kind}", marks=slow[law]) for law in laws for kind in KINDS]


@pytest.mark.wide
@pytest.mark.parametrize("name", cells(LAWS))
def test_rules_are_exact(name: str) -> None:
    found = errors(name, list(SUMMED.values()))
    assert max(found) < EXACT, dict(zip(SUMMED, found, strict=True))


@pytest.mark.wide
@pytest.mark.parametrize(
    ("rule", "name"),
    [
        pytest.param(rule, *cell.values, marks=cell.marks)
        for rule, (*_, laws) in TOGETHER.items()
        for cell in cells(laws)
    ],
)
def test_rules_that_share_the_noise_of_the_draw_are_exact(rule: str, name: str) -> None:
    instance, error, _ = TOGETHER[rule]
    assert error(name, instance) < EXACT


@pytest.mark.wide
@pytest.mark.parametrize("rule", TRIED)
@pytest.mark.parametrize("name", [pytest.param(n, marks=TABLE) for n in FINITE])
def test_rules_with_a_control_are_as_near_as_they_say(rule: str, name: str, key: Array) -> None:
    case = FINITE[name]
    rules = (dict.fromkeys(case.draws, TRIED[rule]),)
    row = Sampled(case.program, case.args, case.expectation, rules, NOISY.get(name, 20_000))
    gradient, truth = estimated(row, 0, key)[1], exact_gradient(row)
    assert not far(gradient, truth), (gradient, truth)
    assert not blind(gradient, truth), (gradient, truth)


@pytest.mark.table
@pytest.mark.parametrize("law", FLIPPED)
def test_coins_that_come_out_the_other_way_are_exact(law: str) -> None:
    """`MeasureValued` draws nothing besides for them."""
    for kind in ("linked", "in a scan"):
        assert max(errors(f"{law}, {kind}", [gradients.MeasureValued()])) < EXACT


def mutated(right: Any) -> Any:
    """A term of it is one part in a thousand too large."""
    return lambda *args: jax.tree.map(lambda x: x * 1.001 if jnp.issubdtype(x.dtype, jnp.inexact) else x, right(*args))


@pytest.mark.wide
@pytest.mark.parametrize(
    ("rule", "module", "attribute"),
    [
        ("Score", score, "log_prob"),
        ("Enumerate", enumerate.distributions, "element_probs"),
        ("Coupled", coupled, "_through_table"),
        ("Marginalize", marginalize.distributions, "element_probs"),
        ("MeasureValued", measure_valued, "_flipped"),
        ("SumAndSample", enumerate.distributions, "element_probs"),
        ("UnorderedSet", enumerate.distributions, "element_probs"),
    ],
)
def test_a_mutant_is_caught(rule: str, module: Any, attribute: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, attribute, mutated(getattr(module, attribute)))
    assert errors("BernoulliLogits, linked", [SUMMED.get(rule, EVERY[rule])])[0] > 1e-6
