"""Every kernel leaves its density invariant, and is reversible if it says so; each mutant is seen.

From exact draws of the target, three steps must leave its moments, and one step must be as likely backwards: z-tests of
eight statistics of 40,000 chains at 1e-6 each, so right kernels fail less than once in 100,000 runs.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from kernels import denoising, hamiltonian, langevin, proposals, slices, tempering
from kernels.law import LIMIT, SCALE, Law, always, backwards, log_density, worst

from variate.mcmc import HMC, NUTS, RandomWalk, random_walk
from variate.protocols import Kernel


class Drifting(RandomWalk):
    """Its proposal prefers one side, which its ratio does not know."""

    def step(self, key: jax.Array, state: Any) -> tuple:
        moved = random_walk.State(state.position + 0.2, self.log_density(state.position + 0.2))
        after, info = RandomWalk.step(self, key, moved)
        return jax.tree.map(lambda new, old: jnp.where(info.accepted, new, old), after, state), info


LAWS = {
    "random walk": Law(
        RandomWalk(SCALE, log_density=log_density),
        random_walk,
        {"no accept step": always, "the ratio upside down": backwards},
        {"a drift that the ratio does not know": Drifting(0.8, log_density=log_density)},
    ),
    **hamiltonian.LAWS,
    **langevin.LAWS,
    **slices.LAWS,
    **proposals.LAWS,
    **tempering.LAWS,
    **denoising.LAWS,
}


def row(name: str, *case: str) -> Any:
    return pytest.param(name, *case, marks=[pytest.mark.long] if name == "nuts" else [])


@pytest.mark.wide
@pytest.mark.parametrize("name", [row(name) for name in LAWS])
def test_the_density_is_left_as_it_is_and_steps_are_reversible(name: str, key: jax.Array) -> None:
    assert worst(LAWS[name].kernel, key, LAWS[name]) < LIMIT


@pytest.mark.wide
@pytest.mark.spared
@pytest.mark.parametrize(("name", "mutant"), [(name, mutant) for name in LAWS for mutant in LAWS[name].rules])
def test_a_wrong_rule_is_seen(name: str, mutant: str, key: jax.Array, monkeypatch: pytest.MonkeyPatch) -> None:
    law = LAWS[name]
    monkeypatch.setattr(law.module, law.rule, law.rules[mutant])
    assert worst(law.kernel, key, law) > LIMIT


@pytest.mark.wide
@pytest.mark.spared
@pytest.mark.parametrize(("name", "mutant"), [row(name, mutant) for name in LAWS for mutant in LAWS[name].kernels])
def test_a_wrong_kernel_is_seen(name: str, mutant: str, key: jax.Array) -> None:
    assert worst(LAWS[name].kernels[mutant], key, LAWS[name]) > LIMIT


@pytest.mark.wide
@pytest.mark.parametrize("name", LAWS)
def test_a_kernel_is_a_pytree_that_runs_alone(name: str, key: jax.Array) -> None:
    kernel = LAWS[name].kernel
    assert isinstance(kernel, Kernel)
    k1, k2 = jax.random.split(key)
    start = kernel.init(k1, jnp.zeros(3))
    state, info = kernel.step(k2, start)
    step = eqx.filter_jit(lambda kernel, key: kernel.step(key, start))
    compiled, _ = step(kernel, jax.random.clone(k2))
    assert all(jnp.allclose(a, b, rtol=1e-12) for a, b in zip(state, compiled, strict=True))
    assert 0 <= info.acceptance <= 1
    keys = jax.random.split(jax.random.clone(k2), 4)
    lanes, _ = jax.jit(jax.vmap(kernel.step, (0, None)))(keys, start)
    one_by_one = [step(kernel, own)[0].position for own in jax.random.clone(keys)]
    assert jnp.allclose(lanes.position, jnp.stack(one_by_one), rtol=1e-12)


@pytest.mark.wide
@pytest.mark.parametrize("name", LAWS)
def test_a_density_that_is_no_number_is_never_moved_to(name: str, key: jax.Array) -> None:
    def broken(x: jax.Array) -> jax.Array:
        return jnp.where(jnp.sum(x) == 0, 0.0, jnp.nan) + 0 * x[0]

    k1, k2 = jax.random.split(key)
    kernel = eqx.tree_at(lambda k: k.log_density, LAWS[name].kernel, broken)
    state, info = kernel.step(k2, kernel.init(k1, jnp.zeros(3)))
    assert jnp.array_equal(state.position, jnp.zeros(3))
    assert info.divergent
    assert info.acceptance == 0


@pytest.mark.wide
@pytest.mark.parametrize("name", LAWS)
def test_a_kernel_keeps_to_single_precision(name: str, key: jax.Array) -> None:
    def single(x: Any) -> Any:
        return x.astype(jnp.float32) if eqx.is_inexact_array(x) else x

    kernel = jax.tree.map(single, eqx.tree_at(lambda k: k.log_density, LAWS[name].kernel, lambda x: -0.5 * x @ x))
    k1, k2 = jax.random.split(key)
    start = kernel.init(k1, jnp.ones(3, jnp.float32))
    state, info = kernel.step(k2, start)
    assert [x.dtype for x in state] == [x.dtype for x in start] == [jnp.float32] * len(state)
    assert info.acceptance.dtype == jnp.float32


def test_a_kernel_without_a_density_says_so(key: jax.Array) -> None:
    with pytest.raises(TypeError, match="log_density: the kernel has none yet"):
        RandomWalk(0.5).init(key, jnp.zeros(2))


def test_a_random_walk_goes_by_its_triangle_and_not_without_a_scale(key: jax.Array) -> None:
    k1, k2 = jax.random.split(key)
    triangle = jnp.array([[1.0, 0.0], [-3.0, 2.0]])

    def moved(scale: Any) -> jax.Array:
        kernel = RandomWalk(scale, log_density=lambda x: 0.0 * jnp.sum(x))
        return kernel.step(jax.random.clone(k2), kernel.init(jax.random.clone(k1), jnp.zeros(2)))[0].position

    assert jnp.allclose(moved(triangle), triangle @ moved(1.0), rtol=1e-12)
    with pytest.raises(TypeError, match="scale"):
        RandomWalk(None)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RandomWalk(0.0), "scale must be positive and finite, got 0.0"),
        (lambda: RandomWalk(jnp.array([1.0, jnp.nan])), "scale must be positive"),
        *hamiltonian.REFUSED,
        *langevin.REFUSED,
        *slices.REFUSED,
        *proposals.REFUSED,
        *tempering.REFUSED,
        *denoising.REFUSED,
        (lambda: HMC(-0.1, 3), "step_size must be positive"),
        (lambda: HMC(0.1, 0), "num_steps must be a positive integer"),
        (lambda: HMC(0.1, 3, jitter=1.0), "jitter must be at least 0 and below 1"),
        (lambda: NUTS(0.1, jnp.ones((2, 2))), "scale must be a number, one for each coordinate or a lower triangle"),
        (lambda: NUTS(0.1, -jnp.eye(2)), "scale must be positive and finite"),
        (lambda: NUTS(max_doublings=13), "max_doublings must be from 1 to 12, got 13"),
        (lambda: NUTS(acceptance=1.0), "acceptance must be between 0 and 1"),
    ],
)
def test_settings_that_move_nowhere_are_refused(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()
