"""Draws from proposals, or in some runs from the program's own distributions in their place."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, PyTree

from variate.programs import distributions
from variate.programs.quantiles import Transport, transports


class Defensive(NamedTuple):
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
        both = transports((self.distribution, self.proposal), shape, dtype)
        return both and Transport((both.size,), lambda u: self._either(*both.values(u)))

    def _either(self, own: PyTree[Array], proposed: PyTree[Array]) -> PyTree[Array]:
        return jax.tree.map(lambda a, b: jnp.where(self.own, a, b), own, proposed)
