"""What a design is: random sets of points in the unit cube, uniform on the average over a set."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt32


class Sets(NamedTuple):
    """Sets of points, over each of which the mean of a function has the expectation of one uniform point.

    Sets are independent of each other, so that the spread of their means is the error of their mean.

    `count`: how many sets there are, each the larger the more runs there are; None where it is the sets that grow in
    number. `randomize(key)`: all that is random in one set, a pytree of arrays. `point(randomization, i)`: its point i.
    """

    size: int
    count: int | None
    randomize: Callable[[Key[Array, ""]], Any]
    point: Callable[[Any, Int[Array, ""]], Float[Array, " d"]]


@runtime_checkable
class Design(Protocol):
    """Points that stand for the uniform numbers which runs are made of."""

    def sets(self, labels: Sequence[str], num_samples: int) -> Sets:
        """Sets of at most `num_samples` points in all, with a coordinate for each label, which names its draw.

        Raises:
            ValueError: the design does not serve so many coordinates or so few points.
        """
        ...


def unit(bits: UInt32[Array, "..."]) -> Float[Array, "..."]:
    """Numbers in (0, 1) from the leading bits, in the middle of their cells, so that neither 0 nor 1 is among them."""
    digits = _digits(jnp.finfo(jnp.result_type(float)).bits)
    return ((bits >> (32 - digits)).astype(float) + 0.5) * 2.0**-digits


def inside(u: Float[Array, "..."]) -> Float[Array, "..."]:
    """Numbers no nearer to 0 and 1 than those are."""
    middle = 2.0 ** -(_digits(jnp.finfo(u.dtype).bits) + 1)
    return jnp.clip(u, middle, 1 - middle)


def _digits(bits: int) -> int:
    """The most for which the last cell's middle is below 1."""
    return 32 if bits == 64 else 23


def uniform(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Independent uniform numbers, none of them 0 or 1."""
    return unit(bits(key, shape))


def bits(key: Key[Array, ""], shape: tuple[int, ...]) -> UInt32[Array, "..."]:
    """Random ones. In one long row, for under `vmap` bits of several axes take twenty times as long to compile."""
    return jax.random.bits(key, (math.prod(shape),), jnp.uint32).reshape(shape)


def doubling_sets(num_samples: int, count: int, name: str) -> int:
    """The size of so many sets: the largest power of two that `num_samples` points allow."""
    if num_samples < 2 * count:
        raise ValueError(
            f"num_samples: {name} takes {count} sets of points, so at least {2 * count} samples, got {num_samples}"
        )
    return 2 ** ((num_samples // count).bit_length() - 1)
