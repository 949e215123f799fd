"""A program that plain JAX differentiates without complaint and wrongly: a fine for a missed deadline."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float, Key
from scipy import special

import variate as vt

WORK, DEADLINE, FINE = 8.0, 4.0, 20.0
SLOWEST, SPEED = 0.5, 1.8


def cost(key: Key[Array, ""], speed: Float[Array, ""]) -> Float[Array, ""]:
    """Energy grows with the speed of a machine; a fine is due if the job takes longer than the deadline."""
    hours = vt.draw(key, dist.Normal(WORK / speed, 1.0), name="hours")
    return speed**2 + jnp.where(hours > DEADLINE, FINE, 0.0)


def cost_in_plain_jax(key: Key[Array, ""], speed: Float[Array, ""]) -> Float[Array, ""]:
    """The same program as one writes it with `jax.random`."""
    hours = WORK / speed + jax.random.normal(key, dtype=speed.dtype)
    return speed**2 + jnp.where(hours > DEADLINE, FINE, 0.0)


def exact(speed: Float[np.ndarray, "..."]) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    r"""$E = v^2 + F\,\Phi(w / v - d)$ and $dE / dv = 2 v - F\,\varphi(w / v - d)\, w / v^2$."""
    late = WORK / speed - DEADLINE
    density = np.exp(-(late**2) / 2) / np.sqrt(2 * np.pi)
    return speed**2 + FINE * special.ndtr(late), 2 * speed - FINE * density * WORK / speed**2


class Discontinuity(NamedTuple):
    """The derivative at a range of speeds, plain JAX's and ours, and where descending each leads from `SPEED`."""

    speeds: Float[np.ndarray, " speeds"]
    exact: Float[np.ndarray, " speeds"]
    plain: vt.Estimate
    gradient: vt.Estimate
    plain_descent: Float[np.ndarray, " steps"]  # speeds
    descent: Float[np.ndarray, " steps"]
    refusal: str  # what is said to Pathwise

    @property
    def example(self) -> tuple[float, vt.Estimate, vt.Estimate]:
        """At `SPEED`: exact, plain JAX, ours."""
        i = int(np.argmin(np.abs(self.speeds - SPEED)))
        return float(self.exact[i]), *(jax.tree.map(lambda x: x[i], each) for each in (self.plain, self.gradient))

    @property
    def paths(self) -> dict[str, Float[np.ndarray, " steps"]]:
        """The speeds of each descent."""
        return {"jax.grad": self.plain_descent, "vt.grad": self.descent}


Gradient = Callable[[Key[Array, ""], Float[Array, ""]], vt.Estimate]


def plain_grad(num_samples: int) -> Gradient:
    """The mean of `jax.grad` over runs."""
    return vt.expect(jax.grad(cost_in_plain_jax, argnums=1), num_samples=num_samples)


def descend(key: Key[Array, ""], gradient: Gradient) -> Float[np.ndarray, " steps"]:
    """Speeds on the way down."""

    def step(speed: Float[Array, ""], key: Key[Array, ""]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        return jnp.maximum(speed - 0.02 * gradient(key, speed).value, SLOWEST), speed

    keys = jax.random.split(key, 120)
    return np.asarray(jax.jit(lambda start: jax.lax.scan(step, start, keys)[1])(jnp.asarray(SPEED, jnp.float32)))


def compare(key: Key[Array, ""]) -> Discontinuity:
    """Plain JAX and `vt.grad` on the same cost."""
    key_range, key_descent = jax.random.split(key)
    speeds = jnp.linspace(1.2, 3.6, 25, dtype=jnp.float32)
    keys = jax.random.split(key_range, len(speeds))
    try:
        vt.grad(cost, rules={"hours": vt.gradients.Pathwise()})(key, speeds[0])
        refusal = "nothing, which is a bug: it should have been refused"
    except vt.BiasedGradientError as error:
        refusal = str(error)
    return Discontinuity(
        speeds=np.asarray(speeds, float),
        exact=exact(np.asarray(speeds, float))[1],
        plain=jax.vmap(plain_grad(4096))(keys, speeds),
        gradient=jax.vmap(vt.grad(cost, num_samples=4096, block_size=4096))(keys, speeds),
        plain_descent=descend(key_descent, plain_grad(64)),
        descent=descend(key_descent, vt.grad(cost, num_samples=64)),
        refusal=refusal,
    )
