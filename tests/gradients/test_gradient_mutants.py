"""Each way to get a gradient wrong fails the check that is there for it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from gradients.exactness import discrepancy, second_discrepancy
from gradients.outcomes import sampling_by
from gradients.sampled_checks import compiled_once, estimated, exact_gradient, far
from gradients.sampled_programs import PROGRAMS
from jax import Array, lax

import variate as vt
from variate.gradients import MeasureValued, NoBaseline, Pathwise, Score, blocks, credit, replays, samples, surrogate
from variate.gradients.rules import coupled, measure_valued, score
from variate.programs import distributions, recurrences, relations
from variate.programs.dataflow import bit
from variate.programs.primitive import sample_leaves
from variate.programs.terms import Terms

LOG_PROB, PROBABILITIES, STEP, REPLAY, NORMAL, REACH, SURROGATE, SAMPLE, RUN, CHARGE, ELEMENTS, DRAWN = (
    score.log_prob,
    distributions.element_probs,
    coupled._through_table,
    replays.replay,
    measure_valued._normal,
    Terms.reach,
    surrogate.surrogate,
    distributions.sample,
    samples.run,
    credit.Credit.charge,
    replays.element_log_probs,
    relations.Tracing.drawn,
)


def own_sample_in_the_baseline(plan: Any, runs: Any, args: Any) -> list:
    """The mean cost of all samples, in place of the others'."""
    charges = runs.charges
    return [[jnp.broadcast_to(jnp.mean(c, axis=0, keepdims=True), c.shape) for c in each] for each in charges]


def reach_of_the_first_draw_lost(self: Terms, operand: Any) -> int:
    return REACH(self, operand) & ~bit(0)


def without_downstream(self: Terms, operand: Any) -> int:
    """What depends on several draws is charged to the last of them alone."""
    mask = REACH(self, operand)
    return 1 << mask.bit_length() - 1 if mask else 0


def wrong_sign(*operands: Any) -> Array:
    return -LOG_PROB(*operands)


def fixed_log_prob(*operands: Any) -> Array:
    return lax.stop_gradient(LOG_PROB(*operands))


def fixed_element_log_probs(*operands: Any) -> Array:
    return lax.stop_gradient(ELEMENTS(*operands))


def moving_sample(site: Any, operands: Any) -> list[Array]:
    """A scored value that moves with the parameters."""
    return sample_leaves(site.structure, site.lanes)(*operands)


def fixed_probabilities(*operands: Any) -> Any:
    return lax.stop_gradient(PROBABILITIES(*operands))


def step_back(*operands: Any) -> Any:
    """The weight of a step forward, for a step back."""
    weight, following = STEP(*operands)
    return weight, jnp.maximum(following - 2, 0)


def own_value_forgotten(plan: Any, inputs: Any, site: int, record: Any, redrawn: Any, totals: Any) -> list[Array]:
    return REPLAY(plan, inputs, site, record, redrawn, [jnp.zeros_like(total) for total in totals])


def without_its_constant(law: Any, *operands: Any) -> list[Any]:
    return [step._replace(constant=jnp.sign(step.constant)) for step in NORMAL(law, *operands)]


def swapped(law: Any, *operands: Any) -> list[Any]:
    return [step._replace(constant=-step.constant) for step in NORMAL(law, *operands)]


def uncoupled_width(z: Array, exponential: Array) -> Array:
    """As if the wider density were a Rayleigh's."""
    return jnp.where(z < 0, -1, 1) * jnp.sqrt(2 * exponential)


def without_the_draws_before(plan: Any, run: Any, baselines: Any) -> list[Array]:
    """No product of the draws before a draw, which the first order does not miss."""
    totals = list(run.outputs)
    for n in range(len(plan.groups)):
        one = dataclasses.replace(plan, groups=plan.groups[n : n + 1])
        own = SURROGATE(one, run._replace(charges=run.charges[n : n + 1]), baselines[n : n + 1])
        totals = [total + new - old for total, new, old in zip(totals, own, run.outputs, strict=True)]
    return totals


def uncorrelated(derivation: Any, found: Any, size: int) -> list[Array]:
    return [jnp.zeros_like(gradient[0]) for gradient in found.gradients]


def without_a_past(self: Any, operation: Any, operands: list) -> Any:
    """As if no draw in a loop depended on what it drew before."""
    return DRAWN(self, operation, [{} for _ in operands])


def nothing_later(self: Any, entries: Array, relation: Any) -> Array:
    """Each element is charged with its own entry alone, where it reaches those after it too."""
    links = frozenset(link._replace(causal=False) for link in relation.links)
    return CHARGE(self, entries, relation._replace(links=links))


def the_neighbours(self: Any, entries: Array, relation: Any) -> Array:
    """Each element is charged with what the one before it should be."""
    charges = CHARGE(self, entries, relation)
    for axis, length in enumerate(charges.shape):
        charges = jnp.roll(charges, 1, axis) if length > 1 else charges
    return charges


def only_the_first_increment(a: Any, b: Any) -> Any:
    return b if a == 0 else a


def diagonal_carry(relations: Any, depth: int, scan: Any) -> Any:
    """As if what a step hands on were made anew by the next."""
    return relations


