"""Gradients through drawn subsets: exact by the score over all draws, relaxed with a bias that falls."""

from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from gradients.outcomes import sampling_by
from jax import Array
from subsets.small_laws import LAWS, LOGITS, MASKS, jit, law_of

import variate as vt
from variate.gradients import NoBaseline, Score
from variate.gradients.rules.marginal_straight_through import MarginalStraightThrough
from variate.gradients.rules.structured_relaxation import StructuredRelaxation
from variate.programs import samplers
from variate.subsets import NMMask, PermutationMatrix, PlackettLuce, TopK

pytestmark = pytest.mark.spared

EXACT = 1e-10
SIGMAS = 6.0  # two-sided, over at most a thousand coordinates: 2e-6
RELAXED = ("matrices", "three drawn", "2:3 masks")


def linear(x: Array) -> Array:
    x = x.astype(float)
    return jnp.sum(x * jnp.sin(1.0 + 2.0 * jnp.arange(float(x.size))).reshape(x.shape))


def bent(x: Array) -> Array:
    return jnp.tanh(linear(x)) + linear(x) ** 2


def program(name: str, cost: Any) -> Any:
    return lambda key, logits: cost(vt.draw(key, LAWS[name].make(logits), name="x"))


def mean(name: str, cost: Any) -> Any:
    law, outcomes = LAWS[name], jnp.asarray(LAWS[name].outcomes)

    def of(logits: Array) -> Array:
        return jnp.dot(jnp.exp(jax.vmap(lambda x: law.exact(logits, x))(outcomes)), jax.vmap(cost)(outcomes))

    return of


def over_all(name: str, estimator: Any) -> list[np.ndarray]:
    """The exact mean of what an estimator of one run returns: a draw is each of the outcomes, with its probability."""

    @jit
    def means(logits: Array) -> Any:
        outcomes = jnp.asarray(LAWS[name].outcomes)
        weights = jnp.exp(jax.vmap(lambda x: LAWS[name].exact(logits, x))(outcomes))

        def of(x: Array) -> Any:
            # What is found out of a sampler that is not the law's own must not be remembered.
            remembering = mock.patch.object(samplers, "_cached", samplers._nature)
            with sampling_by(lambda law, key: x), remembering:
                return estimator(logits)

        return jax.tree.map(lambda rows: jnp.tensordot(weights, rows, 1), jax.vmap(of)(outcomes))

    return jax.tree.leaves(means(jnp.asarray(LAWS[name].logits)))


@pytest.mark.wide
@pytest.mark.parametrize("name", LAWS)
def test_the_score_is_exact_over_all_draws(name: str) -> None:
    estimate = vt.value_and_grad(program(name, bent), num_samples=1, rules={"x": Score(NoBaseline())})

    def estimator(logits: Array) -> Any:
        value, gradient = estimate(jax.random.key(0), logits)
        return value.value, gradient.value

    value, gradient = over_all(name, estimator)
    exact = jit(jax.value_and_grad(mean(name, bent)))(jnp.asarray(LAWS[name].logits))
    np.testing.assert_allclose(value, exact[0], atol=EXACT)
    np.testing.assert_allclose(gradient, exact[1], atol=EXACT)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["two places", "three drawn", "three given"])
def test_second_derivatives_are_exact_over_all_draws(name: str) -> None:
    surrogate = vt.gradients.surrogate_loss(program(name, bent), num_samples=1, rules={"x": Score(NoBaseline())})
    (found,) = over_all(name, jax.hessian(lambda logits: surrogate(jax.random.key(0), logits)))
    exact = jit(jax.hessian(mean(name, bent)))(jnp.asarray(LAWS[name].logits))
    np.testing.assert_allclose(found, exact, atol=EXACT)


@pytest.mark.wide
@pytest.mark.parametrize("name", LAWS)
def test_the_score_is_chosen_unasked(name: str, key: Array) -> None:
    estimate = jit(vt.grad(program(name, bent), num_samples=4096))(key, jnp.asarray(LAWS[name].logits))
    exact = jit(jax.grad(mean(name, bent)))(jnp.asarray(LAWS[name].logits))
    assert not estimate.biased
    assert np.all(np.abs(estimate.value - exact) < SIGMAS * estimate.stderr)
    with pytest.raises((ValueError, vt.BiasedGradientError), match=r"Pathwise (cannot|would).*Score"):
        vt.grad(program(name, bent), rules={"x": vt.gradients.Pathwise()})(key, jnp.asarray(LAWS[name].logits))


