"""The length of paths climbs to where they carry chains furthest, on which closed formulas have a say."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernels.law import LIMIT, ROOT, log_density
from scipy import optimize

from variate.mcmc import ChEES, RandomWalk
from variate.mcmc.adaptation import Warmup, trajectory
from variate.mcmc.base import Info
from variate.mcmc.hamiltonian import paths
from variate.protocols import Move

CHAINS = 40_000
MEAN = jnp.array([3.0, -1.0])
# Of paths of lengths uT, u uniform, on a round normal law of d coordinates, the criterion is d E[sin^2(uT)]: largest
# where 2T = tan(2T).
BEST = float(optimize.brentq(lambda t: np.tan(2 * t) - 2 * t, 2.1, 2.3))


def moved(key: jax.Array, length: float) -> Move:
    """Exact paths from exact draws of a correlated normal law."""
    k1, k2, k3 = jax.random.split(key, 3)
    y, p = (jax.random.normal(k, (CHAINS, 2)) for k in (k1, k2))
    share = jax.random.uniform(k3, (CHAINS,))
    cos, sin = jnp.cos(share * length)[:, None], jnp.sin(share * length)[:, None]
    start, end = (MEAN[None] + x @ ROOT.T for x in (y, y * cos + p * sin))
    nothing = jnp.zeros(CHAINS)
    before = paths.State(start, nothing, start, share, start, p)
    info = Info(jnp.ones(CHAINS), *[jnp.zeros(CHAINS, bool)] * 2)
    return Move(before, before._replace(share=share, end=end, velocity=p * cos - y * sin), info)


def z_of(key: jax.Array, length: float, mutant: str = "") -> float:
    move = moved(key, length)
    if mutant == "velocity at the start":
        move = move._replace(after=move.after._replace(velocity=move.before.velocity))
    center = jnp.zeros(2) if mutant == "no center" else MEAN
    slopes = trajectory.slopes(ROOT, jnp.asarray(length), center, move)
    return float(jnp.mean(slopes) / (jnp.std(slopes) / CHAINS**0.5))


def test_the_slope_is_nothing_at_the_best_length_alone(key: jax.Array) -> None:
    keys = jax.random.split(key, 3)
    assert abs(z_of(keys[0], BEST)) < LIMIT
    assert z_of(keys[1], BEST / 1.2) > LIMIT
    assert z_of(keys[2], BEST * 1.2) < -LIMIT


@pytest.mark.parametrize("mutant", ["velocity at the start", "no center"])
def test_a_wrong_slope_is_seen(mutant: str, key: jax.Array) -> None:
    assert abs(z_of(key, BEST, mutant)) > LIMIT


@jax.jit
def learnt(move: Move) -> jax.Array:
    """After thirty steps that are all the same."""

    def once(learner: trajectory.PathLength, _: None) -> tuple[trajectory.PathLength, None]:
        kernel = types.SimpleNamespace(scale=ROOT, step_size=0.1, **learner.settings(jnp.asarray(True)))
        return learner.learned(kernel, move), None

    learner = jax.lax.scan(once, trajectory.PathLength.begin(2, float, 1_000), length=30)[0]
    return learner.settings(jnp.asarray(False))["length"]


def test_the_length_follows_the_slope_and_what_is_no_number_has_no_say(key: jax.Array) -> None:
    move = moved(key, BEST / 1.2)
    lost = move.after.end.at[:7].set(jnp.nan)
    info = move.info._replace(acceptance=move.info.acceptance.at[:7].set(0.0))
    assert learnt(move) > 2.5
    assert learnt(move._replace(after=move.after._replace(end=lost), info=info)) > 2.5
    nowhere = move._replace(info=info._replace(acceptance=jnp.zeros(CHAINS)))
    assert float(learnt(nowhere)) == pytest.approx(2.0)


def test_paths_fill_the_interval_evenly_and_are_as_long_as_asked() -> None:
    share, shares = jnp.zeros(()), []
    for _ in range(50):
        share, steps = paths.planned(share, 3.0, 0.5, 5)
        shares.append(float(share))
        assert int(steps) == np.clip(np.ceil(shares[-1] * 6), 1, 5)
    gaps = np.diff(np.sort(np.array([0.0, *shares, 1.0])))
    assert gaps.max() < 2 / 50  # of random numbers the largest gap is about log(50) / 50
    assert ChEES(0.1, 3.0).learner(3, float) is None


def test_a_kernel_without_a_learner_of_its_own_has_none() -> None:
    assert Warmup(RandomWalk(1.0), 3, 20, float).begin().own is None
    found = Warmup(ChEES(), 3, 20, float).begin().kernel(log_density)
    assert found.max_steps == 64
    assert float(found.length) == pytest.approx(2.0)