def wrong_gradient(name: str, assignment: str) -> Callable[[], bool]:
    return lambda: discrepancy(name, assignment)[0] > 1e-3


def short_error_bar(name: str, assignment: str) -> Callable[[], bool]:
    return lambda: discrepancy(name, assignment)[1] > 1e-3


MUTANTS: dict[str, tuple[Any, str, Any, Callable[[], bool]]] = {
    "own sample in the baseline": (
        samples, "baselines", own_sample_in_the_baseline, wrong_gradient("linked coins", "score, leave one out"),
    ),
    "reach too small": (Terms, "reach", reach_of_the_first_draw_lost, wrong_gradient("linked coins", "score")),
    "downstream terms lost": (Terms, "reach", without_downstream, wrong_gradient("linked coins", "score")),
    "downstream terms lost in leave-one-out": (
        Terms, "reach", without_downstream, wrong_gradient("linked coins", "score, leave one out"),
    ),
    "score with the wrong sign": (score, "log_prob", wrong_sign, wrong_gradient("one coin", "score")),
    "score not differentiated": (score, "log_prob", fixed_log_prob, wrong_gradient("nested conditionals", "score")),
    "probabilities not differentiated": (
        distributions, "element_probs", fixed_probabilities, wrong_gradient("switch", "enumerate"),
    ),
    "a step in the wrong direction": (
        coupled, "_through_table", step_back, wrong_gradient("mixture by indexing", "coupled"),
    ),
    "the run itself forgotten": (replays, "replay", own_value_forgotten, wrong_gradient("linked coins", "coupled")),
    "the draws before left out": (
        blocks, "surrogate", without_the_draws_before, lambda: second_discrepancy("linked coins", "score") > 1e-3,
    ),
    "score of elements not differentiated": (
        replays, "element_log_probs", fixed_element_log_probs, wrong_gradient("lanes apart", "score"),
    ),
    "reward-to-go without what goes": (
        credit.Credit, "charge", nothing_later, wrong_gradient("scan", "score"),
    ),
    "credit to the neighbour": (credit.Credit, "charge", the_neighbours, wrong_gradient("lanes apart", "score")),
    "carries taken for diagonal": (relations, "_later", diagonal_carry, wrong_gradient("scan", "score")),
    "draws without a past": (
        relations.Tracing, "drawn", without_a_past, wrong_gradient("coins linked in a scan", "score"),
    ),
    "increments lost": (recurrences, "_sum", only_the_first_increment, wrong_gradient("totals", "score")),
    "leave-one-out taken for independent": (
        blocks, "correlation_of", uncorrelated, short_error_bar("linked coins", "score, leave one out"),
    ),
}  # fmt: skip


@pytest.mark.wide
@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught_by_the_sum_over_outcomes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target, attribute, mutant, caught = MUTANTS[name]  # without the mutant the check is in test_every_outcome
    monkeypatch.setattr(target, attribute, mutant)
    assert caught()


@compiled_once
def test_a_scored_value_that_moves_is_caught_by_the_z_test(monkeypatch: pytest.MonkeyPatch, key: Array) -> None:
    monkeypatch.setattr(score, "fixed_sample", moving_sample)
    case = PROGRAMS["smooth"]._replace(assignments=({"z": Score(NoBaseline())},))
    assert far(estimated(case, 0, key)[1], exact_gradient(case))


@compiled_once
@pytest.mark.parametrize(
    ("name", "attribute", "mutant"),
    [("step", "_normal", without_its_constant), ("ramp", "_normal", swapped), ("smooth", "_wider", uncoupled_width)],
)
def test_a_wrong_decomposition_is_caught_by_the_z_test(
    name: str, attribute: str, mutant: Any, monkeypatch: pytest.MonkeyPatch, key: Array
) -> None:
    monkeypatch.setattr(measure_valued, attribute, mutant)
    case = PROGRAMS[name]._replace(assignments=({"z": MeasureValued()},))
    assert far(estimated(case, 0, key)[1], exact_gradient(case))


@compiled_once
@pytest.mark.parametrize("name", ["step", "ramp"])
def test_pathwise_over_a_discontinuity_is_wrong_and_says_so(name: str, key: Array) -> None:
    case = PROGRAMS[name]
    insisting = vt.grad(case.program, num_samples=313 * 64, rules={"z": Pathwise()}, allow_bias=True)
    gradient = insisting(key, *case.args)
    assert gradient.biased
    assert "biased" in str(gradient)
    assert far(gradient, exact_gradient(case))


@compiled_once
def test_a_key_that_two_draws_share_is_caught_by_the_z_test(monkeypatch: pytest.MonkeyPatch, key: Array) -> None:
    case = PROGRAMS["one distribution drawn twice"]

    def run(plan: Any, inputs: Any, *rest: Any) -> Any:
        with sampling_by(lambda d, _: SAMPLE(d, jax.random.clone(inputs[0]))):
            return RUN(plan, inputs, *rest)

    monkeypatch.setattr(samples, "run", run)
    assert far(estimated(case, 0, key)[0], case.expectation(*case.args).reshape(1))
