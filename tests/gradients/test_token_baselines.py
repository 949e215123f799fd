"""The baseline of distilled tokens: exact over all outcomes, less noise than others, refused where it does not fit."""

import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from gradients.coins import Finite
from gradients.dice_programs import mean_over_faces
from gradients.exactness import SEED, arrays_of, exact, fresh, largest
from gradients.outcomes import Noise, Sum, noise, over_all
from gradients.test_gradient_coverage import Case, bars, honest
from jax import Array, lax
from jax.ad_checkpoint import checkpoint_name
from jax.nn import log_softmax, softmax
from jax.random import split
from scipy import special

import variate as vt
from variate.gradients import LeaveOneOut, NoBaseline, Optimal, Score, TokenKL
from variate.gradients.rules import token_kl

EXACT = 1e-10
TEACHER = jnp.array([[0.3, -0.4, 1.8], [1.1, 0.2, -0.9], [-0.5, 0.6, 0.1]])  # a row of logits for each token before
AT = jnp.array([[0.1, 0.5, -0.2], [0.4, -0.3, 0.8], [-0.6, 0.0, 0.7]])
BASELINE = TokenKL("student", "teacher")
WITH_OTHERS = TokenKL("student", "teacher", rest=LeaveOneOut())


def tokens(key: Array, t: Array) -> Array:
    """Two tokens by a table of bigrams, each of which costs how much likelier it is to the student."""

    def step(last: Array, k: Array) -> tuple[Array, Array]:
        student, teacher = checkpoint_name(t[last], "student"), checkpoint_name(TEACHER[last], "teacher")
        x = vt.draw(k, dist.Categorical(logits=student), name="x")
        return x, log_softmax(student)[x] - log_softmax(teacher)[x]

    return jnp.sum(lax.scan(step, jnp.zeros((), int), split(key))[1])


def tokens_mean(t: Array) -> Array:
    def cost(last: Array, x: Array) -> Array:
        return log_softmax(t[last])[x] - log_softmax(TEACHER[last])[x]

    def weighted(a: Array, b: Array) -> Array:
        return softmax(t[0])[a] * softmax(t[a])[b] * (cost(jnp.zeros((), int), a) + cost(a, b))

    return mean_over_faces((3, 3), weighted)


def together(key: Array, t: Array) -> Array:
    """Two independent tokens, whose costs are multiplied, so that both are charged with one number."""
    student, teacher = checkpoint_name(t[:2], "student"), checkpoint_name(TEACHER[:2], "teacher")
    x = vt.draw(key, dist.Categorical(logits=student), name="x")
    ratios = log_softmax(student) - log_softmax(teacher)
    return jnp.prod(jnp.take_along_axis(ratios, x[:, None], axis=1))


def together_mean(t: Array) -> Array:
    return jnp.prod(token_kl.divergence(t[:2], TEACHER[:2]))


PROGRAMS = {"tokens": Finite(tokens, (AT,), tokens_mean, "x"), "together": Finite(together, (AT,), together_mean, "x")}


@functools.cache
def noise_of(program: str, samples: int) -> Noise:
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(SEED), jnp.arange(samples))
    return noise(PROGRAMS[program].program, PROGRAMS[program].args, keys)


def summed(program: str, baseline: Any, samples: int) -> Sum:
    """Value and gradient, over all outcomes of the samples."""
    case = PROGRAMS[program]
    rules = {"x": Score(baseline)}
    estimate = vt.value_and_grad(fresh(case), num_samples=samples, rules=rules, stderr=False)

    def estimator() -> Any:
        value, gradient = estimate(jax.random.key(SEED), *case.args)
        return arrays_of(value.value, gradient.value)

    return over_all(estimator, noise_of(program, samples))


def error(program: str, baseline: Any, samples: int) -> float:
    return largest(summed(program, baseline, samples).mean, exact(PROGRAMS[program]))


