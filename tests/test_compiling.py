"""What is compiled in less time computes the same, inside of another program too, and it is known what JAX traces."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import variate as vt
from variate import compiling


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("once", [True, False])
def test_what_is_compiled_sooner_computes_the_same(once: bool, known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    options = [{"xla_of_another_version": True}, *([{"xla_backend_optimization_level": 1}] if known else [])]
    monkeypatch.setattr(compiling, "_ONCE" if once else "_SOONER", options)
    compiling._options.cache_clear()
    asked: list[dict[str, Any]] = []

    def jit(f: Any, **options: Any) -> Any:
        asked.append(options)
        return jax.jit(f, static_argnums=0, **options)

    wave = compiling.sooner(jit, once=once)(lambda name, x, y: getattr(jnp, name)(x) + y)
    x = np.linspace(0.0, 1.0, 5)
    np.testing.assert_allclose(jax.jit(lambda x: wave("sin", x, x) + 1)(x), np.sin(x) + x + 1, rtol=1e-12)
    np.testing.assert_allclose(jax.jit(lambda: wave("sin", x, x) + 1)(), np.sin(x) + x + 1, rtol=1e-12)
    np.testing.assert_allclose(wave("sin", x, x), np.sin(x) + x, rtol=1e-12)
    np.testing.assert_allclose(wave("cos", x, x), np.cos(x) + x, rtol=1e-12)
    assert [bool(options.get("compiler_options")) for options in asked] == [False, known]  # each is made once
    compiling._options.cache_clear()


def test_what_is_traced_is_known_by_its_arguments_and_by_what_is_made_of_none() -> None:
    told: list[bool] = []

    def tell(*values: Any) -> float:
        told.append(compiling.traced(*values))
        return 0.0

    tell(1.0, {"x": jnp.ones(2)})
    jax.jit(tell)(1.0)
    jax.jit(functools.partial(tell, 1.0))()
    jax.vmap(tell)(jnp.ones(2))
    jax.lax.scan(lambda carry, _: (carry + tell(1.0), None), 0.0, length=2)
    assert told[:4] == [False, True, True, True]
    assert all(told[4:])


def square(key: jax.Array, mean: float) -> jax.Array:
    return vt.draw(key, dist.Normal(mean, 1.0), name="x") ** 2


@pytest.mark.parametrize("estimate", [vt.expect(square), vt.expect(square, until=vt.StdErr(0.1)), vt.grad(square)])
def test_a_jitted_function_may_close_over_all_that_an_estimate_is_made_of(estimate: Any, key: jax.Array) -> None:
    same = jax.jit(lambda key: estimate(key, 1.5).value)(jax.random.clone(key))
    np.testing.assert_array_equal(jax.jit(lambda: estimate(key, 1.5).value)(), same)


def test_a_sampler_that_a_jitted_function_calls_says_that_it_cannot(key: jax.Array) -> None:
    with pytest.raises(TypeError, match=r"key: vt\.sample"):
        jax.jit(lambda: vt.sample(key, dist.Normal(0.0, 1.0)).values)()
