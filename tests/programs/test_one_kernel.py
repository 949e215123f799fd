"""What is small is one kernel of the processor and computes what it would as several; what is not is left alone."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy as jsp
import numpy as np
import pytest
from jax import Array, lax

from variate import compiling
from variate.programs import one_kernel

COUNT = 3  # rows that a function is called for
X = np.linspace(0.05, 0.95, 15).reshape(COUNT, 5)


def compiled(f: Callable, *args: Any, count: int = COUNT) -> tuple[bool, Any]:
    """Whether it is one kernel, compiled as chains are, and what it gives."""
    options = compiling._options(once=False)
    program = jax.jit(one_kernel.mapped(f, count), compiler_options=options).lower(*args).compile()
    return 'inlineable="false"' in program.as_text(), program(*args)


def uses(x: Array) -> Array:
    """All that is known, on numbers between 0 and 1."""
    ones = jnp.ones_like(x)
    found = [getattr(jnp, name)(x) for name in "arccos arcsin arctan arctanh cbrt ceil cos cosh exp exp2 expm1".split()]
    found += [getattr(jnp, name)(x) for name in "floor log log1p round sign sin sinh sqrt square tan tanh".split()]
    found += [jnp.arcsinh(x), jnp.arccosh(1 + x), jnp.arctan2(x, ones), jnp.abs(-x), x % 0.3, jnp.nextafter(x, ones)]
    found += [
        lax.logistic(x),
        lax.rsqrt(x),
        lax.clamp(x.dtype.type(0.2), x, x.dtype.type(0.7)),
        lax.reduce_precision(x, 8, 10),
        x**3,
        x**x,
    ]
    found += [jsp.special.i0e(x), jsp.special.i1e(x), jsp.special.erf(x), jsp.special.erfc(x), jsp.special.erfinv(x)]
    found += [jsp.special.gammaln(x), jsp.special.digamma(x), jsp.special.gammainc(1 + x, x)]
    found += [jsp.special.gammaincc(1 + x, x), jsp.special.betainc(1 + x, ones, x), jsp.special.polygamma(1, 1 + x)]
    found += [jax.grad(lambda a: jnp.sum(jax.random.gamma(jax.random.key(1), a)))(1 + x)]
    found += [jnp.max(x) + ones, jnp.min(x) + ones, jnp.prod(x) + ones, jnp.argmax(x) + ones, jnp.argmin(x) + ones]
    found += [jnp.cumsum(x), jnp.cumprod(x), lax.cummax(x), lax.cummin(x), lax.cumlogsumexp(x), jnp.outer(x, x) @ x]
    found += [lax.rev(x, (0,)), jnp.where(jnp.all(x > 0) & ~jnp.any(x == 0.5), x, 0.0), x[jnp.argmax(x)] + ones]
    found += [jnp.pad(x[1:-1], 1), jnp.copy(x).T]
    found += [lax.cond(x[0] > 0.5, jnp.sin, jnp.zeros_like, x), lax.fori_loop(0, 3, lambda _, y: y * x, x)]
    found += [
        jnp.where(jnp.isfinite(x) & (x <= 0.5) & (x != 0.1) | (x >= 0.9), x, -x),
        jnp.minimum(x, jnp.maximum(x, 0.5)),
    ]
    whole = (100 * x).astype(jnp.uint32)
    bits = [whole & 6, whole | 6, whole ^ 6, whole << 2, whole >> 1, lax.population_count(whole), lax.clz(whole)]
    bits += [lax.shift_right_arithmetic(whole, jnp.uint32(1)), lax.reduce_or(whole, (0,)) + whole]
    bits += [lax.reduce_and(whole, (0,)) + whole, lax.reduce_xor(whole, (0,)) + whole, lax.expand_dims(whole, (0,))[0]]
    key = jax.random.fold_in(jax.random.wrap_key_data(whole[:2]), 3)
    keys = jax.random.split(jax.random.clone(key), 4)
    found += [jax.random.normal(keys[0], x.shape)]
    found += list(lax.split(jnp.concatenate([x, x]), (x.size, x.size))) + list(jnp.unstack(jnp.outer(x, x)))
    found += [jax.grad(lambda x: jnp.sum(x * jnp.sin(x) + x))(x), jnp.arange(x.size) * x, x[whole % x.size]]
    found += [jnp.outer(x, x).T.reshape(-1)[: x.size], lax.bitcast_convert_type(whole, jnp.float32)]
    found += [jax.random.bits(jax.random.wrap_key_data(jax.random.key_data(keys[1])), x.shape)]
    found += [jax.random.gamma(keys[2], 1 + x), jax.grad(lambda a: jax.random.gamma(keys[3], a))(x[0]) + ones]
    return jnp.stack([values.astype(x.dtype) for values in found + bits])


@pytest.mark.parametrize("dtype", [float, np.float32])
def test_all_that_is_known_is_computed_as_it_is_otherwise(dtype: Any) -> None:
    x = X.astype(dtype)
    with jax.numpy_dtype_promotion("standard"):
        names = {equation.primitive.name for equation in one_kernel._within(jax.make_jaxpr(uses)(x[0]).jaxpr)}
        one, found = compiled(uses, x)
        wanted = jax.vmap(uses)(x)
    assert names == one_kernel._KNOWN
    assert one
    close = {"rtol": 1e-11, "atol": 1e-12} if dtype is float else {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(found, wanted, **close)


def long(x: Array) -> Array:
    for _ in range(one_kernel._LONGEST + 1):
        x = x + 0.001
    return x


ALONE: dict[str, Callable[[Array], Any]] = {
    "sorted": jnp.sort,
    "scattered": lambda x: x.at[jnp.argmax(x)].set(0.0),
    "updated": lambda x: lax.dynamic_update_slice(x, x[:2], (jnp.argmin(x) % 3,)),
    "factors": lambda x: jnp.linalg.cholesky(jnp.diag(x)),
    "transformed": lambda x: jnp.fft.fft(x).real,
    "Python": lambda x: jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="sequential"),
    "in a loop": lambda x: lax.fori_loop(0, 2, lambda _, x: jnp.sort(-x), x),
    "much": lambda x: jnp.sum(jnp.broadcast_to(x, (one_kernel._MOST // 5, 5)), 0),
    "a product of much": lambda x: jnp.outer(x, jnp.ones(60)).T @ jnp.outer(x, jnp.ones(60)),
    "long": long,
}


@pytest.mark.parametrize("name", ALONE)
def test_what_is_not_known_or_not_small_is_left_alone(name: str) -> None:
    one, found = compiled(ALONE[name], X)
    assert not one
    np.testing.assert_allclose(found, jax.vmap(ALONE[name])(X), rtol=1e-12)


def test_constants_of_no_use_count_as_well() -> None:
    first = jax.jit(lambda x, table: jnp.sin(x))
    for more in (0, 1):
        table = jnp.ones(one_kernel._MOST + more)
        assert compiled(functools.partial(first, table=table), X)[0] == (not more)


def test_it_is_the_number_of_all_that_counts() -> None:
    most = one_kernel._MOST // X.shape[1]
    assert compiled(jnp.sin, X, count=most)[0]
    assert not compiled(jnp.sin, X, count=most + 1)[0]


@pytest.mark.parametrize(("dtype", "one"), [(np.int32, True), (bool, True), (np.float16, False), (complex, False)])
def test_only_whole_words_are_put_together(dtype: Any, one: bool) -> None:
    given = (X > 0.5).astype(dtype), jax.random.split(jax.random.key(0), COUNT)
    found = compiled(lambda x, key: {"x": x, "key": key}, *given)
    assert found[0] == one
    assert found[1]["x"].dtype == dtype
    np.testing.assert_array_equal(found[1]["x"], given[0])
    np.testing.assert_array_equal(*map(jax.random.key_data, (found[1]["key"], given[1])))


def test_what_is_of_no_use_does_no_harm() -> None:
    """XLA ends the process where a marked call has an argument without use, or one that loses it."""
    table, scale, lost = jnp.asarray(X), jnp.asarray(2.0), jnp.asarray(3.0)

    def f(x: Array, other: Array, nothing: Array) -> Array:
        kept = lax.fori_loop(0, 4, lambda _, both: (both[0] * scale, both[1] * lost), (x, x))[0]
        return jnp.where(jnp.asarray(True), kept, other) + 0 * table[0, 0]

    one, found = compiled(f, X, X, X[:, :0])
    assert one
    np.testing.assert_allclose(found, 16 * X)


def test_on_other_processors_and_newer_versions_nothing_is_one_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    assert compiling.in_one()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert not compiled(jnp.sin, X)[0]
    monkeypatch.undo()
    monkeypatch.setattr(jax, "__version_info__", (0, 13, 0))
    assert not compiled(jnp.sin, X)[0]
