"""Ensembles of exact draws, what steps make of them, and what breaks it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from scipy import special

from variate.mcmc import DifferentialEvolution, Stretch
from variate.mcmc.ensembles import base, differential_evolution, stretch

from .law import ROOT, always, log_density

ENSEMBLES, WALKERS, STEPS = 8_000, 4, 40
STRETCH = Stretch(walkers=WALKERS, log_density=log_density)
EVOLUTION = DifferentialEvolution(walkers=WALKERS, jumps=0.3, log_density=log_density)


class Ensemble(NamedTuple):
    """A kernel, and mutants by name: where a rule is, its name, and what replaces it."""

    kernel: Any
    mutants: dict[str, tuple[Any, str, Any]]


def at_once(key: jax.Array, state: Any, log_density: Any, propose: Any) -> tuple:
    """Both halves given where the other was."""
    half = len(state.position) // 2
    first, second = jax.tree.map(lambda x: x[:half], state), jax.tree.map(lambda x: x[half:], state)
    keys = jax.random.split(key)
    moved = [
        base._moved(k, own, other.position, log_density, propose)
        for k, own, other in zip(keys, (first, second), (second, first), strict=True)
    ]
    return jax.tree.map(lambda *x: jnp.concatenate(x), *moved)


def one_sided(key: jax.Array, others: jax.Array) -> jax.Array:
    first, second = others[0], others[1]
    return jnp.where(first[2] > second[2], first - second, second - first)


LAWS = {
    "stretch": Ensemble(
        STRETCH,
        {
            "no accept step": (base, "metropolis", always),
            "without z^(d - 1)": (stretch, "log_factor", lambda z, d: 0 * z),
        },
    ),
    "differential evolution": Ensemble(
        EVOLUTION,
        {
            "differences to one side": (differential_evolution, "difference", one_sided),
            "both halves at once": (differential_evolution, "in_turn", at_once),
        },
    ),
}


def worst(kernel: Any, key: jax.Array) -> float:
    """The largest z, after many steps from exact draws, of moments of walkers and of what halves have to do."""

    def ensemble(key: jax.Array) -> jax.Array:
        pair, skewed, rest = jax.random.split(key, 3)
        normal = jax.random.normal(pair, (WALKERS, 2)) @ ROOT.T
        # A gamma variable of shape 2 is the sum of two exponential ones.
        x = jnp.column_stack([normal, jnp.log(jnp.sum(jax.random.exponential(skewed, (WALKERS, 2)), 1))])
        begun = base.State(x, jax.vmap(log_density)(x))
        state, _ = jax.lax.scan(lambda state, key: kernel.step(key, state), begun, jax.random.split(rest, STEPS))
        a, b, c = state.position.T
        c = c - special.digamma(2.0)
        moments = [a, b, c, jnp.exp(state.position[:, 2]) - 2.0, a**2 - 1.0, a * b - 1.2, b**2 - 1.69]
        half = WALKERS // 2
        pairs = [jnp.mean(x[:half]) * jnp.mean(x[half:]) for x in (a, c, a**2 - 1)]
        return jnp.stack([*map(jnp.mean, moments), *pairs])

    found = jax.jit(jax.vmap(ensemble))(jax.random.split(key, ENSEMBLES))
    z = jnp.abs(jnp.mean(found, 0) / (jnp.std(found, 0) / ENSEMBLES**0.5))
    return float(jnp.max(jnp.where(jnp.isnan(z), jnp.inf, z)))  # no number, where walkers have run away
