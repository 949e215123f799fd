"""What `expect` is given by mistake is refused at once, in the user's words."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from variate.estimates import StdErr, expect


def program(key: jax.Array, theta: Any) -> jax.Array:
    return theta * jax.random.normal(key)


REFUSED = [
    (
        lambda key: expect(program, num_samples=0),
        ValueError,
        "num_samples must be a positive integer up to 2147483647, got 0",
    ),
    (lambda key: expect(program, num_samples=2**31), ValueError, "num_samples must be a positive integer"),
    (lambda key: expect(program, block_size=-1), ValueError, "block_size must be a positive integer"),
    (
        lambda key: expect(program, until=StdErr(1.0), max_samples=0),
        ValueError,
        "max_samples must be a positive integer",
    ),
    (lambda key: expect(program, until=StdErr(1.0), num_samples=5), ValueError, "give num_samples or until, not both"),
    (
        lambda key: expect(program)(0.3),
        TypeError,
        r"the first argument must be the key, got 0.3; jax.random.key\(seed\)",
    ),
    (lambda key: expect(program)(None, 0.3), TypeError, "the first argument must be the key, got None"),
    (lambda key: expect(program)(jax.random.PRNGKey(0), 0.3), TypeError, "raw uint32 one of shape .*wrap_key_data"),
    (
        lambda key: expect(program)(jax.random.split(key), 0.3),
        ValueError,
        r"got a batch of shape \(2,\): pick one.*jax.vmap",
    ),
    (lambda key: expect(program)(), TypeError, "the first argument must be the key, got None; jax.random.key"),
    (
        lambda key: expect(program)(key),
        TypeError,
        r"program\(key, theta\) cannot be called with \(key\): missing.*'theta'",
    ),
    (lambda key: expect(lambda: 1.0)(key), TypeError, r"cannot be called with \(key\): .* the key comes first"),
    (lambda key: expect(program)(key, 0.3, jnp.ones(2)), TypeError, r"called with \(key, .*\): too many"),
    (lambda key: expect(program)(key, {1, 2}), TypeError, "hashable objects, got an object of type set"),
    (lambda key: expect(lambda key: None)(key), TypeError, "must return real numbers to average, got None"),
    (lambda key: expect(lambda key: {"a": "yes"})(key), TypeError, r"got 'yes' at result\['a'\]"),
    (lambda key: expect(lambda key: key)(key), TypeError, r"must return real numbers to average, got key<fry>\[\]"),
    (
        lambda key: expect(lambda key: (1.0, 1j))(key),
        TypeError,
        r"got 1j at result\[1\]: return the real and the imaginary",
    ),
    (lambda key: expect(lambda key: jnp.ones(2, complex))(key), TypeError, r"got complex128\[2\]: return the real"),
]


@pytest.mark.parametrize(("call", "error", "complaint"), REFUSED, ids=[complaint for *_, complaint in REFUSED])
def test_bad_input_is_refused_in_the_users_words(key: jax.Array, call: Callable, error: type, complaint: str) -> None:
    with pytest.raises(error, match=complaint):
        call(key)


def test_what_a_program_raises_comes_through(key: jax.Array) -> None:
    def broken(key: jax.Array) -> float:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        expect(broken)(key)


@pytest.mark.parametrize(
    ("result", "complaint"), [(None, "^broken .* got None$"), ({"a": 1j}, r"^broken .* got 1j at result\['a'\]")]
)
def test_a_wrong_result_is_named_under_jit_too(key: jax.Array, result: Any, complaint: str) -> None:
    def broken(key: jax.Array) -> Any:
        return result

    for run in (expect(broken), jax.jit(expect(broken))):
        with pytest.raises(TypeError, match=complaint.replace("$", "(\n|$)")):
            run(key)
