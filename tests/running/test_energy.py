"""How far the energy of Hamiltonian paths goes in a step: what it is, and when it is a doubt."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from arviz_stats.base.array import BaseArray
from scipy import special

import variate as vt
from variate.mcmc import HMC, NUTS, RandomWalk
from variate.programs import LogDensity

D = 10


def student(x: jax.Array, nu: jax.Array) -> jax.Array:
    return -(nu + D) / 2 * jnp.log1p(x @ x / nu)


def test_heavy_tails_are_a_doubt_that_a_normal_law_is_not(key: jax.Array) -> None:
    """The same program with 2 degrees of freedom and with a million.

    A step takes one chi-squared kinetic energy for another, so the measure is D / (D / 2 + Var U): 1 for a normal law,
    and 0.17 for 2 degrees, where U is 6 times minus the logarithm of a Beta(1, 5) variable.
    """

    def drawn(nu: float) -> vt.running.Draws:
        return vt.sample(
            jax.random.clone(key), LogDensity(student, jnp.zeros(D), jnp.asarray(nu)), kernel=HMC(0.4, 6, 1.0)
        )

    heavy, normal = drawn(2.0), drawn(1e6)
    potential = ((2 + D) / 2) ** 2 * (special.polygamma(1, 1) - special.polygamma(1, 1 + D / 2))
    np.testing.assert_allclose(D / (D / 2 + potential), 0.173, atol=5e-4)
    assert np.all(heavy.bfmi() < 0.3)  # where it is a doubt
    assert "E-BFMI is" in heavy.doubts()[-1]
    assert "below 0.3 in 4 of 4 chains" in heavy.doubts()[-1]
    assert "lighter tails" in str(heavy.summary())
    assert not heavy.expect().converged
    # Twice one less the correlation of neighbours, whose error is sqrt((1 - 0.5^2) / n): 1e-6 for all four chains.
    limit = -special.ndtri(0.5e-6 / 4) * 2 * np.sqrt(0.75 / 1_000)
    assert np.all(np.abs(normal.bfmi() - 1) < limit)
    assert normal.doubts() == []
    # Energies of independent draws have the variance 1 + BFMI / (2 - BFMI) for n of dependent ones.
    energy = normal.told["energy"]
    error = np.sqrt(D * 3 / energy.size)
    assert abs(energy.mean() - D) < 5 * error
    assert abs((energy - 0.5 * np.sum(normal.values**2, -1)).mean() - D) > 5 * error  # a mutant: without the potential


@pytest.mark.parametrize("kernel", [HMC(0.3, 3, 1.0), NUTS(0.3, 1.0)])
def test_a_step_tells_the_energy_with_which_its_path_begins(kernel: HMC | NUTS, key: jax.Array) -> None:
    """Of a normal law, exactly that of x is known, and that of the momentum is chi-squared: at 1e-6 of 20,000 steps."""
    kernel = dataclasses.replace(kernel, log_density=lambda x: -0.5 * x @ x)
    x = jnp.array([1.0, -2.0, 0.5])

    def once(key: jax.Array) -> jax.Array:
        begun, moved = jax.random.split(key)
        return kernel.step(moved, kernel.init(begun, x))[1].energy

    kinetic = jax.jit(jax.vmap(once))(jax.random.split(key, 20_000)) - 0.5 * x @ x
    limit = -special.ndtri(0.5e-6) / 20_000**0.5
    assert jnp.min(kinetic) >= 0
    assert abs(jnp.mean(kinetic) - 1.5) < limit * 1.5**0.5
    assert abs(jnp.mean(kinetic**2) - 3.75) < limit * 45**0.5 / 2  # of moments of chi-squared, 3 degrees: 15 and 945


def test_it_is_what_arviz_makes_of_it_and_other_kernels_have_none(key: jax.Array) -> None:
    target = LogDensity(student, jnp.zeros(D), jnp.asarray(3.0))
    draws = vt.sample(key, target, kernel=HMC(0.3, 2, 1.0), num_samples=60, num_warmup=25, thin=3)
    energy = np.asarray(draws.to_arviz()["sample_stats"]["energy"])
    np.testing.assert_allclose(draws.bfmi(), BaseArray().bfmi(energy, draw_axis=1) * 60 / 59, rtol=0.05)
    k1 = jax.random.clone(key)
    walked = vt.sample(k1, target, kernel=RandomWalk(0.5), num_samples=50, num_warmup=25)
    assert "energy" not in walked.told
    with pytest.raises(ValueError, match="draws must be of a kernel that tells an energy, HMC or NUTS, got RandomWalk"):
        walked.bfmi()
