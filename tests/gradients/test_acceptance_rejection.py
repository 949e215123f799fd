"""Gammas that move as their sampler's proposal does: exact by quadrature, honest when sampled, refused in words."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from gradients.gamma_nodes import EXACT, discrepancies
from gradients.gamma_programs import CASES, LAWS, RULE, RULES, case, linked
from gradients.sampled_checks import ALPHA, blind, exact_gradient, far, flat
from gradients.sampled_laws import gamma
from gradients.test_gradient_coverage import Case, bars, honest
from jax import Array, lax
from jax.random import split
from programs.laws import FAST, loosely
from scipy import stats

import variate as vt
from variate.gradients import Score
from variate.gradients.rules import acceptance_rejection
from variate.gradients.rules.acceptance_rejection import AcceptanceRejection, noise, reparameterized
from variate.programs import distributions


@pytest.mark.wide
@pytest.mark.slow
@pytest.mark.table
@pytest.mark.parametrize(("law", "name"), CASES)
def test_gradients_are_right_within_their_error_bars(law: str, name: str, key: Array) -> None:
    row = case(law, name)
    run = vt.value_and_grad(row.program, num_samples=row.samples, block_size=2_000, rules=row.assignments[0])
    value, gradient = jax.jit(run, compiler_options=FAST)(key, *row.args)
    truth = exact_gradient(row)
    assert not gradient.biased
    assert not far(value, flat(row.expectation(*row.args)))
    assert not far(gradient, truth), (gradient, truth)
    assert not blind(gradient, truth), (gradient, truth)


@pytest.mark.wide
@pytest.mark.parametrize("name", EXACT)
def test_the_expectations_of_corrected_derivatives_are_exact(name: str) -> None:
    assert max(discrepancies(EXACT[name], EXACT[name].order)) < 1e-6


DENSITY, SLOPE = acceptance_rejection.log_density, acceptance_rejection.log_slope
MUTANTS: dict[str, tuple[str, Any]] = {
    "correction dropped": ("log_density", lambda *operands: lax.stop_gradient(DENSITY(*operands))),
    "wrong sign": ("log_density", lambda *operands: -DENSITY(*operands)),
    "density of the proposal's value": ("log_slope", lambda *operands: jnp.zeros_like(SLOPE(*operands))),
    "slope for its inverse": ("log_slope", lambda *operands: -SLOPE(*operands)),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptance_rejection, *MUTANTS[name])
    assert discrepancies(EXACT["gamma"], 1)[0] > 1e-3


def sine(key: Array, t: Array) -> Array:
    return jnp.sin(vt.draw(key, dist.Gamma(t[0], t[1]), name="x"))


def sine_mean(t: Array) -> Array:
    return (1 + t[1] ** -2) ** (-t[0] / 2) * jnp.sin(t[0] * jnp.arctan(1 / t[1]))


def covered(law: str, name: str, num_samples: int) -> Case:
    row = case(law, name)
    return Case(row.program, row.args[0], row.expectation, num_samples, row.assignments[0])


COVERED = {
    "gamma": Case(sine, jnp.array([0.7, 1.2]), sine_mean, 512, {"x": RULE}),
    "a beta": covered("beta", "alone", 128),
    "gammas in a scan": covered("a gamma below one", "scan", 256),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COVERED)
def test_error_bars_are_honest(name: str, key: Array) -> None:
    found = bars(COVERED[name], key)
    assert honest(found), found


@pytest.mark.slow
def test_second_derivatives_are_right_within_their_error_bars(key: Array) -> None:
    row = case("a gamma below one", "linked")
    (at,) = row.args
    loss = vt.gradients.surrogate_loss(row.program, num_samples=8, rules=row.assignments[0])
    hessians = jax.vmap(jax.hessian(loss, argnums=1), in_axes=(0, None))
    found = jax.jit(hessians, compiler_options=FAST)(split(key, 20_000), at)
    exact = jax.hessian(row.expectation)(at)
    error = np.std(found, axis=0) / np.sqrt(len(found))
    bound = stats.norm.isf(ALPHA / 2 / exact.size) * error
    assert np.all(np.abs(np.mean(found, axis=0) - exact) < bound), (np.mean(found, axis=0), error, exact)
    assert np.any(np.abs(exact) / 2 > 2 * bound)


def test_draws_are_those_of_the_sampler_and_their_lanes_a_loop(key: Array) -> None:
    program, _ = linked(LAWS["a gamma below one"])
    at = jnp.asarray(LAWS["a gamma below one"].at)

    def run(rules: dict[str, Any]) -> Callable[[Array], tuple[Array, Array]]:
        both = vt.value_and_grad(program, num_samples=8, rules=rules)
        return lambda key: tuple(each.value for each in both(key, at))

    ours, other = run(RULES["linked"]), run(dict.fromkeys("xy", Score()))
    value, gradient = jax.jit(ours, compiler_options=FAST)(jax.random.clone(key))
    assert np.allclose(value, jax.jit(other, compiler_options=FAST)(jax.random.clone(key))[0], rtol=1e-12)
    lanes = jax.jit(jax.vmap(ours), compiler_options=FAST)(jax.random.clone(key)[None])
    assert np.allclose(lanes[1][0], gradient, rtol=1e-10)


@pytest.mark.parametrize("law", ["a gamma below one", "dirichlet", "student"])
def test_single_precision_stays_single(law: str, key: Array) -> None:
    at = jnp.asarray(LAWS[law].at, jnp.float32)

    @loosely
    def moved(t: Array) -> tuple[Array, Array, Array]:
        k1, k2 = split(jax.random.clone(key))
        many = LAWS[law].make(t, jnp.float32(0.5)).expand((3,))
        value = lax.stop_gradient(distributions.sample(many, k1).astype(jnp.float32))
        inner = distributions.innermost(many)
        return value, *reparameterized(inner, value, noise(inner, value, k2, 2))

    (value, *found), slopes = jax.jit(lambda t: (moved(t), jax.jacobian(moved)(t)), compiler_options=FAST)(at)
    assert np.array_equal(value, found[0])
    assert all(x.dtype == jnp.float32 for x in found)
    assert all(np.all(np.isfinite(x)) for x in slopes)


def test_values_that_were_rounded_to_zero_have_finite_gradients(key: Array) -> None:
    @loosely
    def moved(a: Array) -> tuple[Array, Array]:
        law = dist.Gamma(a, 2.0)
        return reparameterized(law, jnp.zeros(()), noise(law, jnp.zeros(()), jax.random.clone(key), 2))

    found, slopes = moved(jnp.asarray(1e-3)), jax.jacobian(moved)(1e-3)
    assert found[0] == 0
    assert all(np.all(np.isfinite(x)) for x in slopes)


def test_concentrations_below_one_need_a_step(key: Array) -> None:
    gradient = vt.grad(gamma, num_samples=8, rules={"x": AcceptanceRejection(augmentation=0)})
    found = gradient(key, jnp.array([0.7, 1.0]))
    assert not found.converged
    assert np.isnan(found.value[0])
    assert gradient(split(key)[0], jnp.array([1.7, 1.0])).converged


def one_draw(make: Callable[[Array], Any], f: Callable[[Array], Array] = jnp.square) -> Callable[[Array, Array], Array]:
    return lambda key, t: jnp.sum(f(vt.draw(key, loosely(make)(t), name="x").astype(float)))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda t: dist.Normal(t, 1.0), r"Normal is not known to be made of gammas; Beta, .*StudentT are\. Those that"),
        (lambda t: dist.Poisson(t), "Poisson is not known to be made of gammas"),
        (lambda t: dist.TransformedDistribution(dist.Gamma(t), dist.transforms.ExpTransform()), "TransformedDistrib"),
    ],
)
def test_laws_that_are_not_made_of_gammas(make: Callable[[Array], Any], match: str, key: Array) -> None:
    with pytest.raises(ValueError, match=rf"(?s)AcceptanceRejection cannot serve the draw 'x'.*{match}"):
        vt.grad(one_draw(make), rules={"x": RULE})(key, 0.7)


def test_a_key_that_serves_something_else_is_refused(key: Array) -> None:
    def program(key: Array, t: Array) -> Array:
        return vt.draw(key, dist.Gamma(t), name="x") * jax.random.uniform(key)

    with jax.debug_key_reuse(False), pytest.raises(ValueError, match=r"(?s)cannot serve the draw 'x'.*also serves"):
        vt.grad(program, rules={"x": RULE})(key, 0.7)


def test_a_broken_path_is_refused(key: Array) -> None:
    with pytest.raises(vt.BiasedGradientError, match=r"(?s)AcceptanceRejection would be biased.*'x'.*floor"):
        vt.grad(one_draw(dist.Gamma, jnp.floor), rules={"x": RULE})(key, 0.7)


def test_a_while_loop_is_refused(key: Array) -> None:
    def program(key: Array, t: Array) -> Array:
        def body(state: tuple) -> tuple:
            key, x = state
            key, k = split(key)
            return key, x + vt.draw(k, dist.Gamma(t), name="x")

        return lax.while_loop(lambda state: state[1] < 3, body, (key, jnp.zeros(())))[1]

    with pytest.raises(ValueError, match=r"(?s)cannot serve the draw 'x'.*while_loop"):
        vt.grad(program, rules={"x": RULE})(key, 0.7)


@pytest.mark.parametrize("steps", [-1, 1.5, True, "two"])
def test_augmentations_that_are_no_number_of_steps(steps: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="augmentation"):
        AcceptanceRejection(augmentation=steps)
