"""Targets from what others wrote: a bare log density, a distribution, a model of NumPyro's."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax.core import Tracer
from jaxtyping import Array, Float, Key, PyTree
from numpyro.infer import init_to_uniform
from numpyro.infer.util import constrain_fn, initialize_model, log_density, potential_energy, unconstrain_fn

from variate import checks, trees
from variate.programs import distributions
from variate.programs.conditioning import Conditioned, condition
from variate.programs.digests import digest_of
from variate.programs.fixed import fixed
from variate.programs.primitive import draw
from variate.programs.structure import Structure, take_apart
from variate.programs.supports import constants_of
from variate.protocols import Target


class LogDensity(eqx.Module):
    r"""The target $\log \pi(x)$ = `function(x, *args)`, over any pytree x of real arrays without bounds.

    A `Target` whose values are its positions. It is a pytree of the numbers in `start` and `args`, so what is compiled
    for one serves another with other data of the same shapes, given as `args` and not closed over.

    Args:
        function: the log density up to a constant, one real number.
        start: a position of positive density, which `start(key)` returns; its shapes are those of all positions.
        args: what else `function` takes: data.

    Raises:
        TypeError: `function` is not callable or does not return one real number, or `start` holds anything but real
            arrays.
        ValueError: the density at `start`, where it is known, is zero or not finite.

    Wrong where positions have bounds at which the density does not vanish: a sampler with gradients would not see
    them. Write those as a program (`vt.condition`).
    """

    numbers: list[Any]
    static: trees.Static = eqx.field(static=True)
    digest: str = eqx.field(static=True)  # of what the function closes over, which may be another in another call

    def __init__(self, function: Callable[..., Any], start: PyTree, *args: Any):
        if not callable(function):
            raise TypeError(f"function must be a log density of (position, *args), got {checks.describe(function)}")
        for path, leaf in jax.tree_util.tree_leaves_with_path(start):
            if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
                raise TypeError(f"start{jax.tree_util.keystr(path)} must be real, got {checks.describe(leaf)}")
        self.numbers, self.static = trees.split((function, jax.tree.map(jnp.asarray, start), args))
        checks.check_hashable(self.static.leaves)
        self.digest = digest_of(functools.partial(_at_start, self.static), self.numbers)
        found = _density(self, self.start())
        if not isinstance(found, Tracer) and not jnp.isfinite(found):
            raise ValueError(f"start must have a finite log density, got {found}")

    def start(self, key: Any = None) -> PyTree[Array]:
        return trees.join(self.numbers, self.static)[1]

    def log_density(self, position: PyTree[Array]) -> Float[Array, ""]:
        return _density(self, position)

    def constrain(self, position: PyTree[Array]) -> PyTree[Array]:
        return position

    def unconstrain(self, values: PyTree[Array]) -> PyTree[Array]:
        return values


def _at_start(static: trees.Static, numbers: list[Any]) -> Any:
    function, start, args = trees.join(numbers, static)
    return function(start, *args)


@jax.jit
def _density(target: LogDensity, position: PyTree[Array]) -> Float[Array, ""]:
    function, start, args = trees.join(target.numbers, target.static)
    like, given = (jax.tree.map(jnp.shape, tree) for tree in (start, position))
    if like != given:
        raise ValueError(f"position must have the shapes of start, {like}, got {given}")
    found = function(position, *args)
    if not trees.is_real_number(found):
        raise TypeError(f"{checks.name_of(function)} must return one real number, got {checks.describe(found)}")
    return jnp.asarray(found)


def distribution_target(distribution: Any, start: PyTree | None = None) -> Conditioned | LogDensity:
    """The target of anything with `log_prob`.

    A distribution of NumPyro's is the program that draws `"x"` from it, in unbounded coordinates. The log density of
    any other is taken at its word over all real numbers, and starts at `start`.

    Args:
        distribution: NumPyro's, or a pytree with `log_prob(x)`; of a batch, all members together.
        start: a position of positive density; not for NumPyro's.

    Raises:
        TypeError: there is no `log_prob`, or `start` is missing; or a distribution of NumPyro's is discrete.
    """
    if isinstance(distribution, dist.Distribution):
        return condition(_one_draw, *take_apart(distribution))
    if not callable(getattr(distribution, "log_prob", None)):
        raise TypeError(f"distribution must have log_prob(x), got {checks.describe(distribution)}")
    if start is None:
        raise TypeError(f"start must be a position of positive density of {type(distribution).__name__}, got None")
    return LogDensity(_log_prob, start, *take_apart(distribution))


def target_of(target: Any, start: Any) -> Target:
    """What is to be drawn from as a `Target`, given where chains start if that is known."""
    if isinstance(target, Target):
        return target
    if callable(getattr(target, "log_prob", None)):
        return distribution_target(target, None if isinstance(target, dist.Distribution) else start)
    if not callable(target):
        raise TypeError(f"target must be a target or a log density, got {checks.describe(target)}")
    if start is None:
        raise TypeError(
            "start must be given with a bare log density: it tells the shapes of a position; a model is given by "
            "vt.condition(model, ...), one of NumPyro's by vt.programs.NumPyroModel(model, ...)"
        )
    return LogDensity(target, start)


def _one_draw(key: Key[Array, ""], arrays: list[Array], structure: Structure) -> None:
    draw(key, structure.build(arrays), name="x")


def _log_prob(x: PyTree[Array], arrays: list[Array], structure: Structure) -> Float[Array, ""]:
    return jnp.sum(distributions.log_prob(structure.build(arrays), x))


class NumPyroModel(eqx.Module):
    """The target of a model that is written in NumPyro, given its arguments, in NumPyro's own unbounded coordinates.

    A `Target`: positions and values are dictionaries from names of sample sites, values with the deterministic sites
    too. It is a pytree of the numbers among the arguments.

    Args:
        model: a function with NumPyro's `sample` and `factor`; called as `model(*args, **kwargs)`.

    Raises:
        TypeError: a latent site is discrete, a site is a `param`, which has no distribution, or a plate is subsampled.
    """

    numbers: list[Any]
    static: trees.Static = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)
    constants: dict[str, tuple[int, ...]] = eqx.field(static=True)  # as of `Conditioned`
    digest: str = eqx.field(static=True)  # of what the model closes over, which may be another in another call

    def __init__(self, model: Callable[..., Any], *args: Any, **kwargs: Any):
        checks.check_callable("model", model)
        self.numbers, self.static = trees.split((model, args, kwargs))
        checks.check_hashable(self.static.leaves)
        sites = _traced(self.static, self.numbers)[1]
        self.names = _latent_names(sites)
        self.constants = {
            name: constants_of(sites[name]["fn"].support, jnp.shape(sites[name]["value"])) for name in self.names
        }
        self.digest = digest_of(functools.partial(_run, self.static), self.numbers)
        if any(site["type"] == "deterministic" for site in sites.values()):
            self.constants |= self._fixed({name: sites[name]["value"] for name in self.names})

    def _fixed(self, values: dict[str, Array]) -> dict[str, tuple[int, ...]]:
        """Of the deterministic sites."""
        position = jax.eval_shape(self.unconstrain, values)
        shapes = jax.tree_util.tree_leaves_with_path(jax.eval_shape(self.constrain, position))
        names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in shapes]
        found = fixed(self.constrain, (position,), [()] * len(position))
        return {name: places for name, places in zip(names, found, strict=True) if name not in self.names}

    def start(self, key: Key[Array, ""]) -> dict[str, Array]:
        checks.check_key(key)
        model, args, kwargs = trees.join(self.numbers, self.static)
        with distributions.numpyro_promotion():
            # NumPyro uses some of its keys twice, which it may do with raw ones.
            raw = jax.random.key_data(key)
            return dict(initialize_model(raw, model, model_args=args, model_kwargs=kwargs).param_info.z)

    def log_density(self, position: Mapping[str, Any]) -> Float[Array, ""]:
        return _potential(self, dict(position))

    def constrain(self, position: Mapping[str, Any]) -> dict[str, Array]:
        model, args, kwargs = trees.join(self.numbers, self.static)
        with distributions.numpyro_promotion():
            return constrain_fn(model, args, kwargs, dict(position), return_deterministic=True)

    def unconstrain(self, values: Mapping[str, Any]) -> dict[str, Array]:
        if missing := [name for name in self.names if name not in values]:
            raise ValueError(f"values: {', '.join(map(repr, missing))} missing; the sites are {list(self.names)}")
        model, args, kwargs = trees.join(self.numbers, self.static)
        with distributions.numpyro_promotion():
            return unconstrain_fn(model, args, kwargs, {name: values[name] for name in self.names})


@jax.jit
def _potential(target: NumPyroModel, position: dict[str, Any]) -> Float[Array, ""]:
    if set(position) != set(target.names):
        raise ValueError(f"position must have the names {list(target.names)}, got {sorted(position)}")
    model, args, kwargs = trees.join(target.numbers, target.static)
    with distributions.numpyro_promotion():
        return -jnp.asarray(potential_energy(model, args, kwargs, position))


def _traced(static: trees.Static, numbers: list[Any]) -> tuple[Array, dict[str, Any]]:
    """The joint log density of a run that draws where NumPyro would start, and its sites."""
    model, args, kwargs = trees.join(numbers, static)
    with distributions.numpyro_promotion():
        seeded = numpyro.handlers.seed(model, rng_seed=jax.random.key_data(jax.random.key(0)))
        begun = numpyro.handlers.substitute(seeded, substitute_fn=init_to_uniform)
        found, sites = log_density(begun, args, kwargs, {})
        return jnp.asarray(found), sites


def _run(static: trees.Static, numbers: list[Any]) -> tuple[Array, list[Any]]:
    """What a run of the model comes to."""
    found, sites = _traced(static, numbers)
    return found, [site["value"] for site in sites.values() if site["type"] == "deterministic"]


def _latent_names(sites: Mapping[str, Any]) -> tuple[str, ...]:
    names = []
    for name, site in sites.items():
        if site["type"] == "param":
            raise TypeError(f"model: the site {name!r} is a param, which has no distribution to be sampled from")
        if site["type"] == "plate" and site["args"][1] not in (None, site["args"][0]):
            raise TypeError(f"model: the plate {name!r} is subsampled, so that its density is another in every run")
        if site["type"] == "sample" and not site["is_observed"]:
            if site["fn"].is_discrete:
                raise TypeError(f"model: the site {name!r} is discrete and has no real coordinates: sum it out")
            names.append(name)
    return tuple(names)
