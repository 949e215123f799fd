"""Checks let right input pass and refuse the rest in the user's words."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from variate import checks


def f(key: jax.Array, x: float, scale: float = 1.0) -> float:
    return x * scale


REFUSED = [
    (
        partial(checks.check_key, 3),
        TypeError,
        r"the first argument must be the key, got 3; jax.random.key\(seed\) makes one",
    ),
    (partial(checks.check_key, None), TypeError, "got None"),
    (partial(checks.check_key, jnp.ones(2)), TypeError, r"got float64\[2\]"),
    (partial(checks.check_key, np.uint32(3)), TypeError, r"got uint32\[\]"),
    (partial(checks.check_key, jax.random.PRNGKey(0)), TypeError, r"raw uint32 .* \(2,\): .*wrap_key_data\(key\)"),
    (partial(checks.check_key, np.zeros((5, 2), np.uint32)), TypeError, r"raw uint32 one of shape \(5, 2\)"),
    (
        partial(checks.check_key, jax.random.split(jax.random.key(0), (3, 1))),
        ValueError,
        r"shape \(3, 1\): pick one.*jax.vmap",
    ),
    (partial(checks.check_callable, "f", 3), TypeError, r"f must be a function of \(key, \*args\), got 3"),
    (
        partial(checks.check_arguments, f, ()),
        TypeError,
        r"f\(key, x, scale=1.0\) cannot be called with \(key\): missing .*'x'",
    ),
    (partial(checks.check_arguments, f, (1, 2, 3)), TypeError, r"\(key, 1, 2, 3\): too many .*; the key comes first"),
    (partial(checks.check_hashable, ("a", {})), TypeError, "hashable objects, got an object of type dict"),
    (partial(checks.check_result, f, None), TypeError, "f must return real numbers to average, got None"),
    (partial(checks.check_result, f, []), TypeError, "got an object of type list"),
    (partial(checks.check_result, f, "no"), TypeError, "got 'no'$"),
    (
        partial(checks.check_result, f, {"a": [1.0, f]}),
        TypeError,
        r"got an object of type function at result\['a'\]\[1\]",
    ),
    (partial(checks.check_result, f, np.asarray(["no"])), TypeError, r"got <U2\[1\]"),
    (partial(checks.check_result, f, jax.random.key(0)), TypeError, "got key"),
    (partial(checks.check_result, f, 1j), TypeError, "got 1j: return the real and the imaginary part as two results"),
    (partial(checks.check_result, f, jnp.ones((), complex)), TypeError, r"got complex128\[\]: return the real"),
    (partial(checks.check_positive_int, "n", 0), ValueError, "n must be a positive integer up to 2147483647, got 0"),
    (partial(checks.check_positive_int, "n", 11, 10), ValueError, "n must be a positive integer up to 10, got 11"),
    (partial(checks.check_positive_int, "n", 2.0), ValueError, "n must be a positive integer .*, got 2.0"),
    (partial(checks.check_positive_int, "n", True), TypeError, "got True"),
    (partial(checks.check_positive_int, "n", "9"), TypeError, "got '9'"),
    (partial(checks.check_positive_int, "n", None), TypeError, "got None"),
    (partial(checks.check_positive, "x", -1.0), ValueError, "x must be a positive number, got -1.0"),
    (partial(checks.check_positive, "x", np.inf), ValueError, "got inf"),
    (partial(checks.check_positive, "x", np.nan), ValueError, "got nan"),
    (partial(checks.check_positive, "x", "1"), TypeError, "got '1'"),
    (partial(checks.check_positive, "x", True), TypeError, "got True"),
    (partial(checks.check_positive, "x", jnp.ones(2)), TypeError, r"got float64\[2\]"),
    (partial(checks.check_fraction, "p", 1), ValueError, "p must be between 0 and 1, both excluded, got 1"),
    (partial(checks.check_fraction, "p", None), TypeError, "got None"),
]


@pytest.mark.parametrize(("check", "error", "complaint"), REFUSED, ids=[complaint for *_, complaint in REFUSED])
def test_refuses(check: Callable, error: type, complaint: str) -> None:
    with pytest.raises(error, match=complaint):
        check()


def test_a_traced_number_is_refused_like_any_other_object() -> None:
    with pytest.raises(TypeError, match=r"x must be a positive number, got float64\[\]"):
        jax.jit(lambda x: checks.check_positive("x", x))(1.0)


ACCEPTED = [
    partial(checks.check_key, jax.random.key(0)),
    partial(checks.check_key, jax.random.key(0, impl="rbg")),
    partial(checks.check_callable, "f", f),
    partial(checks.check_arguments, f, (1.0,)),
    partial(checks.check_arguments, f, (1.0, 2.0)),
    partial(checks.check_arguments, np.add, (1.0,)),
    partial(checks.check_arguments, dict, (1,)),  # has no signature
    partial(checks.check_hashable, ("a", f, None)),
    partial(checks.check_result, f, {"a": 1, "b": (True, 2.0, np.float32(1), jnp.ones(3, jnp.bfloat16), np.arange(2))}),
]


@pytest.mark.parametrize("check", ACCEPTED)
def test_accepts(check: Callable) -> None:
    assert check() is None


@pytest.mark.parametrize("mapped", [jax.jit, jax.vmap])
def test_a_key_may_be_traced(mapped: Any) -> None:
    keys = jax.random.split(jax.random.key(0), 3)
    mapped(checks.check_key)(keys if mapped is jax.vmap else keys[0])


def test_numbers_come_back_as_python_has_them() -> None:
    assert checks.check_positive_int("n", np.int64(7)) == 7
    assert checks.check_positive("x", np.float32(0.5)) == 0.5
    assert checks.check_fraction("p", jnp.asarray(0.25)) == 0.25


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (jnp.ones((2, 3), jnp.float32), "float32[2,3]"),
        (None, "None"),
        ("a", "'a'"),
        (1.5, "1.5"),
        (f, "an object of type function"),
    ],
)
def test_describes(value: Any, text: str) -> None:
    assert checks.describe(value) == text


def test_names() -> None:
    assert checks.name_of(f) == "f"
    assert checks.name_of(partial(f, 1)) == "partial"