@pytest.mark.wide
@pytest.mark.parametrize(
    ("program", "baseline", "samples"),
    [("tokens", BASELINE, 1), ("tokens", WITH_OTHERS, 2), ("together", BASELINE, 1), ("together", WITH_OTHERS, 2)],
)
def test_it_is_unbiased(program: str, baseline: TokenKL, samples: int) -> None:
    assert error(program, baseline, samples) < EXACT


def test_it_leaves_less_variance() -> None:
    """Of a sample; summed over all outcomes, so exactly."""
    ours, none = (float(np.sum(summed("tokens", b, 1).variance[1])) for b in (BASELINE, NoBaseline()))
    assert ours < 0.6 * none, (ours, none)
    with_others, others = (float(np.sum(summed("tokens", b, 2).variance[1])) for b in (WITH_OTHERS, LeaveOneOut()))
    assert with_others < others, (with_others, others)


def with_its_own(self: TokenKL, charges: Array, seen: Any, args: Any) -> Array:
    known = self.scale * jnp.sum(token_kl.divergence(*seen), axis=-1)
    return known + jnp.mean(charges - known, axis=0, keepdims=True)


def test_one_that_has_seen_the_sample_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TokenKL, "values", with_its_own)
    assert error("tokens", WITH_OTHERS, 2) > 1e-3


def test_the_divergence_is_that_of_scipy_and_knows_impossible_tokens() -> None:
    wanted = np.sum(special.rel_entr(softmax(AT), softmax(TEACHER)), axis=-1)
    np.testing.assert_allclose(token_kl.divergence(AT, TEACHER), wanted, rtol=1e-12)
    gone = AT.at[:, 1].set(-jnp.inf)
    for teacher in (TEACHER, TEACHER.at[:, 1].set(-jnp.inf)):
        assert np.all(np.isfinite(token_kl.divergence(gone, teacher)))
    assert np.all(token_kl.divergence(AT, gone) == np.inf)


@pytest.mark.slow
@pytest.mark.parametrize("baseline", [BASELINE, WITH_OTHERS], ids=["alone", "with others"])
def test_error_bars_are_honest(baseline: TokenKL, key: Array) -> None:
    found = bars(Case(tokens, AT, tokens_mean, 512, {"x": Score(baseline)}), key)
    assert honest(found), found


def after_the_draw(key: Array, t: Array) -> Array:
    x = vt.draw(key, dist.Categorical(logits=checkpoint_name(t[0], "student")), name="x")
    return checkpoint_name(TEACHER[x], "teacher")[x]


def other_shape(key: Array, t: Array) -> Array:
    x = vt.draw(key, dist.Categorical(logits=checkpoint_name(t[0], "student")), name="x")
    return checkpoint_name(TEACHER[0, :2], "teacher")[0] * x.astype(float)


def coin(key: Array, t: Array) -> Array:
    return vt.draw(key, dist.Bernoulli(logits=checkpoint_name(t[0], "student")[0]), name="x").astype(float)


REFUSED = {
    "the draw itself": (after_the_draw, "'teacher' depends on the draw 'x' itself"),
    "two shapes": (other_shape, r"'student' and 'teacher' should have one shape, got \(1, 3\) and \(1, 2\)"),
    "a coin": (coin, "BernoulliLogits draws no tokens"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(name: str, key: Array) -> None:
    program, match = REFUSED[name]
    with pytest.raises(ValueError, match=match):
        vt.grad(program, num_samples=3, rules={"x": Score(BASELINE)})(key, AT)


def test_fields_that_are_none() -> None:
    new = inspect.unwrap(TokenKL.__init__)
    with pytest.raises(ValueError, match="scale must be a finite number"):
        TokenKL("student", "teacher", float("nan"))
    for rest in (Optimal(), LeaveOneOut):
        with pytest.raises(TypeError, match="rest: expected NoBaseline"):
            new(object.__new__(TokenKL), "student", "teacher", 1.0, rest)
