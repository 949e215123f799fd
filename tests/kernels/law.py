"""What every kernel owes: a target with exact draws, and the test of what a kernel makes of them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from scipy import special

from variate.mcmc import base as rules

CHAINS = 40_000
LIMIT = float(-special.ndtri(0.5e-6))
ROOT = jnp.array([[1.0, 0.0], [1.2, 0.5]])  # of the covariance of the first two coordinates
INVERSE = jnp.linalg.inv(ROOT)
SCALE = jnp.array([0.7, 0.7, 1.0])
TRIANGLE = jnp.zeros((3, 3)).at[:2, :2].set(ROOT).at[2, 2].set(1.0)


def log_density(x: jax.Array) -> jax.Array:
    """A correlated pair, and a skewed coordinate: the logarithm of a Gamma variable of shape 2."""
    pair = INVERSE @ x[:2]
    return -0.5 * jnp.sum(pair**2) + 2 * x[2] - jnp.exp(x[2])


def exact(key: jax.Array) -> jax.Array:
    pair, skewed = jax.random.split(key)
    return jnp.append(ROOT @ jax.random.normal(pair, (2,)), jnp.log(jax.random.gamma(skewed, 2.0)))


class Law(NamedTuple):
    """A kernel, the module whose rule a mutant replaces, and mutants by name: a rule, or a kernel of another kind.

    Of a kernel that is a sequence of others in a fixed order, only what it leaves invariant is tried: the same sequence
    backwards is another kernel. `begun` is the state at a position where `init` would not be a draw of what is left
    invariant.
    """

    kernel: Any
    module: Any
    rules: dict[str, Callable]
    kernels: dict[str, Any]
    rule: str = "metropolis"
    reversible: bool = True
    begun: Callable | None = None


def always(key: jax.Array, log_ratio: jax.Array, proposal: Any, state: Any) -> tuple:
    return proposal, jnp.ones(()), jnp.asarray(True)


def backwards(key: jax.Array, log_ratio: jax.Array, proposal: Any, state: Any) -> tuple:
    return rules.metropolis(key, -log_ratio, proposal, state)


def worst(kernel: Any, key: jax.Array, law: Law, chains: int = CHAINS) -> float:
    """The largest z among moments after three steps and, of a reversible kernel, flows there and back of one."""

    def chain(key: jax.Array) -> jax.Array:
        first, start, rest = jax.random.split(key, 3)
        x = exact(first)
        begun = kernel.init(start, x) if law.begun is None else law.begun(kernel, start, x)

        def step(state: Any, key: jax.Array) -> tuple:
            state, _ = kernel.step(key, state)
            return state, state.position

        _, (y, _, z) = jax.lax.scan(step, begun, jax.random.split(rest, 3))
        moments = [z[0], z[1], z[2] - special.digamma(2.0), jnp.exp(z[2]) - 2.0]
        moments += [z[0] ** 2 - 1.0, z[0] * z[1] - 1.2, z[1] ** 2 - 1.69]
        flows = [x[0] * y[1] - y[0] * x[1], x[2] ** 2 * y[2] - y[2] ** 2 * x[2], x[0] ** 2 * y[2] - y[0] ** 2 * x[2]]
        return jnp.stack([*moments, *flows] if law.reversible else moments)

    # A loop of a trajectory runs until the last of those that it runs for is at its end.
    found = jax.jit(lambda keys: jax.lax.map(chain, keys, batch_size=1_000))(jax.random.split(key, chains))
    return float(jnp.max(jnp.abs(jnp.mean(found, 0) / (jnp.std(found, 0) / chains**0.5))))
