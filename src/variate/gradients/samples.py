"""The derivative of each of many runs at once."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jaxtyping import Array, Key


def each(
    function: Callable, keys: Key[Array, " samples"], moved: Sequence[Array]
) -> tuple[Any, Any, Callable[..., Any]]:
    """Runs of `function(key, moved) -> (result, auxiliary)` over keys, and a pull-back to one gradient a sample.

    The pull-back takes cotangents and, after them, the number of samples (the first ones) to pull back.
    """
    kept: dict[str, Any] = {}

    def forward(key: Key[Array, ""]) -> tuple[Any, Any, list[Array]]:
        result, pull, auxiliary = jax.vjp(lambda moved: function(key, moved), moved, has_aux=True)
        leaves, kept["tree"] = jax.tree.flatten(pull)
        # Residuals that are the same for every sample, weights above all, stay outside of `vmap`: returned through it
        # they would be copied for each sample. What varies is traced by the `vmap` that traces the key.
        kept["varies"] = [isinstance(leaf, type(key)) for leaf in leaves]
        kept["same"] = [leaf for leaf, varies in zip(leaves, kept["varies"], strict=True) if not varies]
        return result, auxiliary, [leaf for leaf, varies in zip(leaves, kept["varies"], strict=True) if varies]

    results, auxiliary, residuals = jax.vmap(forward)(keys)

    def pull(cotangents: Any, samples: int | None = None) -> Any:
        def one(residuals: list[Array], cotangent: Any) -> Any:
            own, same = iter(residuals), iter(kept["same"])
            leaves = [next(own) if varies else next(same) for varies in kept["varies"]]
            (gradient,) = jax.tree.unflatten(kept["tree"], leaves)(cotangent)
            return gradient

        first = jax.tree.map(lambda x: x[:samples], (residuals, cotangents)) if samples else (residuals, cotangents)
        return jax.vmap(one)(*first)

    return results, auxiliary, pull
