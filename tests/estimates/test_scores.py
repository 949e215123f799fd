"""The scores that are taken for controls have the mean 0, in every array that a distribution holds."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import Array
from programs.counted import COUNTED
from programs.laws import FAST, build, loosely
from programs.measured import MEASURED
from scipy import stats

import variate as vt
from variate.estimates import Scores, scores
from variate.estimates.scores import _LAWS
from variate.programs.program import Program
from variate.programs.runs import run_with
from variate.programs.staging import stage
from variate.programs.structure import take_apart

ROWS = COUNTED | MEASURED


def drawing(name: str) -> tuple[Program, list[Array]]:
    """A program that draws once, from the arrays that the distribution holds."""
    arrays, structure = take_apart(build(ROWS[name]))

    def program(key: Array, *arrays: Array) -> Array:
        return jax.tree.leaves(vt.draw(key, structure.build(arrays)))[0].sum()

    return loosely(lambda: stage(program, jax.random.key(0), *arrays)[0])(), arrays


def worst_p_value(name: str, key: Array) -> float:
    """Of z-tests of each score's mean over 4,096 draws, times their number."""
    program, arrays = drawing(name)
    wishes = Scores(1000).wishes(program)

    def one(key: Array) -> Array:
        scores = run_with(program, [key, *arrays], {}, wishes).scores
        return jnp.concatenate([score.ravel() for several in scores.values() for score in several])

    keys = jax.random.split(key, 4096)
    found = np.asarray(jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=512), compiler_options=FAST)(keys))
    error = found.std(axis=0) / 64
    z = np.where(
        error > 0, np.abs(found.mean(axis=0)) / np.where(error > 0, error, 1), np.abs(found.mean(axis=0)) * 1e9
    )
    return float(2 * stats.norm.sf(z.max()) * z.size)


@pytest.mark.wide
@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(law.__name__ for law in _LAWS))
def test_the_scores_of_a_law_have_the_mean_zero(name: str, key: Array) -> None:
    """At 1e-6 a law."""
    assert worst_p_value(name, key) >= 1e-6


def test_probabilities_that_are_normalised_on_the_simplex_alone_are_left_out(key: Array) -> None:
    def program(key: Array, probs: Array) -> Array:
        return vt.draw(key, dist.Categorical(probs=probs)).astype(float)

    with pytest.raises(ValueError, match="no draw to serve"):
        vt.expect(program, method=Scores())(key, jnp.asarray([0.2, 0.3, 0.5]))


def test_a_support_that_moves_is_left_out(key: Array) -> None:
    def program(key: Array, high: Array) -> Array:
        return vt.draw(key, dist.Uniform(jnp.zeros(()), high))

    with pytest.raises(ValueError, match="no draw to serve"):
        vt.expect(program, method=Scores())(key, jnp.asarray(2.0))


@pytest.mark.slow
def test_a_law_that_does_not_belong_would_be_caught(key: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "_LAWS", _LAWS | {dist.CategoricalProbs})
    assert worst_p_value("CategoricalProbs", key) < 1e-6
