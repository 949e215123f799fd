"""Simulation-based calibration: a sampler that is right passes, one that is not is named with what is wrong."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import variate as vt
from variate.diagnostics import Calibration, calibration
from variate.programs import worlds

GRID = jnp.linspace(-12.0, 12.0, 2_401)


def model(key: jax.Array, y: jax.Array) -> None:
    vt.observe(dist.Normal(vt.draw(key, dist.Normal(0.0, 2.0), name="mu"), 1.0), y, name="y")


def data(run: Any) -> tuple:
    return (run.observed["y"],)


class Values(NamedTuple):
    values: dict[str, Any]


def cells(key: jax.Array, weights: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Numbers of cells by their weights: one uniform number a draw, where `categorical` has one a draw and cell."""
    return jnp.searchsorted(jnp.cumsum(weights), jax.random.uniform(key, shape))


def exact(change: Callable[[jax.Array], jax.Array]) -> Callable:
    """Independent draws of a posterior of one number from its density on a grid, changed in units of its spread."""

    @jax.jit
    def sampler(key: jax.Array, target: Any) -> jax.Array:
        logs = jax.vmap(lambda mu: target.log_prob({"mu": mu}))(GRID)
        k1, k2 = jax.random.split(key)
        weights = jax.nn.softmax(logs)
        near = GRID[cells(k1, weights, (2, 50))]
        mean = weights @ GRID
        sd = jnp.sqrt(weights @ (GRID - mean) ** 2)
        return mean + sd * change((near + 0.01 * (jax.random.uniform(k2, near.shape) - 0.5) - mean) / sd)

    return lambda key, target: Values({"mu": sampler(key, target)})


def found(change: Callable, key: jax.Array) -> Calibration:
    return calibration(model, exact(change), data, num_sets=150)(key, jnp.zeros(3))


def test_a_sampler_that_is_right_passes(key: jax.Array) -> None:
    right = found(lambda z: z, key)
    assert right.p_value > 1e-6
    assert right.ranks["mu"].shape == (150,)
    assert 0 <= right.ranks["mu"].min() < right.ranks["mu"].max() <= 63


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda z: 0.5 * z, "too narrow"),
        (lambda z: 2.0 * z, "too wide"),
        (lambda z: z + 0.8, "too high"),
        (lambda z: z - 0.8, "too low"),
    ],
)
def test_one_that_is_not_is_told_with_what_is_wrong(change: Callable, words: str, key: jax.Array) -> None:
    wrong = found(change, key)
    assert wrong.p_value < 1e-6
    assert str(wrong).startswith(f"mu: posteriors are {words}, p = ")
    assert str(wrong).endswith("of 150 data sets")


def mixture(key: jax.Array, y: jax.Array) -> None:
    k1, k2, k3 = jax.random.split(key, 3)
    share = vt.draw(k1, dist.Beta(2.0, 2.0), name="share")
    shift = vt.draw(k2, dist.Normal(0.0, 1.0), name="shift")
    label = vt.draw(k3, dist.Bernoulli(share).expand([len(y)]), name="label")
    vt.observe(dist.Normal(shift + 2.0 * label.astype(float), 0.5), y, name="y")


def summed_out(key: jax.Array) -> Calibration:
    """Of independent draws by a grid of 40 shares and 81 shifts, whose cells are told apart no further."""
    share, shift = (x.ravel() for x in jnp.meshgrid((jnp.arange(40.0) + 0.5) / 40, jnp.linspace(-4.0, 4.0, 81)))

    @jax.jit
    def sampler(key: jax.Array, target: Any) -> dict[str, jax.Array]:
        k1, k2, k3 = jax.random.split(key, 3)
        logs = jax.vmap(lambda share, shift: target.log_prob({"share": share, "shift": shift}))(share, shift)
        at = cells(k1, jax.nn.softmax(logs), (2, 32))
        within = (jax.random.uniform(k, at.shape, minval=-0.5, maxval=0.5) for k in (k2, k3))
        return {"share": share[at] + next(within) / 40, "shift": shift[at] + next(within) / 10}

    judge = calibration(mixture, lambda key, target: Values(sampler(key, target)), data, num_sets=60)
    return judge(key, jnp.zeros(6))


@pytest.mark.slow
@pytest.mark.table
def test_a_model_whose_labels_are_summed_out_is_calibrated(key: jax.Array, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one where the first label stands for all is not."""
    right = summed_out(key)
    assert set(right.ranks) == {"share", "shift"}
    assert right.p_value > 1e-6
    jax.clear_caches()
    monkeypatch.setattr(worlds, "log_sum", lambda x, axis, draw=0: jnp.take(x, 0, axis))
    wrong = summed_out(jax.random.clone(key))
    assert wrong.p_value < 1e-6
    jax.clear_caches()


def test_ranks_of_uniform_numbers_are_uniform_for_any_count() -> None:
    """Where ranks are no multiple of the bins, too; of every number there is a row."""
    ranks = {"a": np.arange(1_000) % 51, "b": np.stack([np.arange(1_000) % 51, np.zeros(1_000, int)], axis=1)}
    judged = Calibration(ranks, 50, 3)
    assert judged.findings()[0].name == "b[1]"
    assert {row.name for row in judged.findings()} == {"a", "b[0]", "b[1]"}
    assert judged.findings()[-1].p_value > 0.99
    assert str(judged).endswith("3 runs are in doubt by their own account")


@pytest.mark.slow
def test_chains_of_two_numbers_are_calibrated(key: jax.Array) -> None:
    def two(key: jax.Array, y: jax.Array) -> None:
        k1, k2 = jax.random.split(key)
        mean = vt.draw(k1, dist.Normal(0.0, 2.0), name="mean")
        scale = vt.draw(k2, dist.HalfNormal(1.0), name="scale")
        vt.observe(dist.Normal(mean, scale), y, name="y")

    def sampler(key: jax.Array, target: Any) -> Any:
        return vt.sample(key, target, num_samples=500, num_warmup=250)

    judged = calibration(two, sampler, data, num_sets=100, num_draws=31)(key, jnp.zeros(4))
    assert set(judged.ranks) == {"mean", "scale"}
    assert judged.p_value > 1e-6
    assert 0 <= judged.doubtful <= 100


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((3.0, vt.sample, data), TypeError, "model must be a function"),
        ((model, lambda key, target: key, data), TypeError, "sampler must return draws with values by name"),
        ((model, exact(lambda z: z), lambda run: (jnp.zeros(2), 3)), TypeError, "argument"),
    ],
)
def test_bad_input_is_named(arguments: tuple, error: type, words: str, key: jax.Array) -> None:
    with pytest.raises(error, match=words):
        calibration(*arguments)(key, jnp.zeros(2))


def test_counts_are_checked(key: jax.Array) -> None:
    with pytest.raises(ValueError, match="num_sets must be a positive integer"):
        calibration(model, vt.sample, data, num_sets=0)
    with pytest.raises(ValueError, match="num_draws must be no more than the sampler makes, 100, got 101"):
        calibration(model, exact(lambda z: z), data, num_draws=101)(key, jnp.zeros(2))
