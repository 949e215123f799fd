"""The signs that values may take are worked out, and are those that they do take."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest

from variate.programs import signs
from variate.programs.dataflow import ARGUMENT, Analysis, Flow
from variate.programs.staging import stage

SIGNS: dict[str, tuple[Callable, int]] = {
    "sum": (lambda x, y: jnp.exp(x) + y**2, signs.POSITIVE),
    "difference": (lambda x, y: jnp.exp(x) - jnp.exp(y), signs.ANY),
    "product": (lambda x, y: -jnp.exp(x) * jnp.exp(y), signs.NEGATIVE),
    "square": (lambda x, y: x * x, signs.NOT_NEGATIVE),
    "powers": (lambda x, y: x**2 + jnp.exp(y) ** 3 + jnp.exp(x) ** 0.5, signs.POSITIVE),
    "largest": (lambda x, y: jnp.maximum(x, jnp.exp(y)), signs.POSITIVE),
    "smallest": (lambda x, y: jnp.minimum(x, jnp.exp(y)), signs.ANY),
    "clipped": (lambda x, y: jnp.clip(x, 0.5, 2.0), signs.POSITIVE),
    "choice": (lambda x, y: jnp.where(y > 0, jnp.exp(x), -jnp.exp(x)), signs.NONZERO),
    "root": (lambda x, y: jnp.sqrt(1 + jnp.abs(x)), signs.POSITIVE),
    "two squares": (lambda x, y: jnp.sum(jnp.stack([x, y]) ** 2), signs.NOT_NEGATIVE),
    "three squares": (lambda x, y: jnp.sum(jnp.stack([x, y, x + y]) ** 2), signs.POSITIVE),
    "dot product": (lambda x, y: jnp.exp(jnp.stack([x, y])) @ jnp.array([1.0, 2.0]), signs.POSITIVE),
    "mixed dot product": (lambda x, y: jnp.exp(jnp.stack([x, y])) @ jnp.array([1.0, -2.0]), signs.ANY),
    "constant": (lambda x, y: jnp.exp(x) * jnp.array([-1.0, 1.0])[0], signs.NONZERO),
    "unknown": (lambda x, y: jnp.sin(x), signs.ANY),
}


@pytest.mark.parametrize("name", SIGNS)
def test_signs(name: str) -> None:
    f, expected = SIGNS[name]
    program, _ = stage(f, 0.3, 0.4)
    moving = Flow(tangent=ARGUMENT, random=True)
    (flow,) = Analysis(program, [moving, moving]).outputs
    assert flow.sign & signs.ANY == expected
    values = np.array([f(x, y) for x in (-2.0, -0.1, 0.7) for y in (-1.0, 0.2, 3.0)])
    assert signs.of_number(values) & ~flow.sign == 0