def test_members_of_a_batch_are_charged_with_their_own_cost(key: Array) -> None:
    def cost(key: Array, logits: Array) -> Array:
        x = vt.draw(key, TopK(logits, 2), name="x")
        return jnp.sum((x @ jnp.array([1.0, -2.0, 0.5])) ** 2)

    logits = jnp.zeros((4, 3))
    found = vt.explain(cost, num_samples=2)(key, logits)
    assert (found.rows[0].reaches, found.rows[0].rule) == ("1 of 1 terms, diagonal", "Score(LeaveOneOut)")

    def groups(key: Array, logits: Array) -> Array:
        mask = vt.draw(key, NMMask(logits[:, None], 2, 4), name="x")
        return jnp.sum((mask @ jnp.array([1.0, -2.0, 0.5, 3.0])) ** 2)

    found = vt.explain(groups, num_samples=2)(jax.random.clone(key), jnp.zeros((5, 6)))
    assert found.rows[0].reaches == "1 of 1 terms, diagonal"


@pytest.mark.parametrize("name", RELAXED)
def test_a_relaxation_tends_to_the_draw_and_keeps_its_sums(name: str, key: Array) -> None:
    law = law_of(name)

    @jit
    def found(keys: Array) -> tuple[Array, list[Array]]:
        draws = jax.vmap(law.sample)(keys)
        return draws, [jax.vmap(lambda key, t=t: law.relaxed(jax.random.clone(key), t))(keys) for t in (1.0, 0.1, 0.01)]

    draws, soft = found(jax.random.split(key, 2000))
    gaps = [float(jnp.mean(jnp.abs(each - draws))) for each in soft]
    assert gaps[0] > 0.1
    assert gaps[1] < 0.4 * gaps[0]
    assert gaps[2] < 0.2 * gaps[1]  # in the end as the chance that two of the noisy logits are as close as that
    for each in soft:
        assert np.all(np.asarray(each) >= 0)
        if name == "matrices":
            np.testing.assert_allclose(jnp.sum(each, axis=-1), 1, atol=EXACT)
        else:
            np.testing.assert_allclose(jnp.sum(each, axis=-1), jnp.sum(draws, axis=-1), rtol=1e-6)
    if name == "matrices":
        np.testing.assert_allclose(jnp.sum(soft[0], axis=-2), 1, atol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "cost", "soft", "near"),
    [("matrices", linear, True, 0.3), ("three drawn", bent, True, 0.3), ("2:3 masks", linear, False, 0.1)],
)
def test_the_bias_of_a_relaxed_gradient_falls_with_the_temperature(
    name: str, cost: Any, soft: bool, near: float, key: Array
) -> None:
    logits = jnp.asarray(LAWS[name].logits)
    exact = jit(jax.grad(mean(name, cost)))(logits)
    found = []
    for each, temperature in zip(jax.random.split(key), (10.0, near), strict=True):
        rules = {"x": StructuredRelaxation(temperature, soft)}
        estimate = jit(vt.grad(program(name, cost), num_samples=8192, rules=rules))(each, logits)
        assert estimate.biased
        error = float(jnp.linalg.norm(estimate.value - exact))
        found.append((error, SIGMAS * float(jnp.linalg.norm(estimate.stderr))))
    (far, noise), (close, noisier) = found
    assert far > 2 * noise
    assert close < far / 3 + noisier
    assert noisier < far / 2


@pytest.mark.parametrize("name", RELAXED)
def test_hard_keeps_the_value_and_soft_says_that_it_does_not(name: str, key: Array) -> None:
    """In single precision, at a temperature that is low for it."""
    logits = jnp.asarray(LAWS[name].logits, jnp.float32)

    def cost(key: Array, logits: Array) -> Array:
        return jnp.sum(vt.draw(key, LAWS[name].make(logits), name="x") ** 2)

    hard, soft = (
        vt.value_and_grad(cost, num_samples=8, rules={"x": StructuredRelaxation(0.05, soft)}) for soft in (False, True)
    )
    (whole, gradient), (less, another) = jit(hard)(key, logits), jit(soft)(jax.random.clone(key), logits)
    assert gradient.biased
    assert another.biased
    assert less.biased
    assert not whole.biased
    assert float(whole.value) == np.sum(LAWS[name].outcomes[0])  # the squares of ones
    assert whole.value - less.value > 1e-6
    for each in (gradient.value, another.value):
        assert each.dtype == jnp.float32
        assert np.all(np.isfinite(each))


