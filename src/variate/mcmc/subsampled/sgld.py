"""Langevin's step by the gradient of a minibatch, without a correction: fast, and biased."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from variate.checks import check_positive_int
from variate.mcmc.base import Info, Scale, check_scale, pulled, stretched, unbound

from .control import Control, check_center
from .sum import Parts


class State(NamedTuple):
    position: Float[Array, " d"]
    control: Control


class SGLD(eqx.Module):
    r"""Stochastic gradient Langevin: $x' = x + \epsilon^2 S S^\top \hat g(x) / 2 + \epsilon S z$, always taken.

    $\hat g = \nabla \log p + \frac{n}{m} \sum_{i \in B} \nabla \ell_i$ is the gradient of a `Sum` estimated from m
    items, drawn evenly with replacement. With a center c it is
    $\nabla \log p(x) + \sum_i \nabla \ell_i(c) + \frac{n}{m} \sum_{i \in B} (\nabla \ell_i(x) - \nabla \ell_i(c))$,
    whose variance vanishes towards c: the mode is the best. `evaluations` counts gradients of items.

    It leaves another density invariant than the target, wider by the noise of $\hat g$ and by the steps, and no error
    bar tells how far off that is: it is refused unless `allow_bias`. A step to where the gradient is no number is not
    taken, and told as `divergent`.

    Choose it where nothing else is affordable, for predictions rather than for intervals. The wrong choice for a number
    that has to be right: `TunaMH` leaves the target itself invariant.

    Raises:
        TypeError: `allow_bias` is not given; while it runs, a target that is no `Sum`.
        ValueError: a step size or scale that is not positive, a batch that is no positive integer.

    Sources: Welling and Teh (2011), Bayesian learning via stochastic gradient Langevin dynamics, ICML, equation 4, with
    a constant step; the center: Baker, Fearnhead, Fox and Nemeth (2019), Control variates for stochastic gradient MCMC,
    Statistics and Computing 29, 599-615.
    """

    step_size: float | Float[Array, ""]  # epsilon, in units of S
    batch: int = eqx.field(static=True)  # m
    center: PyTree = None  # c: a position, best the mode
    scale: Scale = eqx.field(default=1.0, kw_only=True)  # S: of each coordinate, or a lower triangle
    allow_bias: bool = eqx.field(static=True, default=False, kw_only=True)
    log_density: Any = eqx.field(default=unbound, kw_only=True)  # a Sum

    def __check_init__(self) -> None:
        check_scale("step_size", self.step_size)
        check_scale("scale", self.scale)
        check_positive_int("batch", self.batch)
        check_center(self.center, int(self.center is not None), (0, 1))
        if not self.allow_bias:
            raise TypeError(
                "SGLD neither accepts nor rejects, so that its draws are biased by an amount that no error bar tells; "
                "allow_bias=True is the way to insist"
            )

    def init(self, key: Key[Array, ""], position: Float[Array, " d"]) -> State:
        parts = Parts.of(self.log_density)
        return State(position, Control.about(parts, self.center, int(self.center is not None)))

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        key_items, key_noise = jax.random.split(key)
        x, parts = state.position, Parts.of(self.log_density)
        noise = jax.random.normal(key_noise, x.shape, x.dtype)
        gradient = self._gradient(key_items, parts, state)
        move = noise + 0.5 * self.step_size * pulled(self.scale, gradient)
        there = x + self.step_size * stretched(self.scale, move)
        lost = ~jnp.all(jnp.isfinite(there))
        evaluations = self.batch * (1 if self.center is None else 2)
        info = Info((~lost).astype(x.dtype), ~lost, lost, jnp.asarray(evaluations))
        return state._replace(position=jnp.where(lost, x, there)), info

    def _gradient(self, key: Key[Array, ""], parts: Parts, state: State) -> Float[Array, " d"]:
        indices = jax.random.randint(key, (self.batch,), 0, parts.size)

        def of_some(x: Float[Array, " d"]) -> Float[Array, ""]:
            return parts.size / self.batch * jnp.sum(parts.items(x, indices))

        found = jax.grad(parts.prior)(state.position) + jax.grad(of_some)(state.position)
        center, known = state.control.center, state.control.gradient
        return found if center is None or known is None else found + known - jax.grad(of_some)(center)
