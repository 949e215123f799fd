"""The loop of Markov chains: a kernel on a target, several chains at once, and what their draws tell."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Key, PyTree
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin

from variate import checks
from variate.estimates import Estimate
from variate.programs import LogDensity
from variate.protocols import Kernel, Target
from variate.trees import as_float

# Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), Bayesian Analysis 16(2), sections 4 and 6.
_RHAT, _ESS = 1.01, 100


class Draws(eqx.Module):
    """Draws of several Markov chains: `vt.sample` makes them.

    `values`: what the target calls a draw, with leading axes of chains and of draws. `acceptance`: the probability with
    which each step was accepted. `divergent`: the steps whose path or density was lost.
    """

    values: PyTree[Array]
    acceptance: Float[Array, "chains draws"]
    divergent: Bool[Array, "chains draws"]

    def expect(self, f: Callable[[Any], PyTree] | None = None) -> Estimate:
        r"""$E[f(x)]$ under the target, with the standard error of dependent draws, $\sigma / \sqrt{\mathrm{ESS}}$.

        f is the identity if left out. `converged` is false unless the split R-hat of every number is below 1.01 and its
        effective sample size at least 100 for each chain. A number that never changes in one of the chains has no error
        bar: a chain that is stuck looks the same as a constant. Not for use under `jit`.

        Source: Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), Rank-normalization, folding, and localization:
        an improved R-hat for assessing convergence of MCMC, Bayesian Analysis 16(2), 667-718, equations 3 and 10-14.
        """
        found = jax.tree.map(as_float, self.values if f is None else jax.vmap(jax.vmap(f))(self.values))
        ess = jax.tree.map(_ess, found)
        error = jax.tree.map(lambda x, n: jnp.std(x, (0, 1)) / jnp.sqrt(jnp.asarray(n, x.dtype)), found, ess)
        rhat = jax.tree.map(_rhat, found)
        enough = [np.all(n >= _ESS * self.acceptance.shape[0]) for n in jax.tree.leaves(ess)]
        mixed = [np.all(r < _RHAT) for r in jax.tree.leaves(rhat)]
        value = jax.tree.map(lambda x: jnp.mean(x, (0, 1)), found)
        bad = [~np.isfinite(x).reshape(*x.shape[:2], -1).all(2) for x in map(np.asarray, jax.tree.leaves(found))]
        return Estimate(
            value,
            error,
            self.acceptance.size,
            bool(all(enough) and all(mixed)),
            int(np.any(bad, axis=0).sum()),
            method=f"{self.acceptance.shape[0]} Markov chains",
        )

    def ess(self) -> PyTree[np.ndarray]:
        """The effective sample size for the mean of every number; NaN where all draws agree."""
        return jax.tree.map(_ess, self.values)

    def rhat(self) -> PyTree[np.ndarray]:
        """Split R-hat of every number, 1 for chains that agree; NaN where all draws do."""
        return jax.tree.map(_rhat, self.values)


def sample(
    key: Key[Array, ""],
    target: Any,
    start: Any = None,
    *,
    kernel: Any,
    num_samples: int = 1_000,
    num_warmup: int = 1_000,
    num_chains: int = 4,
) -> Draws:
    """Draws from a density that can only be evaluated, by Markov chains that leave it invariant.

    All chains run at once in one compiled loop; nothing is compiled again for the same target with other data.

    Args:
        key: a typed key.
        target: a `Target` (`vt.condition(model, ...)` makes one), or a log density of any pytree of real arrays.
        start: values at which every chain starts; each starts at a random place of its own if left out, which is the
            better test of convergence. A bare log density needs it.
        kernel: `vt.mcmc.HMC(...)` say, with settings that suit the target; it is given the target's log density.
        num_samples: draws kept of each chain.
        num_warmup: steps before them, which are thrown away. The kernel is not adapted in them.
        num_chains: two or more, so that they can be compared.

    Raises:
        TypeError: a key that is not typed, no target, or no kernel.
        ValueError: counts that are not positive, or a start without a finite density.

    Wrong where modes are so far apart that no chain goes from one to the other: chains then agree on what they have all
    missed.
    """
    checks.check_key(key)
    counts = [checks.check_positive_int(n, v) for n, v in (("num_samples", num_samples), ("num_warmup", num_warmup))]
    checks.check_at_least("num_chains", num_chains, 2)
    if not isinstance(target, Target):
        if not callable(target):
            raise TypeError(f"target must be a target or a log density, got {checks.describe(target)}")
        if start is None:
            raise TypeError("start must be given with a bare log density: it tells the shapes of a position")
        target, start = LogDensity(target, start), None
    if inspect.isclass(kernel) or not isinstance(kernel, Kernel) or not hasattr(kernel, "log_density"):
        raise TypeError(f"kernel must be a kernel, vt.mcmc.RandomWalk(0.5) say, got {checks.describe(kernel)}")
    key_start, key_run = jax.random.split(key)
    if start is None:
        positions = jax.vmap(target.start)(jax.random.split(key_start, num_chains))
    else:
        one = target.unconstrain(start)
        positions = jax.tree.map(lambda x: jnp.broadcast_to(x, (num_chains, *jnp.shape(x))), one)
    density = jax.vmap(target.log_density)(positions)
    if not isinstance(density, Tracer) and not np.all(np.isfinite(density)):
        target.start(jax.random.clone(key_start))  # says why, if it has no start either
        raise ValueError(f"start must have a finite log density in every chain, got {density}")
    return _run(target, kernel, key_run, positions, *counts)


@eqx.filter_jit
def _run(target: Any, kernel: Any, key: Key[Array, ""], positions: PyTree[Array], kept: int, before: int) -> Draws:
    flat = jax.vmap(lambda tree: ravel_pytree(tree)[0])(positions)
    _, unravel = ravel_pytree(jax.tree.map(lambda x: x[0], positions))
    kernel = dataclasses.replace(kernel, log_density=lambda x: target.log_density(unravel(x)))

    def step(state: Any, key: Key[Array, ""]) -> tuple[Any, tuple[Array, Any]]:
        state, info = kernel.step(key, state)
        return state, (state.position, info)

    def chain(key: Key[Array, ""], position: Float[Array, " d"]) -> tuple[Array, Any]:
        key_init, key_warm, key_kept = jax.random.split(key, 3)
        state = kernel.init(key_init, position)
        state, _ = lax.scan(lambda s, k: (step(s, k)[0], None), state, jax.random.split(key_warm, before))
        return lax.scan(step, state, jax.random.split(key_kept, kept))[1]

    found, info = jax.vmap(chain)(jax.random.split(key, flat.shape[0]), flat)
    values = jax.vmap(jax.vmap(lambda x: target.constrain(unravel(x))))(found)
    return Draws(values, info.acceptance, info.divergent)


def _ess(x: Any) -> np.ndarray:
    # Chains that go there and back may have more than one for each draw; how many more no estimate can tell, so they
    # are held below N log10 N, as in Stan.
    size = np.shape(x)[0] * np.shape(x)[1]
    return np.asarray(np.minimum(_diagnosed(effective_sample_size, x), size * np.log10(size)))


def _rhat(x: Any) -> np.ndarray:
    return _diagnosed(split_gelman_rubin, x)


def _diagnosed(diagnostic: Callable[[np.ndarray], Any], x: Any) -> np.ndarray:
    """NaN where a chain never moves: neither a number of draws nor agreement can be told from it."""
    x = np.asarray(x, dtype=float)
    stuck = np.any(np.ptp(x, axis=1) == 0, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(stuck, np.nan, diagnostic(x))
