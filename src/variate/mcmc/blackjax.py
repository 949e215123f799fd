"""BlackJAX's algorithms as kernels."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from variate.checks import describe

from .base import Info, LogDensity, unbound

_DECISIONS = ("acceptance_rate", "is_accepted", "subiter")  # what the infos of exact algorithms have
_COUNTS = (("num_integration_steps",), ("num_expansions", "num_shrink"), ("subiter",))


class State(NamedTuple):
    position: Float[Array, " d"]
    log_density: Float[Array, ""]
    own: Any  # BlackJAX's


class BlackJAX(eqx.Module):
    r"""An algorithm of BlackJAX's, `BlackJAX(lambda f: blackjax.nuts(f, 0.3, jnp.ones(3)))` say.

    Its settings are those that it is given: BlackJAX's own adaptations find them, `vt.sample` does not. One that asks
    for a part of the density, as `elliptical_slice` does, is given that part.

    An algorithm that neither accepts nor rejects nor slices (`mclmc`, `sgld`) leaves another density invariant than the
    one it is given, and no error bar tells how far off that is: it is refused unless `allow_bias`.

    Raises:
        TypeError: no function, or one that returns none of BlackJAX's algorithms; a biased one.

    Source: Cabezas, Corenflos, Lao and Louf (2024), BlackJAX: composable Bayesian inference in JAX, arXiv:2402.10797.
    """

    algorithm: Any = eqx.field(static=True)  # a function of the log density
    allow_bias: bool = eqx.field(static=True, default=False, kw_only=True)
    log_density: LogDensity = eqx.field(default=unbound, kw_only=True)

    def __check_init__(self) -> None:
        if not callable(self.algorithm) or hasattr(self.algorithm, "step"):
            raise TypeError(
                "algorithm must be a function of the log density, lambda f: blackjax.nuts(f, 0.3, jnp.ones(3)) say, "
                f"got {describe(self.algorithm)}"
            )

    def init(self, key: Key[Array, ""], position: Float[Array, " d"]) -> State:
        return State(position, self.log_density(position), self._made().init(position, key))

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        own, told = self._made().step(key, state.own)
        if not self.allow_bias and not any(hasattr(told, name) for name in _DECISIONS):
            raise TypeError(
                f"algorithm neither accepts nor rejects, as {type(told).__name__} shows, so that its draws are biased "
                "by an amount that no error bar tells; allow_bias=True is the way to insist"
            )
        moved = jnp.any(own.position != state.position)
        accepted = jnp.all(jnp.asarray(getattr(told, "is_accepted", moved)))
        acceptance = jnp.asarray(getattr(told, "acceptance_rate", accepted)).astype(state.log_density.dtype)
        log_density = jnp.asarray(own.logdensity)
        divergent = jnp.asarray(getattr(told, "is_divergent", False)) | jnp.isnan(log_density) | jnp.isnan(acceptance)
        counted = [sum(jnp.sum(getattr(told, name)) for name in names) for names in _COUNTS if hasattr(told, names[0])]
        return State(own.position, log_density, own), Info(acceptance, accepted, divergent, (counted or [1])[0])

    def _made(self) -> Any:
        made = self.algorithm(self.log_density)
        if not (hasattr(made, "init") and hasattr(made, "step")):
            raise TypeError(f"algorithm must return one of BlackJAX's, with init and step, got {describe(made)}")
        return made
