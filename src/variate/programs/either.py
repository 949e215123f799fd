"""Draws from proposals, or in some runs from the program's own distributions in their place."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, PyTree

from variate.programs import distributions
from variate.programs.quantiles import Transport, transport


class Either(NamedTuple):
    """A proposal, in place of which a run that is to be the program's `own` draws from the distribution itself.

    The density is the proposal's in either case, for it is the run that is weighted, as a whole.
    """

    proposal: Any
    distribution: Any
    own: Bool[Array, ""]

    def sample(self, key: Key[Array, ""]) -> PyTree[Array]:
        own = distributions.sample(self.distribution, jax.random.clone(key))  # of which and the other one is used
        return self._either(own, distributions.sample(self.proposal, key))

    def log_prob(self, x: PyTree) -> Float[Array, ""]:
        return distributions.supported_log_prob(self.proposal, x)

    def transport(self, shape: tuple[int, ...], dtype: Any) -> Transport | None:
        """Both are made of the same uniforms."""
        parts = [transport(one, shape, dtype) for one in (self.distribution, self.proposal)]
        if any(part is None for part in parts):
            return None
        sizes = [math.prod(part.shape) for part in parts]  # pyright: ignore[reportOptionalMemberAccess]

        def value(u: Float[Array, " n"]) -> Array:
            return self._either(
                *(
                    part.value(u[:size].reshape(part.shape))  # pyright: ignore[reportOptionalMemberAccess]
                    for part, size in zip(parts, sizes, strict=True)
                )
            )

        return Transport((max(sizes),), value)

    def _either(self, own: PyTree[Array], proposed: PyTree[Array]) -> PyTree[Array]:
        return jax.tree.map(lambda a, b: jnp.where(self.own, a, b), own, proposed)
