"""What averages runs of a program refuses one whose runs have weights, and never ignores them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import pytest

import variate as vt
from variate import estimates, gradients


def weighted(key: jax.Array, t: jax.Array) -> jax.Array:
    z = vt.draw(key, dist.Normal(t, 1.0), name="z")

    def step(total: jax.Array, y: jax.Array) -> tuple[jax.Array, None]:
        vt.observe(dist.Normal(z, 1.0), y, name="seen")
        return total + y, None

    jax.lax.scan(step, 0.0, jnp.arange(3.0))
    return z


def at_level(key: jax.Array, level: int, t: jax.Array) -> tuple[jax.Array, jax.Array]:
    z = weighted(key, t)
    return z, z


AVERAGES: dict[str, Callable] = {
    "expect": vt.expect(weighted, num_samples=8),
    "expect under jit": jax.jit(vt.expect(weighted, num_samples=8)),
    "expect until": vt.expect(weighted, until=vt.StdErr(0.1)),
    "a design": vt.expect(weighted, method=estimates.Sobol(), num_samples=8),
    "weights": vt.expect(weighted, method=estimates.Importance({"z": lambda d: dist.Normal(0.0, 2.0)}), num_samples=8),
    "quantile": estimates.quantile(weighted, 0.5, num_samples=64),
    "exceedance": estimates.exceedance(weighted, 2.0),
    "multilevel": estimates.multilevel(at_level, rmse=0.1),
    "debiased": estimates.debiased(at_level, num_samples=8),
    "sensitivity": estimates.sensitivity(weighted, num_samples=64),
    "grad": vt.grad(weighted, num_samples=8),
    "grad under jit": jax.jit(vt.grad(weighted, num_samples=8)),
    "explain": vt.explain(weighted),
    "tune": vt.tune(weighted, candidates=[gradients.Score(), gradients.Pathwise()], progress=False),
    "black box": gradients.black_box(weighted, method=gradients.SPSA(0.1), num_samples=8),
    "surrogate loss": gradients.surrogate_loss(weighted, num_samples=8),
}


@pytest.mark.parametrize("name", AVERAGES)
def test_an_average_without_the_weights_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match=r"the observation 'seen' \(.*\) weighs the runs.*vt\.condition.*vt\.density"):
        AVERAGES[name](jax.random.key(0), jnp.asarray(0.5))


def test_a_density_inside_a_program_is_an_ordinary_term(key: jax.Array) -> None:
    def bound(key: jax.Array, t: jax.Array) -> jax.Array:
        z = vt.draw(key, dist.Normal(t, 1.0), name="z")
        return vt.density(weighted)({"z": z}, jnp.asarray(0.0)) + t**2

    # E[log N(z; 0, 1) + sum of log N(y; z, 1)] has the derivative -t + sum of (y - t), exactly; t^2 adds 2t.
    found = vt.grad(bound, num_samples=63 * 64)(key, jnp.asarray(0.5))
    assert abs(found.value - (-0.5 + 3 - 1.5 + 1.0)) < 5 * found.stderr
    assert not found.biased
