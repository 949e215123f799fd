"""Implicit diffusion: sampling from a density and optimizing its parameters in one loop."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key, PyTree

from variate import checks
from variate.estimates import Estimate


class Diffusing(NamedTuple):
    """Where the loop is: particles [particles, ...], parameters, what the optimizer keeps, and steps made."""

    particles: PyTree[Array]
    params: PyTree[Array]
    optimizer: Any
    steps: Int[Array, ""]


@dataclass(frozen=True)
class ImplicitDiffusion:
    r"""Minimizes $E f_\theta(x)$ over $\theta$ for $x \sim q_\theta / Z_\theta$, by one loop instead of two.

    A step moves every particle along $\nabla_x \log q_\theta$ with noise (Langevin) and $\theta$ against the gradient
    of the law that the particles tend to, $\nabla_\theta E f_\theta = E\,\nabla_\theta f_\theta +
    \mathrm{Cov}(f_\theta, \nabla_\theta \log q_\theta)$, over the particles as they are. Nothing is differentiated
    through the steps, so memory does not grow with them. `step` and `run` work under `jit`.

    The gradient is biased, and its estimate says so: the particles lag behind $\theta$, and a step of finite size has
    another stationary law. It is right as both rates go to zero, the optimizer's faster. The wrong choice where the
    density can be sampled exactly, by `Covariance` then, and where its modes lie too far apart for Langevin steps.

    Args:
        log_density: $\log q$, called as `log_density(x, params)` with one particle; the constant may be left out.
        cost: $f$, called as `cost(x, params)`; returns a number.
        optimizer: an Optax optimizer.
        step_size: $\gamma$ of the Langevin step $x + \gamma \nabla_x \log q_\theta(x) + \sqrt{2 \gamma}\,\xi$.

    Source: Marion, Korba, Bartlett, Blondel, De Bortoli, Doucet, Llinares-López, Paquette and Berthet (2024), algorithm
    1 and sec. 3.1.
    """

    log_density: Callable[[Any, Any], Float[Array, ""]]
    cost: Callable[[Any, Any], Float[Array, ""]]
    optimizer: Any
    step_size: float

    def __post_init__(self) -> None:
        checks.check_callable("log_density", self.log_density)
        checks.check_callable("cost", self.cost)
        checks.check_positive("step_size", self.step_size)
        if not all(callable(getattr(self.optimizer, name, None)) for name in ("init", "update")):
            raise TypeError(f"optimizer must be one of Optax, optax.adam(1e-3) say, got {self.optimizer!r}")

    def init(self, particles: PyTree[Array], params: PyTree[Array]) -> Diffusing:
        """A start.

        Raises ValueError unless the arrays in `particles` share a first axis of two particles or more.
        """
        if (count := checks.check_leading_axis("particles", particles)) < 2:
            raise ValueError(f"particles: a covariance takes two or more, got {count}")
        return Diffusing(particles, params, self.optimizer.init(params), jnp.zeros((), int))

    def gradient(self, particles: PyTree[Array], params: PyTree[Array]) -> tuple[Estimate, Estimate]:
        """Estimates of the cost and of its gradient, from particles taken for independent draws."""
        costs, own = jax.vmap(jax.value_and_grad(self.cost, 1), (0, None))(particles, params)
        scores = jax.vmap(jax.grad(self.log_density, 1), (0, None))(particles, params)
        count = len(costs)
        others = (costs - jnp.mean(costs)) * (count / (count - 1))  # less the mean of the others

        def rows(own: Array, score: Array) -> Array:
            centred = score - jnp.mean(score, axis=0, keepdims=True)
            return own + others.reshape(-1, *(1,) * (score.ndim - 1)) * centred

        gradients = jax.tree.map(rows, own, scores)
        return _estimate(costs), _estimate(gradients)

    def step(self, key: Key[Array, ""], state: Diffusing) -> tuple[Diffusing, tuple[Estimate, Estimate]]:
        """One step of particles and parameters, with the estimates of cost and gradient before it."""
        found = self.gradient(state.particles, state.params)
        changes, optimizer = self.optimizer.update(found[1].value, state.optimizer, state.params)
        params = jax.tree.map(jnp.add, state.params, changes)
        forces = jax.vmap(jax.grad(self.log_density), (0, None))(state.particles, state.params)
        leaves, treedef = jax.tree.flatten(state.particles)
        keys = jax.random.split(key, len(leaves))
        noise = jax.tree.unflatten(treedef, [_normal(k, x) for k, x in zip(keys, leaves, strict=True)])
        move = lambda x, force, noise: x + self.step_size * force + math.sqrt(2 * self.step_size) * noise  # noqa: E731
        particles = jax.tree.map(move, state.particles, forces, noise)
        return Diffusing(particles, params, optimizer, state.steps + 1), found

    def run(self, key: Key[Array, ""], state: Diffusing, steps: int) -> tuple[Diffusing, Float[Array, " steps"]]:
        """Many steps, and the mean cost of the particles before each."""
        checks.check_key(key)
        steps = checks.check_positive_int("steps", steps)

        def one(state: Diffusing, key: Array) -> tuple[Diffusing, Array]:
            state, (value, _) = self.step(key, state)
            return state, value.value

        return lax.scan(one, state, jax.random.split(key, steps))


def _normal(key: Array, like: Array) -> Array:
    return jax.random.normal(key, like.shape, like.dtype)


def _estimate(rows: PyTree[Array]) -> Estimate:
    leaves = jax.tree.leaves(rows)
    count = len(leaves[0])
    errors = jax.tree.map(lambda x: jnp.std(x, axis=0, ddof=1) / math.sqrt(count), rows)
    means = jax.tree.map(lambda x: jnp.mean(x, axis=0), rows)
    nonfinite = sum(jnp.sum(~jnp.isfinite(x)) for x in jax.tree.leaves(means))
    return Estimate(means, errors, num_samples=count, converged=nonfinite == 0, biased=True, degrees=count - 1)
