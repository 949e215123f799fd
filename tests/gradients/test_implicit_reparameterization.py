"""A draw that follows its distribution function: exact by quadrature, honest when sampled, refused in words."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from gradients.exactness import derivatives
from gradients.followed_laws import ROWS, Row, expectations, followed
from gradients.followed_programs import (
    PROGRAMS,
    RULES,
    THREE,
    VECTORS,
    angle,
    angle_mean,
    cut,
    cut_mean,
    mixed,
    mixed_mean,
    moved,
    vector_mixture,
)
from gradients.sampled_checks import blind, estimated, exact_gradient, far
from gradients.sampled_laws import Die
from gradients.test_gradient_coverage import Case, bars, honest
from jax import Array, lax
from jax.random import split
from programs.laws import loosely
from scipy import stats

import variate as vt
from variate.gradients import ImplicitReparameterization, LeaveOneOut, Score
from variate.gradients.rules import implicit_reparameterization
from variate.gradients.rules.implicit_reparameterization import follow
from variate.programs import cdfs

pytestmark = pytest.mark.spared


def parameters(row: Row) -> dict[str, Array]:
    return {name: jnp.asarray(value, float) for name, value in row.at.items()}


def discrepancies(row: Row, order: int) -> list[float]:
    """The largest difference between a derivative of an expectation and the mean of the implicit one, by order."""
    at = parameters(row)
    exact, found = (jax.jit(derivatives(functools.partial(f, row), order))(at) for f in (expectations, followed))
    errors = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b) / (1 + jnp.abs(a)))), exact, found)
    return [max(jax.tree.leaves(each)) for each in errors]


@pytest.mark.wide
@pytest.mark.parametrize("name", ROWS)
def test_the_expectations_of_implicit_derivatives_are_exact(name: str) -> None:
    first, *second = discrepancies(ROWS[name], ROWS[name].order)
    assert first < 1e-8
    assert all(error < 1e-7 for error in second)


def test_vectors_are_followed_element_by_element() -> None:
    nodes, weights = np.polynomial.legendre.leggauss(14)

    def grid(t: dict) -> tuple[Array, Array]:
        """Panels between the kinks, by axis."""
        axes, sizes = [], []
        for places in jnp.sort(t["loc"], axis=0).T:
            fixed = [jnp.linspace(-30.0, 0, 9) + places[0], jnp.linspace(0, 30.0, 9) + places[1]]
            edges = jnp.concatenate(fixed)
            half, middle = jnp.diff(edges)[:, None] / 2, (edges[1:] + edges[:-1])[:, None] / 2
            axes.append((middle + half * nodes[None]).ravel())
            sizes.append((half * weights[None]).ravel())
        return jnp.stack(jnp.meshgrid(*axes, indexing="ij"), -1), jnp.outer(*sizes)

    def functions(x: Array) -> Array:
        return jnp.stack([jnp.sin(x[..., 0] + 2 * x[..., 1]), x[..., 0] * x[..., 1], jnp.exp(-jnp.sum(x**2, -1))])

    def weighed(t: dict) -> tuple[Array, Array]:
        x, size = grid(t)
        return x, size * jnp.exp(vt.programs.distributions.log_prob(vector_mixture(t), x))

    def exact(t: dict) -> Array:
        x, weight = weighed(t)
        return jnp.sum(functions(x) * weight[None], (1, 2))

    def implicit(t: dict) -> Array:
        x, weight = lax.stop_gradient(weighed(t))
        return jnp.sum(functions(follow(vector_mixture(t), x)) * weight[None], (1, 2))

    derivatives = [jax.jit(jax.jacobian(f))(VECTORS) for f in (exact, implicit)]
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: np.allclose(a, b, atol=1e-7), *derivatives)))


WEIGHTS = cdfs._weights
SOLVE = implicit_reparameterization._solve
MUTANTS: dict[str, tuple[Any, str, Any]] = {
    "wrong sign": (implicit_reparameterization, "_solve", lambda *operands: -SOLVE(*operands)),
    "no density": (implicit_reparameterization, "density", lambda law, x: jnp.ones_like(x)),
    "weights forgotten": (cdfs, "_weights", lambda d: lax.stop_gradient(WEIGHTS(d))),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*MUTANTS[name])
    assert discrepancies(ROWS["mixture of normals"], 1)[0] > 1e-2


CASES = [(name, n) for name, case in PROGRAMS.items() for n in range(len(case.assignments))]


@pytest.mark.wide
@pytest.mark.slow
@pytest.mark.table
@pytest.mark.parametrize(("name", "n"), CASES)
def test_gradients_are_right_within_their_error_bars(name: str, n: int, key: Array) -> None:
    case = PROGRAMS[name]
    value, gradient = estimated(case, n, key)
    truth = exact_gradient(case)
    assert not gradient.biased
    assert not far(value, np.atleast_1d(case.expectation(*case.args)))
    assert not far(gradient, truth)
    assert not blind(gradient, truth)


@pytest.mark.slow
def test_second_derivatives_are_right_within_their_error_bars(key: Array) -> None:
    at = THREE["loc"]
    moving = lambda loc: mixed_mean(THREE | {"loc": loc})  # noqa: E731
    first = vt.grad(moved, num_samples=4, rules=RULES)
    found = jax.jit(vt.grad(first, num_samples=79 * 64))(key, at)
    assert not far(found, np.ravel(jax.hessian(moving)(at)))


COVERED = {
    "mixture": Case(moved, THREE["loc"], lambda loc: mixed_mean(THREE | {"loc": loc}), 512, RULES),
    "moving bound": Case(cut, jnp.array([0.3, 1.2, -0.4]), cut_mean, 256),
    "von mises": Case(angle, jnp.array([0.6, 1.5]), angle_mean, 512, RULES),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COVERED)
def test_error_bars_are_honest(name: str, key: Array) -> None:
    found = bars(COVERED[name], key)
    assert honest(found), found


@pytest.mark.slow
def test_it_has_a_third_of_the_variance_of_a_score(key: Array) -> None:
    """Or less: a one-sided z-test on 64 pairs of variances, which a ratio of 3 passes with a probability of 1e-6."""
    program = of_law(lambda t: dist.TruncatedNormal(t, 1.2, low=-0.4), jnp.square)

    def variance(rule: Any) -> Array:
        gradient = vt.grad(program, num_samples=256, rules={"x": rule}, block_size=256)
        return jax.jit(jax.vmap(lambda k: gradient(k, 0.3).stderr ** 2))(split(jax.random.clone(key), 64))

    gain = variance(Score(LeaveOneOut())) - 3 * variance(ImplicitReparameterization())
    assert np.mean(gain) > stats.norm.isf(1e-6) * np.std(gain, ddof=1) / 8


def test_compiled_as_eager_and_lanes_as_a_loop(key: Array) -> None:
    gradient = vt.grad(mixed, num_samples=8, rules=RULES)
    keys = split(key, 3)
    lanes = jax.vmap(lambda k: gradient(k, THREE).value)(jax.random.clone(keys))
    for n in range(3):
        one = jax.tree.map(lambda x, n=n: x[n], lanes)
        eager = gradient(jax.random.clone(keys)[n], THREE).value
        compiled = jax.jit(gradient)(jax.random.clone(keys)[n], THREE).value
        for other in (compiled, one):
            assert all(jax.tree.leaves(jax.tree.map(lambda a, b: np.allclose(a, b, rtol=1e-10), eager, other)))


def test_values_are_those_of_the_sampler(key: Array) -> None:
    values = [
        vt.value_and_grad(mixed, num_samples=8, rules={"x": rule})(jax.random.clone(key), THREE)[0].value
        for rule in (ImplicitReparameterization(), Score())
    ]
    assert values[0] == values[1]


def of_law(make: Callable[[Array], Any], f: Callable[[Array], Array] = jnp.cos) -> Callable[[Array, Array], Array]:
    return lambda key, t: jnp.sum(f(vt.draw(key, loosely(make)(t), name="x").astype(float)))


def two(weights: Any, loc: Any) -> Any:
    return dist.MixtureSameFamily(dist.Categorical(probs=jnp.asarray(weights)), dist.Normal(jnp.asarray(loc), 1.0))


CHOSEN = {
    "a bound": (lambda t: dist.TruncatedNormal(low=t), "ImplicitReparameterization"),
    "a place": (lambda t: dist.TruncatedNormal(t, high=1.0), "ImplicitReparameterization"),
    "a power": (lambda t: dist.DoublyTruncatedPowerLaw(t, 0.5, 2.0), "ImplicitReparameterization"),
    "masked": (lambda t: dist.TruncatedCauchy(low=t).expand((3,)).mask(False), "ImplicitReparameterization"),
    "components": (lambda t: two([0.3, 0.7], jnp.arange(2.0) + t), "Pathwise"),
    "weights": (lambda t: two(jnp.stack([t, 1 - t]), [0.0, 1.0]), "Score(LeaveOneOut)"),
    "weights of vectors": (lambda t: vector_mixture(VECTORS | {"logits": VECTORS["logits"] * t}), "Score(LeaveOneOut)"),
    "an angle": (lambda t: dist.VonMises(t, 1.0), "Score(LeaveOneOut)"),
    "what needs it not": (lambda t: dist.Gamma(t, 1.0), "Pathwise"),
}


@pytest.mark.wide
@pytest.mark.parametrize("name", CHOSEN)
def test_what_is_chosen_unasked(name: str, key: Array) -> None:
    make, rule = CHOSEN[name]
    (row,) = vt.explain(of_law(make), num_samples=2)(key, 0.4).rows
    assert row.rule == rule
    assert not row.biased


REFUSED: dict[str, tuple[Callable[[Array], Any], int, str]] = {
    "an unknown law": (lambda t: dist.Kumaraswamy(t, 1.0), 1, r"of Kumaraswamy is not known; those of Asymmetric.*Uni"),
    "a law of one's own": (lambda t: Die(t * jnp.ones(2)), 1, "discrete"),
    "counts": (lambda t: dist.Poisson(t), 1, "discrete"),
    "a mixture of boxes": (
        lambda t: dist.MixtureGeneral(dist.Categorical(probs=jnp.ones(2) / 2), [dist.Uniform(0, t)] * 2),
        1, "a mixture over Uniform is not known; those over independent elements of Asymmetric.*Beta",
    ),
    "correlated components": (
        lambda t: dist.MixtureSameFamily(
            dist.Categorical(probs=jnp.ones(2) / 2), dist.MultivariateNormal(t * jnp.ones((2, 3)), jnp.eye(3))
        ),
        1, "a mixture over MultivariateNormal",
    ),
    "matrices": (
        lambda t: dist.MixtureSameFamily(
            dist.Categorical(probs=jnp.ones(2) / 2), dist.Normal(t * jnp.ones((2, 3, 3)), 1.0).to_event(2)
        ),
        1, "only those of numbers and of vectors",
    ),
    "a shape of a beta": (lambda t: dist.Beta(t, 1.0), 1, "Beta has no derivative in its concentration1"),
    "a shape of a gamma, twice": (lambda t: dist.Gamma(t, 1.0), 2, "Gamma has only a first derivative in its conc"),
    "supports that differ, twice": (
        lambda t: dist.MixtureGeneral(
            dist.Categorical(probs=jnp.ones(2) / 2), [dist.Normal(t), dist.Exponential()],
            support=dist.constraints.real,
        ),
        2, "density jumps where the support of a component ends",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_cannot_serve_it_refuses_in_words(name: str, key: Array) -> None:
    make, order, match = REFUSED[name]
    gradient = vt.grad(of_law(make), rules=RULES, order=order)
    with pytest.raises(ValueError, match=rf"(?s)ImplicitReparameterization cannot serve the draw 'x'.*{match}"):
        gradient(key, 0.7)


def test_a_cut_student_has_no_second_derivative_in_its_degrees_of_freedom() -> None:
    # NumPyro draws it only where TensorFlow Probability is.
    law = dist.TruncatedDistribution(dist.StudentT(3.0), low=0.0)
    assert cdfs.unknown(law, lambda part: True, 1) is None
    assert "degrees of freedom" in str(cdfs.unknown(law, lambda part: True, 2))


def test_numbers_that_are_no_arrays_are_followed_too() -> None:
    for make in (
        lambda t: dist.VonMises(0.3, t),
        lambda t: dist.TruncatedNormal(t, 1.0, low=0.1, high=2.0),
        lambda t: dist.TruncatedGamma(t, 1.0, low=0.1),
        lambda t: dist.StudentT(3.0, t, 1.0),
    ):
        slope = jax.grad(lambda t, make=make: follow(loosely(make)(t), jnp.asarray(0.4)))(1.2)
        assert np.isfinite(slope)
        assert slope != 0


def test_a_broken_path_is_refused(key: Array) -> None:
    program = of_law(lambda t: dist.TruncatedNormal(t, low=0.0), jnp.floor)
    with pytest.raises(vt.BiasedGradientError, match=r"(?s)ImplicitReparameterization.*'x'.*floor"):
        vt.grad(program, rules=RULES)(key, 0.7)
    (row,) = vt.explain(program, num_samples=2)(key, 0.7).rows
    assert row.rule == "Score(LeaveOneOut)"


def test_a_key_that_serves_something_else_is_refused(key: Array) -> None:
    def program(key: Array, t: Array) -> Array:
        return vt.draw(key, dist.TruncatedNormal(t, low=0.0), name="x") * jax.random.uniform(key)

    with jax.debug_key_reuse(False), pytest.raises(ValueError, match=r"(?s)cannot serve the draw 'x'.*also serves"):
        vt.grad(program, rules=RULES)(key, 0.7)
