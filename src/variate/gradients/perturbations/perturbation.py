"""Runs of a program with perturbed arguments, block by block, and the estimates that they make."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Float, Int, Key

from variate import checks, trees
from variate.estimates import Estimate, Moments
from variate.gradients.staged import is_place
from variate.programs import generator, validity

DEFAULT_BLOCK = 64
_LARGEST_BLOCK = 2**20  # numbers in the perturbed arguments of a block, where nobody said how large it is


@runtime_checkable
class Perturbation(Protocol):
    r"""How `black_box` moves the arguments: by $\pm c\,\Delta$.

    Owes a random $\Delta$ with $E\,\Delta\Delta^\top = I$, as often as $-\Delta$. A pytree with `scale` as a leaf (an
    Equinox module, say), so that a schedule of scales compiles once.
    """

    scale: Float[Array, ""] | float  # c, in the units of the arguments

    def direction(self, key: Key[Array, ""], shape: tuple[int, ...], dtype: Any) -> Array:
        r"""$\Delta$ for one array, the same whenever the key is."""
        ...


def positive_scale(value: Any) -> Any:
    """The converter of a `scale`: one number, and positive where it is known."""
    return value if isinstance(value, Tracer) and value.shape == () else checks.check_positive("scale", value)


class Request(NamedTuple):
    """What `black_box` was asked for."""

    positions: tuple[int, ...]
    single: bool  # one position, not a sequence of one
    num_samples: int
    block_size: int | None


class _Sums(NamedTuple):
    """What goes round the loop: the fold, and how often each draw met parameters out of range."""

    moments: Moments  # of (value, gradients)
    invalid: dict[int, Array]


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def run(
    request: Request, static: trees.Static, checked: bool, key: Key[Array, ""], method: Any, numbers: list[Any]
) -> tuple[tuple[Estimate, Estimate], Array, dict[int, Array]]:
    arguments = trees.join(list(range(len(numbers))), static)[1]
    moved = {i for p in request.positions for i in jax.tree.leaves(arguments[p - 1]) if is_place(i)}
    centers = {i: trees.as_float(numbers[i]) for i in sorted(moved)}
    evaluate = jax.jit(_evaluation(static, checked))  # a function of its own, so that it is traced once
    shape, sites = jax.eval_shape(evaluate, key, *numbers)
    size, blocks = _blocks(request, sum(center.size for center in centers.values()))

    def block(index: Int[Array, ""]) -> _Sums:
        places = index * size + jnp.arange(size)
        keys = _keys(key, places, len(centers))
        rows, invalid = jax.vmap(lambda *keys: _sample(evaluate, method, keys, numbers, centers))(*keys)
        used = places < request.num_samples
        met = {site: jnp.sum(jnp.where(used, times, 0)) for site, times in invalid.items()}
        return _Sums(Moments.of_rows(rows, jnp.sum(used)), met)

    def add(index: Int[Array, ""], sums: _Sums) -> _Sums:
        found = block(index)
        return _Sums(sums.moments.merge(found.moments), jax.tree.map(jnp.add, sums.invalid, found.invalid))

    empty = _Sums(Moments.empty((shape, centers)), {site: jnp.zeros((), int) for site in sites})
    sums = lax.fori_loop(0, blocks, add, empty) if blocks > 1 else block(jnp.zeros((), int))
    lost = jnp.any(jnp.stack([_lost(numbers[i], center, method.scale) for i, center in centers.items()]))
    estimates = _read(request, arguments, sums.moments, _rounding(shape.dtype), method.scale, ~lost)
    return estimates, lost, sums.invalid


def _evaluation(static: trees.Static, checked: bool) -> Callable[..., tuple[Any, dict[int, Array]]]:
    """One run of `f`, and, if `checked`, how often each draw met parameters out of range."""

    def run(key: Key[Array, ""], *numbers: Any) -> Any:
        f, args = trees.join(list(numbers), static)
        result = f(key, *args)
        result = result.value if isinstance(result, Estimate) else result
        _check_one_number(f, result)
        return result

    return validity.counted(run) if checked else lambda key, *numbers: (run(key, *numbers), {})


def _check_one_number(f: Any, result: Any) -> None:
    dtype = np.dtype(type(result)) if isinstance(result, bool | int | float) else getattr(result, "dtype", None)
    real = dtype is not None and any(jnp.issubdtype(dtype, kind) for kind in (np.bool_, np.integer, np.floating))
    if not real or np.shape(result):
        raise TypeError(f"{checks.name_of(f)} must return one real number, got {checks.describe(result)}")


def _blocks(request: Request, parameters: int) -> tuple[int, int]:
    """The size of a block, and how many there are."""
    at_most = request.block_size or min(DEFAULT_BLOCK, max(1, _LARGEST_BLOCK // max(1, parameters)))
    blocks = -(-request.num_samples // at_most)
    return -(-request.num_samples // blocks), blocks


def _keys(key: Key[Array, ""], places: Int[Array, " samples"], arrays: int) -> tuple[Array, Array]:
    """Of each sample, for its runs [samples] and for its directions [samples, arrays]."""

    def one(key: Array, place: Array) -> tuple[Array, Array]:
        key_run, key_direction = jax.random.split(jax.random.fold_in(key, place))
        return key_run, jax.random.split(key_direction, arrays)

    return generator.of_key(lambda key: jax.vmap(one, (None, 0))(key, places.astype(jnp.uint32)), key)


def _sample(
    evaluate: Callable, method: Any, keys: tuple[Array, Array], numbers: list[Any], centers: dict[int, Array]
) -> tuple[tuple[Array, dict[int, Array]], dict[int, Array]]:
    """The value and the gradient that one direction gives."""
    key_run, key_directions = keys

    def at(sign: Array) -> tuple[Array, dict[int, Array]]:
        step = sign * jnp.asarray(method.scale, sign.dtype)
        moved = _moved(numbers, centers, _directions(method, key_directions, centers), step)
        result, invalid = evaluate(jax.random.clone(key_run), *moved)
        return trees.as_float(result), invalid

    # One after the other: of the arguments there is one perturbed copy at a time, and `f` is compiled once.
    (plus, minus), invalid = lax.map(at, jnp.array([1.0, -1.0]))
    slope = _slope(plus, minus, method.scale)
    directions = _directions(method, key_directions, centers)
    gradients = {i: slope.astype(direction.dtype) * direction for i, direction in directions.items()}
    return ((plus + minus) / 2, gradients), jax.tree.map(jnp.sum, invalid)


def _directions(method: Any, keys: Key[Array, " arrays"], centers: dict[int, Array]) -> dict[int, Array]:
    """The directions that the keys stand for: made whenever they are needed, and the same each time."""
    again = jax.random.clone(keys)
    return {i: method.direction(k, x.shape, x.dtype) for k, (i, x) in zip(again, centers.items(), strict=True)}


def _moved(numbers: list[Any], centers: dict[int, Array], directions: dict[int, Array], step: Array) -> list[Any]:
    """All numbers, those that are differentiated a step further, each in its own precision."""
    moved = list(numbers)
    for i, direction in directions.items():
        moved[i] = (centers[i] + step.astype(direction.dtype) * direction).astype(jnp.result_type(numbers[i]))
    return moved


def _slope(plus: Array, minus: Array, scale: Any) -> Array:
    return (plus - minus) / jnp.asarray(2 * scale, plus.dtype)


def _lost(number: Any, center: Array, scale: Any) -> Array:
    """Whether a number stays where it is when `scale` is added."""
    moved = (center + jnp.asarray(scale, center.dtype)).astype(jnp.result_type(number))
    return jnp.any(jnp.isfinite(center) & (moved == number))


def _rounding(dtype: Any) -> float:
    return float(jnp.finfo(dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.result_type(float)).eps)


def _read(
    request: Request, arguments: Any, moments: Moments, rounding: float, scale: Any, kept: Array
) -> tuple[Estimate, Estimate]:
    """The estimates, in the structure of the arguments."""
    found, n = moments.read(), request.num_samples
    (value, gradients), (error, errors) = _without_derivative((found.value, found.stderr))
    # No error bar is shorter than the rounding of its value, and of the two results that it is the difference of.
    rounded = rounding * jnp.abs(value)
    error = jnp.hypot(error, rounded)
    lost = rounded / jnp.asarray(scale, rounded.dtype)
    errors = {
        i: jnp.hypot(each, lost.astype(each.dtype) + jnp.finfo(each.dtype).eps * jnp.abs(gradients[i]))
        for i, each in errors.items()
    }

    def arranged(entries: dict[int, Array]) -> Any:
        trees_of_numbers = [
            jax.tree.map(lambda leaf: entries[leaf] if is_place(leaf) else None, arguments[position - 1])
            for position in request.positions
        ]
        return trees_of_numbers[0] if request.single else tuple(trees_of_numbers)

    fields: dict[str, Any] = {
        "num_samples": n,
        "converged": found.converged & kept,
        "nonfinite": found.nonfinite,
        "degrees": n - 1 if n > 1 else None,
        "biased": True,
    }
    return (
        Estimate(value, error if n > 1 else None, **fields),
        Estimate(arranged(gradients), arranged(errors) if n > 1 else None, **fields),
    )


@jax.custom_jvp
def _without_derivative(x: Any) -> Any:
    """The identity, which cannot be differentiated: what JAX would derive misses every jump of `f`."""
    return x


@_without_derivative.defjvp
def _(primals: tuple, tangents: tuple) -> Any:
    raise TypeError(
        "black_box only evaluates its function, so JAX cannot differentiate its estimates: vt.grad differentiates an "
        "expectation, and vt.grad(vt.grad(f)) does so twice"
    )
