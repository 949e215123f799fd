"""Control functionals: a kernel of mean zero, unbiased values, error bars that hold, and much less variance."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import Array
from scipy.special import expi

import variate as vt
from variate.estimates import Antithetic, ControlFunctionals, Importance, Sobol
from variate.estimates.control_functionals import spread_out, stein_kernel
from variate.programs.runs import Run


def program(key: Array, shift: float) -> Array:
    first, second = jax.random.split(key)
    z = vt.draw(first, dist.Normal(shift, jnp.ones(2)), name="z")
    return jnp.sin(z[0]) * z[1] + jnp.log1p(vt.draw(second, dist.Exponential(1.0)))


TRUTH = float(0.5 * np.sin(0.5) * np.exp(-0.5) - np.e * expi(-1))


def coverage(method: Any, key: Array) -> float:
    run = vt.expect(program, method=method, num_samples=256, block_size=256)

    def covers(key: Array) -> Array:
        low, high = run(key, 0.5).interval()
        return (low < TRUTH) & (high > TRUTH)

    return float(jnp.mean(jax.jit(lambda keys: jax.lax.map(covers, keys, batch_size=100))(jax.random.split(key, 4000))))


@pytest.mark.slow
def test_error_bars_cover(key: Array) -> None:
    """Of 95% intervals: between 93.5 and 96.5%, where a right one fails with probability 1e-5."""
    assert 0.935 < coverage(ControlFunctionals(20), key) < 0.965


class Shifted(ControlFunctionals):
    """A mutant: a kernel whose mean is not zero."""

    def controls(self, run: Run) -> Array:
        return super().controls(run) + 0.3


@pytest.mark.slow
def test_a_kernel_of_another_mean_does_not_cover(key: Array) -> None:
    assert coverage(Shifted(20), key) < 0.92


@pytest.mark.parametrize("dimension", [1, 2])
def test_the_kernel_is_steins_and_has_the_mean_zero(dimension: int, key: Array) -> None:
    length = 1.3
    x, y = jax.random.normal(key, (2, dimension))

    def k(x: Array, y: Array) -> Array:
        return jnp.exp(-jnp.sum((x - y) ** 2) / (2 * length**2))

    by_x, by_y = jax.grad(k, 0)(x, y), jax.grad(k, 1)(x, y)
    mixed = jnp.trace(jax.jacobian(jax.grad(k, 0), 1)(x, y))
    np.testing.assert_allclose(stein_kernel(x, y, length), mixed - x @ by_y - y @ by_x + (x @ y) * k(x, y), rtol=1e-11)

    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    grid = jnp.asarray(np.stack(np.meshgrid(*[nodes] * dimension), -1).reshape(-1, dimension))
    product = np.prod(np.stack(np.meshgrid(*[weights] * dimension), -1).reshape(-1, dimension), 1)
    values = jax.vmap(stein_kernel, (0, None, None))(grid, y, length)
    np.testing.assert_allclose(product @ np.asarray(values) / product.sum(), 0, atol=1e-10)


@pytest.mark.parametrize("dimension", [1, 3, 8])
def test_points_leave_no_large_holes(dimension: int) -> None:
    """Every face's projection fills each of its sixteenths."""
    points = spread_out(100, dimension)
    assert points.shape == (100, dimension)
    assert np.all((points > 0) & (points < 1))
    for column in points.T:
        assert len(np.unique((column * 16).astype(int))) == 16


@pytest.mark.slow
@pytest.mark.table
def test_variance_falls(key: Array) -> None:
    plain = vt.expect(program, num_samples=400)(key, 0.5)
    for method in (ControlFunctionals(), (Antithetic(), ControlFunctionals())):
        found = eqx.filter_jit(vt.expect(program, method=method, num_samples=400))(jax.random.clone(key), 0.5)
        assert found.stderr < 0.4 * plain.stderr
        assert abs(found.value - TRUTH) < 5 * found.stderr
        assert found.method == ("ControlFunctionals" if found.method[0] == "C" else "Antithetic and ControlFunctionals")


def test_single_precision_inverts_what_is_nearly_singular() -> None:
    """Thirty controls of one number; the mutant multiplies by an inverse, with nothing below which no penalty falls."""

    def line(key: Array) -> Array:
        return vt.draw(key, dist.Normal(0.0, 1.0))

    with jax.enable_x64(False):
        found = vt.expect(line, method=ControlFunctionals(30), num_samples=4096)(jax.random.key(0))
    assert found.stderr < 0.03 / 4096**0.5
    assert abs(found.value) < 5 * found.stderr


def of_no_uniforms(key: Array, shift: float) -> Array:
    return shift + vt.draw(key, dist.MultivariateStudentT(3.0, jnp.zeros(2), jnp.eye(2))).sum()


def run(f: Any, method: Any) -> vt.Estimate:
    return vt.expect(f, method=method, num_samples=256)(jax.random.key(0), 0.5)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ControlFunctionals(0), "points must be"),
        (lambda: ControlFunctionals(length=-1.0), "length must be"),
        (lambda: run(program, (ControlFunctionals(), Importance({"z": lambda own: own}))), "does not go with weights"),
        (lambda: run(program, (ControlFunctionals(8), Sobol())), "no order that Ridge could learn from"),
        (lambda: run(of_no_uniforms, ControlFunctionals()), "ControlFunctionals has no draw to serve"),
    ],
)
def test_bad_input(make: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()
