"""Targets with discrete coordinates: their density, and what a heat bath in turn with NUTS makes of them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from programs import test_summation
from scipy import special

import variate as vt
from variate.mcmc import NUTS, Gibbs, HeatBath, RandomWalk, Slice, choice
from variate.programs import LogDensity, mixed

SIZE, NOISE = 13, 0.8
X = jax.random.normal(jax.random.key(1), (20, SIZE)) + jax.random.normal(jax.random.key(2), (20, 1))
Y = 0.35 * X[:, 1] - 0.3 * X[:, 4] + NOISE * jax.random.normal(jax.random.key(3), (20,))


def regression(key: jax.Array, x: jax.Array, y: jax.Array) -> None:
    """Of which variables y depends on; one that it does not depend on has a slope all the same."""
    k1, k2 = jax.random.split(key)
    used = vt.draw(k1, dist.Bernoulli(0.3).expand([SIZE]), name="used")
    slope = vt.draw(k2, dist.Normal(0.0, 1.0).expand([SIZE]), name="slope")
    vt.observe(dist.Normal(x @ (used.astype(float) * slope), NOISE), y)


def exact() -> np.ndarray:
    """The probability with which each variable is used, over all 2^13 sets: y given a set is normal."""
    sets = jnp.asarray((np.arange(2**SIZE)[:, None] >> np.arange(SIZE)) & 1, float)

    def log_weight(used: jax.Array) -> jax.Array:
        covariance = NOISE**2 * jnp.eye(len(Y)) + (X * used[None]) @ X.T
        root = jnp.linalg.cholesky(covariance)
        whitened = jax.scipy.linalg.solve_triangular(root, Y, lower=True)
        return -0.5 * whitened @ whitened - jnp.sum(jnp.log(jnp.diag(root))) + jnp.sum(used) * jnp.log(0.3 / 0.7)

    return np.asarray(jax.nn.softmax(jax.lax.map(log_weight, sets, batch_size=512)) @ sets)


def test_the_density_is_the_joint_one_and_nothing_between_the_values(key: jax.Array) -> None:
    target = mixed(regression, X, Y)
    assert target.names == ("used", "slope")
    position = target.start(key)
    values = target.constrain(position)
    np.testing.assert_allclose(target.log_density(position), vt.density(regression)(values, X, Y), rtol=1e-12)
    again = target.unconstrain(values)
    assert all(jnp.array_equal(again[name], position[name]) for name in target.names)
    for beside in (0.5, 2.0, -1.0):
        moved = {**position, "used": position["used"].at[3].set(beside)}
        assert target.log_density(moved) == -jnp.inf
    assert target.given(X[:5], Y[:5]).counts["used"].tolist() == [2] * SIZE


def labelled(key: jax.Array, y: jax.Array) -> None:
    """Values that do not begin at zero, of which there are too many together; beside them a draw that is summed out."""
    k1, k2 = jax.random.split(key)
    z = vt.draw(k1, dist.DiscreteUniform(3, 5).expand([9]), name="z")
    w = vt.draw(k2, dist.Bernoulli(0.3), name="w")
    vt.observe(dist.Normal((jnp.sum(z) + w).astype(float), 1.0), y)


def test_others_are_summed_out_still() -> None:
    target = mixed(labelled, Y[0])
    assert target.names == ("z",)
    z = jnp.array([3, 4, 5, 5, 4, 3, 3, 3, 4])
    position = target.unconstrain({"z": z})
    assert jnp.array_equal(position["z"], z.astype(float) - 3)
    both = [vt.density(labelled)({"z": z, "w": jnp.asarray(w)}, Y[0]) for w in (0, 1)]
    np.testing.assert_allclose(target.log_density(position), jax.nn.logsumexp(jnp.stack(both)), rtol=1e-12)


@pytest.mark.parametrize("model", [test_summation.counted, test_summation.stacked])
def test_draws_of_a_scan_that_carries_more_are_kept(model: Any) -> None:
    z = jnp.array([1, 0, 1, 1])
    found = mixed(model, test_summation.Y).log_density({"z": z.astype(float)})
    np.testing.assert_allclose(found, vt.density(model)({"z": z}, test_summation.Y), rtol=1e-12)


def at_once(self: HeatBath, key: jax.Array, state: Any) -> tuple:
    """All coordinates from where they were before."""
    keys = jax.random.split(key, state.position.size)
    one = [HeatBath.turned(self, own, state.position, jnp.asarray([n]))[0] for n, own in enumerate(keys)]
    return state._replace(position=jnp.diag(jnp.stack(one))), None


def flows(kernel: Any, step: Any, key: jax.Array) -> float:
    """The largest z of a pair of coordinates after one step from exact starts, 2 and 3 values, and of flows back."""
    logits = jnp.array([[0.0, 1.0, -0.5], [1.2, -0.3, 0.4]])
    kernel = type(kernel)(kernel.counts, log_density=lambda x: logits[x[0].astype(int), x[1].astype(int)])

    def chain(key: jax.Array) -> jax.Array:
        k1, k2, k3 = jax.random.split(key, 3)
        number = jax.random.categorical(k1, logits.ravel())
        start = jnp.stack([number // 3, number % 3]).astype(float)
        state, _ = step(kernel, k3, kernel.init(k2, start))
        return jnp.stack([number.astype(float), 3 * state.position[0] + state.position[1]])

    count = 40_000
    x, y = np.asarray(jax.jit(jax.vmap(chain))(jax.random.split(key, count)), int).T
    there = np.zeros((6, 6))
    np.add.at(there, (x, y), 1)
    p = np.asarray(jax.nn.softmax(logits.ravel()))
    law = np.abs(there.sum(0) - count * p) / np.sqrt(count * p * (1 - p))
    back = np.abs(there - there.T) / np.sqrt(np.maximum(there + there.T, 1))
    return float(max(law.max(), back.max()))


LIMIT = float(-special.ndtri(0.5e-6 / 42))


def test_a_heat_bath_leaves_the_law_as_it_is_and_is_reversible(key: jax.Array) -> None:
    k1, k2 = jax.random.split(key)
    assert flows(HeatBath((2, 3)), HeatBath.step, k1) < LIMIT
    assert flows(HeatBath((2, 3)), at_once, k2) > LIMIT


def test_a_heat_bath_says_what_is_wrong(key: jax.Array) -> None:
    with pytest.raises(ValueError, match="counts must be positive, got 0"):
        HeatBath(0)
    with pytest.raises(TypeError, match="counts must be integers"):
        HeatBath((2, 0.5))
    with pytest.raises(ValueError, match="counts must be one for each of 3 coordinates, got 2"):
        HeatBath((2, 2)).init(key, jnp.zeros(3))
    k1, k2 = jax.random.split(jax.random.clone(key))
    kernel = HeatBath(2, log_density=lambda x: jnp.where(jnp.sum(x) == 0, 0.0, jnp.nan))
    state, info = kernel.step(k2, kernel.init(k1, jnp.zeros(3)))
    assert info.divergent
    assert jnp.array_equal(state.position, jnp.zeros(3))


REAL, KEPT = tuple(range(SIZE)), tuple(range(SIZE, 2 * SIZE))  # in the order of names: slope, used


@pytest.mark.parametrize(
    ("kernel", "name"),
    [
        (NUTS(), "NUTS"),
        (RandomWalk(0.5), "RandomWalk"),
        (Slice(1.0), "Slice"),
        (Gibbs((NUTS(), RandomWalk(0.5)), (REAL, KEPT)), "RandomWalk"),
        (Gibbs((NUTS(), HeatBath(2)), ((*REAL, KEPT[2]), KEPT)), "NUTS"),
        (Gibbs((Gibbs((HeatBath(2), NUTS()), (REAL, KEPT)),), ((*KEPT, *REAL),)), ""),
        (Gibbs((NUTS(), HeatBath(2)), (REAL, KEPT)), ""),
        (Gibbs((Gibbs((HeatBath(2), NUTS()), (KEPT, REAL)),), ((*REAL, *KEPT),)), ""),
    ],
)
def test_a_kernel_of_real_numbers_is_refused_where_values_are_numbered(kernel: Any, name: str, key: jax.Array) -> None:
    target = mixed(regression, X, Y)
    if not name:
        return choice.check_moves(kernel, target)
    with pytest.raises(TypeError, match=f"kernel must not move 'used' by real numbers, as {name} does, .*HeatBath"):
        vt.sample(key, target, kernel=kernel)
    choice.check_moves(kernel, LogDensity(lambda x: -0.5 * x @ x, jnp.zeros(2 * SIZE)))


@pytest.mark.slow
def test_which_variables_are_used_is_found(key: jax.Array) -> None:
    """Against all sets, z-tests at 1e-6 together; and with the step size of NUTS in its block found, its acceptance.

    0.95 of the steps of NUTS are to be accepted, for here more than 4 in 1,000 of the warm-up diverge.
    """
    draws = vt.sample(key, mixed(regression, X, Y), num_samples=1_000)
    found = draws.expect(lambda x: x["used"])
    z = np.abs(np.asarray(found.value) - exact()) / np.asarray(found.stderr)
    assert np.max(z) < -special.ndtri(0.5e-6 / SIZE)
    assert abs(np.mean(draws.told["acceptances"][..., 0]) - 0.95) < 0.03
    assert draws.kernel == "Gibbs"