@pytest.mark.parametrize("name", MASKS)
def test_straight_through_with_marginals_is_exact_over_all_draws_where_the_cost_is_linear(name: str) -> None:
    estimate = vt.value_and_grad(program(name, linear), num_samples=1, rules={"x": MarginalStraightThrough()})

    def estimator(logits: Array) -> Any:
        value, gradient = estimate(jax.random.key(0), logits)
        assert gradient.biased
        assert not value.biased
        return value.value, gradient.value

    value, gradient = over_all(name, estimator)
    exact = jit(jax.value_and_grad(mean(name, linear)))(jnp.asarray(LAWS[name].logits))
    np.testing.assert_allclose(value, exact[0], atol=EXACT)
    np.testing.assert_allclose(gradient, exact[1], atol=EXACT)


@pytest.mark.parametrize("rule", [MarginalStraightThrough(), StructuredRelaxation(0.5)], ids=["marginal", "structured"])
def test_relaxed_in_a_scan_of_lanes(rule: Any, key: Array) -> None:
    def cost(key: Array, logits: Array) -> Array:
        def step(carry: Array, key: Array) -> tuple[Array, None]:
            lanes = jax.vmap(lambda key: vt.draw(key, NMMask(logits, 2, 3), name="mask"))(jax.random.split(key, 2))
            return 2 * carry + linear(jnp.mean(lanes, axis=0)), None

        return jax.lax.scan(step, jnp.zeros(()), jax.random.split(key, 3))[0]

    logits = jnp.asarray(LAWS["2:3 masks"].logits)
    estimate = jit(vt.grad(cost, num_samples=4, rules={"mask": rule}))(key, logits)
    assert estimate.biased
    assert np.all(np.isfinite(estimate.value))
    if isinstance(rule, MarginalStraightThrough):  # then nothing in it is random
        np.testing.assert_allclose(estimate.value, 7 * jax.grad(mean("2:3 masks", linear))(logits), atol=EXACT)


REFUSED: dict[str, tuple[Any, Any, str]] = {
    "integers": (
        lambda key, t: linear(vt.draw(key, PlackettLuce(t), name="x")),
        StructuredRelaxation(0.5), "PlackettLuce has no method relaxed",
    ),
    "not one's own": (
        lambda key, t: jnp.sum(vt.draw(key, dist.Normal(t, 1.0), name="x")),
        StructuredRelaxation(0.5), "Normal has no method relaxed",
    ),
    "no marginals": (
        lambda key, t: linear(vt.draw(key, PermutationMatrix(t), name="x")),
        MarginalStraightThrough(), "PermutationMatrix has no method inclusion_probabilities",
    ),
    "a comparison": (
        lambda key, t: jnp.sum(jnp.where(vt.draw(key, TopK(t, 2), name="x") > 0.5, 1.0, 3.0)),
        StructuredRelaxation(0.5), "no derivative passes `gt`",
    ),
    "a cast": (
        lambda key, t: linear(vt.draw(key, TopK(t, 2), name="x").astype(int)),
        MarginalStraightThrough(), "no derivative passes `convert_element_type`",
    ),
    "a key used twice": (
        lambda key, t: linear(vt.draw(key, TopK(t, 2), name="x")) + jax.random.normal(jax.random.clone(key)),
        StructuredRelaxation(0.5), "key",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str, key: Array) -> None:
    cost, rule, why = REFUSED[name]
    with pytest.raises(ValueError, match=f"{type(rule).__name__} cannot serve the draw 'x'.*{why}"):
        vt.grad(cost, rules={"x": rule})(key, jnp.asarray(LOGITS))


def test_second_derivatives_are_refused(key: Array) -> None:
    twice = vt.grad(vt.grad(program("three drawn", bent), rules={"x": StructuredRelaxation(0.5)}))
    with pytest.raises(ValueError, match="only its first derivative is available"):
        twice(key, jnp.asarray(LOGITS))


def test_fields_of_the_rule() -> None:
    for temperature in (0.0, -1.0, jnp.inf):
        with pytest.raises(ValueError, match="temperature must be a positive number"):
            StructuredRelaxation(temperature)
