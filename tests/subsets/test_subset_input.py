"""What the laws of the room refuse, and in which words."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from variate.subsets import ConditionalPoisson, NMMask, PermutationMatrix, PlackettLuce, TopK

LOGITS = jnp.array([0.1, -0.2, 0.3])
SIZED = (PlackettLuce, TopK, ConditionalPoisson)
LAWS = {
    "PlackettLuce": PlackettLuce,
    "PermutationMatrix": PermutationMatrix,
    "TopK": lambda logits: TopK(logits, 1),
    "ConditionalPoisson": lambda logits: ConditionalPoisson(logits, 1),
    "NMMask": lambda logits: NMMask(jnp.asarray(logits)[None], 1, 3),
}


@pytest.mark.parametrize("make", LAWS.values(), ids=LAWS)
@pytest.mark.parametrize(
    ("logits", "error", "why"),
    [
        (jnp.array([1, 2, 3]), TypeError, r"logits must be real numbers, got int64\[(1,)?3\]"),
        (jnp.array([True, False, True]), TypeError, "logits must be real numbers, got bool"),
        (jnp.array([1j, 0, 0]), TypeError, "logits must be real numbers, got complex"),
        (jnp.array([0.1, jnp.nan, 0.0]), ValueError, "logits must be finite, got nan"),
        (jnp.array([0.1, -jnp.inf, 0.0]), ValueError, "logits must be finite, got -inf.*-1e4"),
        (jnp.zeros(0), ValueError, "logits must have . axes or more, each of length one or more"),
    ],
)
def test_logits(make: Any, logits: Any, error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why):
        make(logits)


@pytest.mark.parametrize("make", [law for name, law in LAWS.items() if name != "NMMask"])
def test_a_number_is_no_logits(make: Any) -> None:
    with pytest.raises(ValueError, match="logits must have 1 axes or more"):
        make(jnp.asarray(0.5))


@pytest.mark.parametrize("make", SIZED)
@pytest.mark.parametrize(
    ("size", "error"), [(0, ValueError), (4, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)]
)
def test_sizes(make: Any, size: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"size must be an integer from 1 to 3, the number of items, got {size}"):
        make(LOGITS, size)


def test_sizes_that_are_not_exact_enough() -> None:
    with pytest.raises(ValueError, match="size must be an integer from 1 to 512, beyond which its probabilities"):
        TopK(jnp.zeros(1000), 513)
    ConditionalPoisson(jnp.zeros(1000), 513)


def test_a_size_that_is_not_known() -> None:
    with pytest.raises(TypeError, match="size must be an integer from 1 to 3"):
        jax.jit(lambda size: TopK(LOGITS, size).sample(jax.random.key(0)))(2)


@pytest.mark.parametrize("make", SIZED)
def test_values_of_another_shape(make: Any) -> None:
    law = make(LOGITS, 2)
    with pytest.raises(ValueError, match=r"x must end in axes of lengths \(\d,\), got float64\[\]"):
        law.log_prob(jnp.asarray(0.5))
    with pytest.raises(ValueError, match=r"x must end in axes of lengths \(\d,\), got float64\[4\]"):
        law.log_prob(jnp.zeros(4))


def test_values_of_another_kind() -> None:
    with pytest.raises(TypeError, match="x must be integers, the items in order, got float64"):
        PlackettLuce(LOGITS).log_prob(jnp.array([0.0, 1.0, 2.0]))
    with pytest.raises(ValueError, match=r"x must end in axes of lengths \(3, 3\), got float64\[3\]"):
        PermutationMatrix(LOGITS).log_prob(jnp.zeros(3))


def test_groups() -> None:
    with pytest.raises(ValueError, match="logits must have 2 axes or more"):
        NMMask(jnp.zeros(6), 2, 4)
    with pytest.raises(ValueError, match=r"logits must have a last axis of the 6 masks of 2:4, got \(2, 5\)"):
        NMMask(jnp.zeros((2, 5)), 2, 4)
    for n, m in ((0, 4), (5, 4), (2, 0)):
        with pytest.raises(ValueError, match=r"(n|m) must be an integer from 1 to \d+, the size of a group"):
            NMMask(jnp.zeros((2, 6)), n, m)
    with pytest.raises(ValueError, match="n and m must leave at most 65536 masks of a group, got 10:20 with 184756"):
        NMMask(jnp.zeros((2, 6)), 10, 20)


def test_logits_may_be_numpy_arrays_and_lists() -> None:
    for logits in (np.array([0.1, -0.2, 0.3]), [0.1, -0.2, 0.3]):
        assert isinstance(TopK(logits, 2).logits, jax.Array)
