"""What an equation of a jaxpr calls."""

from collections.abc import Iterator

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn


def called(equation: JaxprEqn) -> Iterator[Jaxpr]:
    """Every jaxpr among its parameters."""
    for entry in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: isinstance(x, ClosedJaxpr | Jaxpr)):
        if isinstance(entry, ClosedJaxpr | Jaxpr):
            yield entry.jaxpr if isinstance(entry, ClosedJaxpr) else entry
