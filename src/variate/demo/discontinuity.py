"""A program that plain JAX differentiates without complaint and wrongly: a fine for a missed deadline."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float, Key
from scipy import special

import variate as vt

WORK, DEADLINE, FINE = 8.0, 4.0, 20.0


def cost(key: Key[Array, ""], speed: Float[Array, ""]) -> Float[Array, ""]:
    """Energy grows with the speed of a machine; a fine is due if the job takes longer than the deadline."""
    hours = vt.draw(key, dist.Normal(WORK / speed, 1.0), name="hours")
    return speed**2 + jnp.where(hours > DEADLINE, FINE, 0.0)


def cost_in_plain_jax(key: Key[Array, ""], speed: Float[Array, ""]) -> Float[Array, ""]:
    """The same program as one writes it with `jax.random`."""
    hours = WORK / speed + jax.random.normal(key)
    return speed**2 + jnp.where(hours > DEADLINE, FINE, 0.0)


def exact(speed: Float[np.ndarray, "..."]) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    r"""$E = v^2 + F\,\Phi(w / v - d)$ and $dE / dv = 2 v - F\,\varphi(w / v - d)\, w / v^2$."""
    late = WORK / speed - DEADLINE
    density = np.exp(-(late**2) / 2) / np.sqrt(2 * np.pi)
    return speed**2 + FINE * special.ndtr(late), 2 * speed - FINE * density * WORK / speed**2


class Discontinuity(NamedTuple):
    """What each way gives at one speed, over a range of speeds, and where descending it leads."""

    speed: float
    exact: float
    plain: vt.Estimate
    refusal: str  # what is said to Pathwise
    gradient: vt.Estimate
    speeds: Float[np.ndarray, " speeds"]
    plain_range: vt.Estimate  # at those speeds
    gradient_range: vt.Estimate
    plain_descent: Float[np.ndarray, " steps"]  # speeds
    descent: Float[np.ndarray, " steps"]


plain_gradient = vt.expect(jax.grad(cost_in_plain_jax, argnums=1), num_samples=4096)
gradient = vt.grad(cost, num_samples=4096)


def descend(key: Key[Array, ""], start: Float[Array, ""], plain: bool) -> Float[Array, " steps"]:
    """Speeds on the way down a gradient that is estimated from few draws a step."""
    few = vt.expect(jax.grad(cost_in_plain_jax, argnums=1), num_samples=64) if plain else vt.grad(cost, num_samples=64)

    def step(speed: Float[Array, ""], key: Key[Array, ""]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        # The machine has a slowest speed, which is where plain JAX takes it.
        new = jnp.maximum(speed - 0.02 * few(key, speed).value, 0.5)
        return new, new

    _, speeds = jax.lax.scan(step, start, jax.random.split(key, 120))
    return jnp.concatenate([start[None], speeds])


def compare(key: Key[Array, ""]) -> Discontinuity:
    """Plain JAX and `vt.grad` on the same cost."""
    key_one, key_plain, key_descent = jax.random.split(key, 3)
    speed = jnp.asarray(1.8, jnp.float32)
    speeds = jnp.linspace(0.8, 3.6, 29, dtype=jnp.float32)
    try:
        vt.grad(cost, rules={"hours": vt.gradients.Pathwise()})(key, speed)
        refusal = "nothing: it should have been refused"
    except vt.BiasedGradientError as error:
        refusal = str(error)
    keys = jax.random.split(key_one, len(speeds) + 1)
    return Discontinuity(
        speed=float(speed),
        exact=float(exact(np.asarray(speed, float))[1]),
        plain=plain_gradient(key_plain, speed),
        refusal=refusal,
        gradient=gradient(keys[0], speed),
        speeds=np.asarray(speeds),
        plain_range=jax.vmap(plain_gradient)(keys[1:], speeds),
        gradient_range=jax.vmap(gradient)(keys[1:], speeds),
        plain_descent=np.asarray(descend(key_descent, speed, plain=True)),
        descent=np.asarray(descend(key_descent, speed, plain=False)),
    )
