"""Draws follow the log probability, which is that of the definition, sums to one and has its derivatives."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from programs.laws import ALPHA
from scipy import stats
from subsets.small_laws import LAWS, MASKS, Methods, jit, law_of, off_the_support, orders, sets

import variate as vt
from variate.programs import simulate
from variate.subsets import ConditionalPoisson, NMMask, PermutationMatrix, PlackettLuce, TopK, top_k

EXACT = 1e-10
DRAWS = 20_000


@functools.cache
def log_probs(name: str, log_prob: Any = Methods().log_prob) -> np.ndarray:
    """Of all outcomes."""
    law = law_of(name)
    return np.asarray(jit(jax.vmap(lambda x: log_prob(law, x)))(jnp.asarray(LAWS[name].outcomes)))


DRAWN: dict[str, np.ndarray] = {}  # with a law's own sampler, which most mutants share


def counted(name: str, key: Array, methods: Methods) -> np.ndarray | None:
    """How often each outcome is drawn, or None if something else is."""
    if methods.sample is Methods().sample and name in DRAWN:
        return DRAWN[name]
    law, outcomes = law_of(name), LAWS[name].outcomes
    draws = np.asarray(jit(jax.vmap(lambda key: methods.sample(law, key)))(jax.random.split(key, DRAWS)))
    same = np.all(draws.reshape(DRAWS, 1, -1) == outcomes.reshape(1, len(outcomes), -1), axis=-1)
    counts = np.sum(same, axis=0)
    if methods.sample is Methods().sample:
        DRAWN[name] = counts
    return counts if np.sum(counts) == DRAWS else None


def p_value(name: str, key: Array, methods: Methods = Methods()) -> float:
    """Of draws against the log probability; 0 if that does not sum to one or something else is drawn."""
    probabilities = np.exp(log_probs(name, methods.log_prob))
    if abs(np.sum(probabilities) - 1) > EXACT:
        return 0.0
    counts = counted(name, key, methods)
    if counts is None:
        return 0.0
    return float(stats.chisquare(counts, DRAWS * probabilities / np.sum(probabilities)).pvalue)


@pytest.mark.wide
@pytest.mark.parametrize("name", LAWS)
def test_draws_follow_the_log_probability(name: str, key: Array) -> None:
    assert p_value(name, key) > ALPHA


@pytest.mark.wide
@pytest.mark.parametrize(("name", "mutant"), [(name, mutant) for name, law in LAWS.items() for mutant in law.mutants])
def test_a_mutant_is_caught(name: str, mutant: str, key: Array) -> None:
    assert p_value(name, key, LAWS[name].mutants[mutant]) < ALPHA


def differences(f: Any, x: np.ndarray, step: float = 1e-3) -> np.ndarray:
    """The derivative of f[lanes, outcomes] by differences of fourth order, [outcomes, *x]."""
    units = np.eye(x.size).reshape(-1, *x.shape)
    lanes = np.concatenate([x + shift * step * units for shift in (-2, -1, 1, 2)])
    found = np.asarray(f(jnp.asarray(lanes))).reshape(4, x.size, -1)
    return np.tensordot([1, -8, 8, -1], found, 1).T.reshape(-1, *x.shape) / (12 * step)


@pytest.mark.wide
@pytest.mark.parametrize("name", LAWS)
def test_probabilities_and_their_derivatives_are_those_of_the_definition(name: str) -> None:
    law = LAWS[name]
    logits, outcomes = jnp.asarray(law.logits), jnp.asarray(law.outcomes)

    def ours(logits: Array) -> Array:
        return law.make(logits).log_prob(outcomes)

    def exact(logits: Array) -> Array:
        return jax.vmap(lambda x: law.exact(logits, x))(outcomes)

    @jit
    def both(logits: Array) -> list[tuple[Array, ...]]:
        return [(f(logits), jax.jacrev(f)(logits), jax.jacfwd(jax.jacrev(f))(logits)) for f in (ours, exact)]

    found, wanted = both(logits)
    for each, right in zip(found, wanted, strict=True):
        np.testing.assert_allclose(each, right, atol=EXACT)
    np.testing.assert_allclose(found[1], differences(jit(jax.vmap(ours)), law.logits), atol=1e-9)


@pytest.mark.wide
@pytest.mark.parametrize("name", LAWS)
def test_what_cannot_be_drawn_is_impossible(name: str) -> None:
    wrong = off_the_support(name)

    @jit
    def found(logits: Array) -> tuple[Array, Array]:
        def log_probs(logits: Array) -> Array:
            return LAWS[name].make(logits).log_prob(wrong)

        return log_probs(logits), jax.jacrev(log_probs)(logits)

    log_probs, gradients = found(jnp.asarray(LAWS[name].logits))
    assert np.all(log_probs == -np.inf)
    assert np.all(np.isfinite(gradients))


@pytest.mark.wide
@pytest.mark.parametrize("name", LAWS)
def test_a_batch_is_its_members(name: str, key: Array) -> None:
    law = LAWS[name]
    logits = jnp.asarray(law.logits)
    batch = jnp.stack([logits + shift * jnp.cos(logits * 7) for shift in range(3)])

    @jit
    def found(batch: Array) -> tuple[Array, ...]:
        draws = law.make(batch).sample(key)
        lanes = jax.vmap(lambda one, x: law.make(one).log_prob(x))(batch, draws)
        # One value under several laws, and several under one.
        under_all, of_all = law.make(batch).log_prob(draws[0]), law.make(batch[0]).log_prob(draws)
        return draws, lanes, law.make(batch).log_prob(draws), under_all, of_all

    draws, lanes, together, under_all, of_all = found(batch)
    assert draws.shape == (3, *law.outcomes.shape[1:])
    assert together.shape == under_all.shape == of_all.shape == (3,)
    np.testing.assert_allclose(together, lanes, atol=EXACT)
    np.testing.assert_allclose([under_all[0], of_all[0]], lanes[0], atol=EXACT)
    assert abs(under_all[1] - lanes[0]) > 1e-3


@pytest.mark.wide
@pytest.mark.parametrize("name", LAWS)
def test_in_a_program(name: str, key: Array) -> None:
    """Drawn in a scan of lanes."""
    law = LAWS[name]

    def program(key: Array, logits: Array) -> Array:
        def step(carry: Array, key: Array) -> tuple[Array, Array]:
            lanes = jax.vmap(lambda key: vt.draw(key, law.make(logits), name="x"))(jax.random.split(key, 2))
            return carry + jnp.sum(lanes.astype(float)), lanes

        return jax.lax.scan(step, jnp.zeros(()), jax.random.split(key, 3))[1]

    @jit
    def both(key: Array, logits: Array) -> tuple[Any, Array]:
        found = simulate(program)(key, logits)
        return found, jnp.sum(law.make(logits).log_prob(found.result), axis=1)

    found, log_probs = both(key, jnp.asarray(law.logits))
    assert found.result.shape == (3, 2, *law.outcomes.shape[1:])
    np.testing.assert_array_equal(found.draws["x"].value, found.result)
    np.testing.assert_allclose(found.draws["x"].log_prob, log_probs, atol=EXACT)
    assert np.all(np.isfinite(log_probs))


@pytest.mark.parametrize("name", LAWS)
def test_with_and_without_jit(name: str, key: Array) -> None:
    law = law_of(name)
    np.testing.assert_array_equal(law.sample(key), jit(lambda key: law.sample(key))(jax.random.clone(key)))


@pytest.mark.parametrize("name", LAWS)
def test_single_precision(name: str, key: Array) -> None:
    law = LAWS[name]
    single = jnp.asarray(law.logits, jnp.float32)
    draw = jit(lambda logits: law.make(logits).sample(key))(single)
    assert draw.dtype == (jnp.int32 if law.outcomes.dtype == np.int32 else jnp.float32)
    found = jit(lambda logits, x: law.make(logits).log_prob(x))(single, jnp.asarray(law.outcomes, draw.dtype))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, log_probs(name), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", MASKS)
def test_masks_may_be_of_booleans(name: str) -> None:
    law, x = law_of(name), LAWS[name].outcomes[0]
    log_prob = jit(lambda x: law.log_prob(x))
    assert log_prob(x.astype(bool)) == log_prob(x)


OFFSETS = jnp.array([0.0, 1.0, 0.31, -0.55, 0.83, 0.12, -1.0])


@pytest.mark.wide
@pytest.mark.parametrize("make", [PlackettLuce, TopK, ConditionalPoisson])
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_logits_far_apart(make: Any, dtype: Any, key: Array) -> None:
    outcomes = jnp.asarray(orders(7, 3)) if make is PlackettLuce else jnp.asarray(sets(7, 3), dtype)

    @jit
    def found(key: Array, logits: Array) -> tuple[Array, ...]:
        law = make(logits, 3)
        gradient = jax.jacrev(lambda logits: make(logits, 3).log_prob(outcomes))(logits)
        return law.log_prob(outcomes), law.log_prob(law.sample(key)), gradient

    for each, spread in zip(jax.random.split(key, 4), (0.0, 30.0, 400.0, 1e4), strict=True):
        all_of_them, of_a_draw, gradient = found(each, (spread * OFFSETS).astype(dtype))
        assert np.all(np.isfinite(all_of_them))
        assert abs(float(jnp.sum(jnp.exp(all_of_them))) - 1) < (EXACT if dtype == jnp.float64 else 2e-5)
        assert np.isfinite(of_a_draw)
        assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("items", [1, 5])
@pytest.mark.parametrize("make", [TopK, ConditionalPoisson])
def test_all_and_one_of_the_items(make: Any, items: int, key: Array) -> None:
    @jit
    def found(logits: Array) -> tuple[Array, ...]:
        every, one = make(logits, items), make(logits, 1)
        ends = jnp.stack([jnp.ones(items), jnp.zeros(items)])
        inclusion = every.inclusion_probabilities(), one.inclusion_probabilities()
        return every.sample(key), every.log_prob(ends), *inclusion, one.log_prob(jnp.eye(items))

    logits = jnp.linspace(-1, 1, items)
    draw, ends, all_in, one_in, singles = found(logits)
    np.testing.assert_array_equal(draw, 1)
    np.testing.assert_allclose(ends, [0, -np.inf], atol=EXACT)
    np.testing.assert_allclose(all_in, 1, atol=EXACT)
    np.testing.assert_allclose(one_in, jax.nn.softmax(logits), atol=EXACT)
    np.testing.assert_allclose(singles, jax.nn.log_softmax(logits), atol=EXACT)


def test_a_matrix_sorts() -> None:
    values = jnp.array([3.0, 1.0, 2.0])
    order = jnp.array([2, 0, 1])
    matrix = jnp.asarray(np.eye(3)[np.asarray(order)])
    np.testing.assert_array_equal(matrix @ values, values[order])
    logits = jnp.array([0.5, -1.0, 0.3])
    assert PermutationMatrix(logits).log_prob(matrix) == PlackettLuce(logits).log_prob(order)


def test_masks_are_listed_in_order() -> None:
    law = NMMask(jnp.zeros((1, 6)), 2, 4)
    np.testing.assert_array_equal(law.masks, sets(4, 2))
    many = NMMask(jnp.zeros((3, 2, 70)), 4, 8)
    draw = many.sample(jax.random.key(0))
    assert draw.shape == (3, 16)
    assert np.all(np.sum(np.asarray(draw).reshape(3, 2, 8), axis=-1) == 4)
    np.testing.assert_allclose(many.log_prob(draw), -2 * np.log(70), atol=EXACT)


@pytest.mark.parametrize("batch", [(), (3, 2)])
def test_large_sets_are_written_as_small_ones_are(
    batch: tuple[int, ...], monkeypatch: pytest.MonkeyPatch, key: Array
) -> None:
    law = TopK(jnp.zeros((*batch, 12)), top_k.FEW)
    compared = law.sample(jax.random.clone(key))
    monkeypatch.setattr(top_k, "FEW", 0)
    np.testing.assert_array_equal(compared, law.sample(key))
    np.testing.assert_array_equal(jnp.sum(compared, axis=-1), law.size)
