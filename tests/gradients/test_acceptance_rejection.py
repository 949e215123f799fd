"""Gammas that move as their sampler's proposal does: exact by quadrature, honest when sampled, refused in words."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from gradients.sampled import Sampled
from gradients.sampled_checks import ALPHA, blind, exact_gradient, far, flat
from gradients.sampled_laws import gamma
from gradients.test_gradient_coverage import Case, bars, honest
from jax import Array, lax
from jax.nn import sigmoid, softmax
from jax.random import split
from jax.scipy.special import gammaln
from programs.laws import FAST, loosely
from scipy import stats

import variate as vt
from variate.gradients import Enumerate, NoBaseline, Score
from variate.gradients.rules import acceptance_rejection
from variate.gradients.rules.acceptance_rejection import AcceptanceRejection, Noise, noise, reparameterized
from variate.programs import distributions


class Law(NamedTuple):
    """A law of parameters and of a state, in which the mean of a statistic of it is linear."""

    make: Callable[[Array, Array], Any]
    at: list[float]
    mean: Callable[[Array, Array], Array]
    variance: Callable[[Array, Array], Array]
    statistic: Callable[[Array], Array] = lambda x: x


def share(t: Array, s: Array) -> Array:
    return 0.5 * sigmoid(t[0]) + 0.4 * s


def shares(t: Array, s: Array) -> Array:
    return 0.6 * softmax(t[:3]) + 0.4 * jnp.stack([s, 1 - s, 0 * s])


def share_variance(t: Array, s: Array) -> Array:
    return share(t, s) * (1 - share(t, s)) / (1 + t[1])


def first_variance(t: Array, s: Array) -> Array:
    return shares(t, s)[0] * (1 - shares(t, s)[0]) / (1 + t[3])


def gamma_of(t: Array, s: Array) -> dist.Gamma:
    return dist.Gamma(t[0] + 0.3 * s, t[1])


def gamma_center(t: Array, s: Array) -> Array:
    return (t[0] + 0.3 * s) / t[1]


def gamma_variance(t: Array, s: Array) -> Array:
    return (t[0] + 0.3 * s) / t[1] ** 2


def chi_mean(t: Array, s: Array) -> Array:
    return t[0] + 0.3 * s


LAWS = {
    "a gamma below one": Law(gamma_of, [0.3, 1.4], gamma_center, gamma_variance),
    "a gamma above one": Law(gamma_of, [2.5, 1.4], gamma_center, gamma_variance),
    "inverse gamma": Law(
        lambda t, s: dist.InverseGamma(t[0] + 0.3 * s, t[1]), [0.8, 1.4], gamma_center, gamma_variance, lambda x: 1 / x
    ),
    "chi square": Law(lambda t, s: dist.Chi2(t[0] + 0.3 * s), [1.1], chi_mean, lambda t, s: 2 * chi_mean(t, s)),
    "beta": Law(
        lambda t, s: dist.Beta(t[1] * share(t, s), t[1] * (1 - share(t, s))), [0.4, 1.5], share, share_variance
    ),
    "beta of a proportion": Law(
        lambda t, s: dist.BetaProportion(share(t, s), t[1]), [0.4, 3.5], share, share_variance
    ),
    "dirichlet": Law(
        lambda t, s: dist.Dirichlet(t[3] * shares(t, s)),
        [0.4, -0.2, 0.1, 2.5], lambda t, s: shares(t, s)[0], first_variance, lambda x: x[..., 0],
    ),
    "student": Law(
        lambda t, s: dist.StudentT(t[0], t[1] + 0.3 * s, t[2]),
        [9.0, 0.8, 1.1], lambda t, s: t[1] + 0.3 * s, lambda t, s: t[2] ** 2 * t[0] / (t[0] - 2),
    ),
}  # fmt: skip
RULE = AcceptanceRejection()


def drawn(law: Law, key: Array, t: Array, s: Any, name: str = "x") -> Array:
    return law.statistic(vt.draw(key, loosely(law.make)(t, jnp.asarray(s)), name=name))


def square(law: Law, t: Array, s: Any) -> Array:
    s = jnp.asarray(s)
    return law.mean(t, s) ** 2 + law.variance(t, s)


def alone(law: Law) -> tuple[Callable, Callable]:
    return lambda key, t: drawn(law, key, t, 0.5) ** 2, lambda t: square(law, t, 0.5)


def in_a_scan(law: Law) -> tuple[Callable, Callable]:
    """The parameters of each draw depend on the one before."""

    def program(key: Array, t: Array) -> Array:
        def step(s: Array, key: Array) -> tuple[Array, Array]:
            s = drawn(law, key, t, s)
            return s, s

        last, states = lax.scan(step, jnp.full((), 0.5), split(key, 6))
        return last + jnp.mean(states)

    def mean(t: Array) -> Array:
        states = [jnp.full((), 0.5)]
        for _ in range(6):
            states.append(law.mean(t, states[-1]))
        return states[-1] + jnp.mean(jnp.stack(states[1:]))

    return program, mean


def in_lanes(law: Law) -> tuple[Callable, Callable]:
    """Elements in a `vmap`, an expansion and an event."""
    states = jnp.array([0.2, 0.7])

    def program(key: Array, t: Array) -> Array:
        def lane(key: Array, s: Array) -> Array:
            return law.statistic(vt.draw(key, loosely(law.make)(t, s).expand((2,)).to_event(1), name="x"))

        return jnp.sum(jax.vmap(lane)(split(key, 2), states) @ jnp.array([1.0, -2.0])) ** 2

    def mean(t: Array) -> Array:
        means, variances = (jnp.stack([f(t, s) for s in states]) for f in (law.mean, law.variance))
        return jnp.sum(means) ** 2 + 5 * jnp.sum(variances)

    return program, mean


def linked(law: Law) -> tuple[Callable, Callable]:
    def program(key: Array, t: Array) -> Array:
        k1, k2 = split(key)
        first = drawn(law, k1, t, 0.5)
        return first * drawn(law, k2, t, first, "y")

    def mean(t: Array) -> Array:
        zero, one = jnp.zeros(()), jnp.ones(())
        slope = law.mean(t, one) - law.mean(t, zero)
        return law.mean(t, zero) * law.mean(t, zero + 0.5) + slope * square(law, t, 0.5)

    return program, mean


def among_others(law: Law) -> tuple[Callable, Callable]:
    """An enumerated draw before it and a scored one after it."""

    def program(key: Array, t: Array) -> Array:
        k1, k2, k3 = split(key, 3)
        coin = vt.draw(k1, dist.Bernoulli(logits=t[0]), name="coin").astype(float)
        x = drawn(law, k2, t, coin)
        return x * vt.draw(k3, dist.Normal(t[0] + x, 1.0), name="z")

    def mean(t: Array) -> Array:
        up = sigmoid(t[0])
        each = [square(law, t, s) + t[0] * law.mean(t, jnp.asarray(s)) for s in (0.0, 1.0)]
        return (1 - up) * each[0] + up * each[1]

    return program, mean


PROGRAMS = {"alone": alone, "scan": in_a_scan, "lanes": in_lanes, "linked": linked, "among others": among_others}
RULES = {
    "alone": {"x": RULE},
    "scan": {"x": RULE},
    "lanes": {"x": AcceptanceRejection(NoBaseline(), augmentation=1)},
    "linked": {"x": RULE, "y": AcceptanceRejection(augmentation=2)},
    "among others": {"coin": Enumerate(), "x": RULE, "z": Score()},
}


def case(law: str, name: str) -> Sampled:
    program, mean = PROGRAMS[name](LAWS[law])
    return Sampled(program, (jnp.asarray(LAWS[law].at),), mean, (RULES[name],), samples=30_000)


# Each takes seconds to compile, so those that are gammas or betas by another name have fewer programs.
ALIASES = ("a gamma above one", "inverse gamma", "chi square", "beta of a proportion")
CASES = [(law, name) for law in LAWS for name in PROGRAMS if law not in ALIASES or name in ("alone", "linked")]
CASES = [(law, name) for law, name in CASES if law not in ("beta", "dirichlet") or name != "among others"]


@pytest.mark.slow
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


class Exact(NamedTuple):
    """A law of parameters, nodes of its values as (values, weights), and what its expectation is taken of."""

    make: Callable[[Array], Any]
    at: list[float]
    nodes: Callable[[], tuple[Array, Array]]
    functions: Callable[[Array], list[Array]]
    augmentation: int = 0
    derivative: Callable = jax.hessian
    step: float = 0.3


def line(low: float, high: float, step: float) -> Array:
    """Nodes of the trapezoidal rule, which on a line converges as fast as what it integrates decays."""
    return jnp.arange(low, high, step)


def positive(low: float = -42.0, high: float = 4.4, step: float = 0.2) -> tuple[Array, Array]:
    x = jnp.exp(line(low, high, step))
    return x, x * step


def fraction(reach: float = 24.0, step: float = 0.2) -> tuple[Array, Array]:
    y = line(-reach, reach, step)
    return sigmoid(y), sigmoid(y) * sigmoid(-y) * step


def real(step: float = 0.1) -> tuple[Array, Array]:
    y = line(-14.0, 14.0, step)
    return jnp.sinh(y), jnp.cosh(y) * step


def simplex() -> tuple[Array, Array]:
    x, weight = fraction(20.0, 0.4)
    first, second = jnp.meshgrid(x, x, indexing="ij")
    values = jnp.stack([first, (1 - first) * second, (1 - first) * (1 - second)], axis=-1)
    return values.reshape(-1, 3), (jnp.outer(weight * (1 - x), weight)).ravel()


def smooth(x: Array) -> list[Array]:
    return [x**2, jnp.exp(-x), x / (1 + x)]


def tails(x: Array) -> list[Array]:
    return [x, x / (1 + x**2)]


def products(x: Array) -> list[Array]:
    return [x[..., 0] ** 2 * x[..., 1], jnp.exp(x[..., 2])]


EXACT = {
    "gamma": Exact(lambda t: dist.Gamma(t[0], t[1]), [1.7, 1.3], positive, smooth),
    "gamma, augmented": Exact(lambda t: dist.Gamma(t[0], t[1]), [0.7, 1.3], positive, smooth, 1),
    "gamma, augmented twice": Exact(
        lambda t: dist.Gamma(t[0], t[1]), [0.7, 1.3], lambda: positive(step=0.4), smooth, 2, jax.jacobian, 0.4
    ),
    "inverse gamma": Exact(lambda t: dist.InverseGamma(t[0], t[1]), [2.7, 1.3], lambda: positive(-5.0, 40.0), tails),
    "chi square": Exact(lambda t: dist.Chi2(t[0]), [3.2], positive, smooth, derivative=jax.jacobian),
    "beta": Exact(lambda t: dist.Beta(t[0], t[1]), [1.8, 2.4], fraction, smooth),
    "beta of a proportion": Exact(
        lambda t: dist.BetaProportion(t[0], t[1]), [0.4, 4.5], fraction, smooth, derivative=jax.jacobian
    ),
    "dirichlet": Exact(dist.Dirichlet, [1.8, 2.2, 1.5], simplex, products, derivative=jax.jacobian),
    "student": Exact(lambda t: dist.StudentT(t[0], t[1], t[2]), [5.2, 0.3, 1.2], real, tails),
}


def auxiliary(row: Exact, law: Any, x: Array) -> tuple[Array, Noise, Array]:
    """Places among the values, the noise that comes with them, and its weights."""
    family = acceptance_rejection.FAMILIES[type(law)]
    y = line(-34.0, 4.4, row.step)
    axes = [jnp.arange(len(x))]
    parts = family.gammas(law, x[:1], jnp.ones(1)).shape[-1]
    axes += [y] * (row.augmentation * parts + (family.total is not None))
    place, *logs = (axis.ravel() for axis in jnp.meshgrid(*axes, indexing="ij"))
    total, weight = jnp.ones(()), jnp.ones_like(place, float)
    if family.total is not None:
        total, concentration = jnp.exp(logs[0]), family.total(law, x)[place]
        weight = jnp.exp(concentration * logs.pop(0) - total - gammaln(concentration)) * row.step
    added = jnp.exp(jnp.stack(logs)) if logs else jnp.ones((0, len(place)))
    weight = weight * jnp.prod(added * jnp.exp(-added) * row.step, axis=0)
    by_step = added.reshape(row.augmentation, parts, len(place))
    return place, Noise(total, jnp.swapaxes(by_step, 1, 2)), weight


@loosely
def expectations(row: Exact, t: Array) -> Array:
    x, size = row.nodes()
    density = jnp.exp(distributions.log_prob(row.make(t), x))
    return jnp.stack(row.functions(x)) @ (size * density)


@loosely
def corrected(row: Exact, t: Array) -> Array:
    """The same, with the derivatives that moved values and the densities of their noise have by themselves."""
    x, size = row.nodes()
    held = row.make(lax.stop_gradient(t))
    weight = size * jnp.exp(distributions.log_prob(held, x))
    place, noise, weights = auxiliary(row, held, x)
    moved, log_densities = reparameterized(row.make(t), x[place], noise)
    log_density = jnp.sum(log_densities, axis=-1)
    values = jnp.stack(row.functions(moved)) * jnp.exp(log_density - lax.stop_gradient(log_density))
    return values @ lax.stop_gradient(weight[place] * weights)


def discrepancy(row: Exact, derivative: Callable) -> float:
    at = jnp.asarray(row.at)
    pairs = [jax.jit(derivative(lambda t, f=f: f(row, t)))(at) for f in (expectations, corrected)]
    return float(jnp.max(jnp.abs(pairs[0] - pairs[1]) / (1 + jnp.abs(pairs[0]))))


@pytest.mark.parametrize("name", EXACT)
def test_the_expectation_of_the_corrected_gradient_is_exact(name: str) -> None:
    assert discrepancy(EXACT[name], jax.jacobian) < 1e-6


@pytest.mark.parametrize("name", [name for name, row in EXACT.items() if row.derivative is jax.hessian])
def test_so_is_that_of_its_second_derivative(name: str) -> None:
    assert discrepancy(EXACT[name], jax.hessian) < 1e-6


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
    assert discrepancy(EXACT["gamma"], jax.jacobian) > 1e-3


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
