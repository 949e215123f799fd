"""Samplers of a target: ours and those of others, all on the same log density in the same unbounded coordinates.

Each is a function of a posterior and a `Plan`; it makes a function from a key to a `Run`, which is compiled when first
called.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import blackjax
import emcee
import jax
import jax.numpy as jnp
import numpy as np
import nutpie
from jax.flatten_util import ravel_pytree
from numpyro.infer import MCMC, NUTS
from nutpie.compiled_pyfunc import from_pyfunc
from posteriors import Posterior, pymc_models

import variate as vt


class Plan(NamedTuple):
    """Draws of each chain, the steps before them, and chains; or the effective size to stop at, where that is known."""

    draws: int = 1_000
    warmup: int = 1_000
    chains: int = 4
    ess: int | None = None


class Run(NamedTuple):
    """Values with axes of chains and draws, and what the draws that were kept have cost.

    `evaluations`: of the gradient, or of the density where there is none; None where it is not told.
    """

    values: dict[str, Any]
    divergent: int
    evaluations: int | None


Sampler = Callable[[Posterior, Plan], Callable[[jax.Array], Run]]


def starts(target: Any, key: jax.Array, count: int) -> Any:
    return jax.vmap(target.start)(jax.random.split(key, count))


def flattened(target: Any) -> tuple[Callable, Callable]:
    """The log density of a vector, and the position that it stands for."""
    _, unravel = ravel_pytree(target.start(jax.random.key(0)))
    return lambda x: target.log_density(unravel(x)), unravel


def values_of(target: Any) -> Callable:
    """Of positions with axes of chains and draws."""
    return jax.jit(jax.vmap(jax.vmap(target.constrain)))


def variate(**settings: Any) -> Sampler:
    """Ours, with its own default of 500 steps to warm up."""

    def prepare(posterior: Posterior, plan: Plan) -> Callable[[jax.Array], Run]:
        length = {"num_samples": plan.draws} if plan.ess is None else {"until": vt.ESS(plan.ess)}

        def run(key: jax.Array) -> Run:
            counts = {**length, "num_warmup": min(plan.warmup, 500), "num_chains": plan.chains}
            draws = vt.sample(key, posterior.target, **counts, **settings)
            return Run(draws.values, int(draws.divergent.sum()), int(draws.evaluations.sum()))

        return run

    return prepare


def numpyro_nuts(**settings: Any) -> Sampler:
    """Its run compiled as a whole: by itself it compiles anew whenever it is called."""

    def prepare(posterior: Posterior, plan: Plan) -> Callable[[jax.Array], Run]:
        target = posterior.target
        kernel = NUTS(potential_fn=lambda position: -target.log_density(position), **settings)
        counts = {"num_warmup": plan.warmup, "num_samples": plan.draws, "num_chains": plan.chains}
        values = values_of(target)

        @jax.jit
        def together(key: jax.Array, first: Any) -> tuple[Any, dict[str, jax.Array]]:
            chains = MCMC(kernel, **counts, chain_method="vectorized", progress_bar=False)
            chains.run(key, init_params=first, extra_fields=("num_steps", "diverging"))
            return chains.get_samples(group_by_chain=True), chains.get_extra_fields()

        def run(key: jax.Array) -> Run:
            begin, go = jax.random.split(key)
            found, info = together(jax.random.key_data(go), starts(target, begin, plan.chains))
            return Run(values(found), int(info["diverging"].sum()), int(info["num_steps"].sum()))

        return run

    return prepare


def blackjax_nuts(posterior: Posterior, plan: Plan) -> Callable[[jax.Array], Run]:
    """With window adaptation of the step size and of a diagonal mass."""
    target = posterior.target
    log_density, values = target.log_density, values_of(target)
    adaptation = blackjax.window_adaptation(blackjax.nuts, log_density)

    def chain(key: jax.Array, position: Any) -> tuple[Any, jax.Array, jax.Array]:
        warm, kept = jax.random.split(key)
        (state, parameters), _ = adaptation.run(warm, position, plan.warmup)
        kernel = blackjax.nuts(log_density, **parameters)

        def step(state: Any, key: jax.Array) -> tuple[Any, tuple]:
            state, info = kernel.step(key, state)
            return state, (state.position, info.is_divergent, info.num_integration_steps)

        return jax.lax.scan(step, state, jax.random.split(kept, plan.draws))[1]

    together = jax.jit(jax.vmap(chain))

    def run(key: jax.Array) -> Run:
        begin, go = jax.random.split(key)
        positions, divergent, steps = together(jax.random.split(go, plan.chains), starts(target, begin, plan.chains))
        return Run(values(positions), int(divergent.sum()), int(steps.sum()))

    return run


def nutpie_nuts(posterior: Posterior, plan: Plan) -> Callable[[jax.Array], Run]:
    """One chain after the other, by a compiled density that is called from outside."""
    target = posterior.target
    log_density, unravel = flattened(target)
    both, values = jax.jit(jax.value_and_grad(log_density)), values_of(target)
    size = ravel_pytree(target.start(jax.random.key(0)))[0].size

    def density(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = both(x)
        return float(value), np.asarray(slope)

    def start(seed: int) -> np.ndarray:
        return np.asarray(ravel_pytree(target.start(jax.random.key(seed % 2**32)))[0])

    def expand(*_: Any) -> Callable:
        return lambda x: {"x": x}

    model = from_pyfunc(size, lambda: density, expand, [np.dtype(float)], [(size,)], ["x"], make_initial_point_fn=start)

    def run(key: jax.Array) -> Run:
        seed = int(jax.random.randint(key, (), 0, 2**31 - 1))
        counts = {"draws": plan.draws, "tune": plan.warmup, "chains": plan.chains, "cores": 1}
        trace = nutpie.sample(model, seed=seed, progress_bar=False, **counts)
        found = jax.vmap(jax.vmap(unravel))(jnp.asarray(trace["posterior"]["x"].values))
        about = trace["sample_stats"]
        return Run(values(found), int(about["diverging"].sum()), int(about["n_steps"].sum()))

    return run


def nutpie_numba(**settings: Any) -> Sampler:
    """The same law as a model of PyMC, which Numba compiles."""

    def prepare(posterior: Posterior, plan: Plan) -> Callable[[jax.Array], Run]:
        model = nutpie.compile_pymc_model(pymc_models.model(posterior.program, *posterior.data), backend="numba")

        def run(key: jax.Array) -> Run:
            seed = int(jax.random.randint(key, (), 0, 2**31 - 1))
            counts = {"draws": plan.draws, "tune": plan.warmup, "chains": plan.chains, "cores": 1}
            trace = nutpie.sample(model, seed=seed, progress_bar=False, **counts, **settings)
            values, about = trace["posterior"], trace["sample_stats"]
            found = {str(name): values[name].values for name in values.data_vars}
            return Run(found, int(about["diverging"].sum()), int(about["n_steps"].sum()))

        return run

    return prepare


def emcee_stretch(posterior: Posterior, plan: Plan) -> Callable[[jax.Array], Run]:
    """The stretch move, of four walkers for each coordinate. They are no independent chains, but are taken as such."""
    target = posterior.target
    log_density, unravel = flattened(target)
    size = ravel_pytree(target.start(jax.random.key(0)))[0].size
    together, values = jax.jit(jax.vmap(log_density)), values_of(target)

    def density(x: np.ndarray) -> np.ndarray:
        found = np.asarray(together(x))
        return np.where(np.isnan(found), -np.inf, found)

    def run(key: jax.Array) -> Run:
        begin, go = jax.random.split(key)
        first = jax.vmap(lambda position: ravel_pytree(position)[0])(starts(target, begin, 4 * size))
        ensemble = emcee.EnsembleSampler(4 * size, size, density, vectorize=True)
        ensemble.random_state = np.random.RandomState(int(jax.random.randint(go, (), 0, 2**31 - 1))).get_state()
        ensemble.run_mcmc(np.asarray(first), plan.warmup + plan.draws)
        found = np.swapaxes(ensemble.get_chain(discard=plan.warmup), 0, 1)
        return Run(values(jax.vmap(jax.vmap(unravel))(jnp.asarray(found))), 0, 4 * size * plan.draws)

    return run


SAMPLERS: dict[str, Sampler] = {
    "Variate": variate(),
    "NumPyro NUTS": numpyro_nuts(),
    "NumPyro NUTS, dense": numpyro_nuts(dense_mass=True),
    "BlackJAX NUTS": blackjax_nuts,
    "nutpie": nutpie_nuts,
    "nutpie, Numba": nutpie_numba(),
    "nutpie, Numba, low rank": nutpie_numba(low_rank_modified_mass_matrix=True),
    "emcee": emcee_stretch,
}
