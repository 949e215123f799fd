"""`draw`, the one primitive that this library adds to JAX."""

import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Key

from variate import checks
from variate.programs import distributions
from variate.programs.source import caller, short
from variate.programs.structure import Structure, take_apart

draw_p = Primitive("draw")
draw_p.multiple_results = True


def draw(key: Any, distribution: Any, *, rule: Any = None, name: Any = None) -> Any:
    r"""Draw $x \sim p$: in a program that just runs, `distribution.sample(key)`.

    The draw stays visible to the transformations of this library (`vt.grad`, `vt.expect`, `vt.explain`), inside
    `jit`, `vmap`, `scan`, `cond` and the rest of JAX. Under `vmap` every lane draws for itself.

    Args:
        key: a typed key, `jax.random.key(seed)`, used for nothing else.
        distribution: NumPyro's, FlowJAX's, or any registered pytree with `sample(key)` and `log_prob(x)`.
        rule: how this draw contributes to a gradient (`vt.gradients.Score()`, ...); chosen by `vt.grad` if left out.
        name: what `rules=`, `explain` and error messages call this draw; its source line if left out.

    Raises:
        TypeError: `key` is not one typed key, or `distribution` has no `sample` and `log_prob`.
        ValueError: a parameter of the distribution, if its value is known here, is out of range or not finite.

    Wrong where a gradient is taken by `jax.grad` itself, which cannot see through a draw and says so: use `vt.grad`.
    """
    checks.check_key(key)
    checks.check_distribution(distribution)
    checks.check_name(name)
    source = caller()
    distributions.check_parameters(distribution, name or short(source))
    arrays, structure = take_apart(distribution)
    shapes = jax.eval_shape(lambda k, *a: distributions.sample(structure.build(a), k), key, *arrays)
    leaves, treedef = jax.tree.flatten(shapes)
    if not leaves:
        raise TypeError(f"distribution: {type(distribution).__name__}.sample(key) returned no array")
    event = Event(treedef, tuple((leaf.shape, leaf.dtype) for leaf in leaves))
    values = draw_p.bind(key, *arrays, structure=structure, lanes=(), event=event, rule=rule, name=name, source=source)
    return jax.tree.unflatten(treedef, values)


class Event(NamedTuple):
    """What one lane draws: a tree, and the shape and type of each leaf."""

    tree: Any
    leaves: tuple[tuple[tuple[int, ...], Any], ...]


class Lane(NamedTuple):
    """One `vmap` around a draw: how many lanes, and the axis of each operand that runs over them."""

    size: int
    axes: tuple[int | None, ...]


def over_lanes(function: Callable, lanes: Sequence[Lane], values: int = 0) -> Callable:
    """`function(*values, key, *arrays)` mapped over the lanes that `vmap` gave a draw, the innermost first."""
    for lane in lanes:
        function = jax.vmap(function, in_axes=(*(0,) * values, *lane.axes))
    return function


def traced_once(function: Callable, *static: Hashable) -> Callable:
    """`function` of `static` and the arguments to come: draws that are alike share its trace and the derivatives of it.

    It is most of what a program of many draws takes to stage.
    """
    try:
        return _traced_once(function, static)
    except TypeError:  # a distribution with a part that cannot be hashed
        return functools.partial(function, *static)


@functools.lru_cache(maxsize=4096)
def _traced_once(function: Callable, static: tuple[Hashable, ...]) -> Callable:
    return jax.jit(functools.partial(function, *static))


def sample_leaves(structure: Structure, lanes: Sequence[Lane]) -> Callable:
    """`(key, *arrays) -> leaves of the drawn value`, lanes included."""
    return traced_once(_sample, structure, tuple(lanes))


def _sample(structure: Structure, lanes: Sequence[Lane], key: Array, *arrays: Array) -> list[Array]:
    def one(key: Key[Array, ""], *arrays: Array) -> list[Array]:
        return jax.tree.leaves(distributions.sample(structure.build(arrays), key))

    return over_lanes(one, lanes)(key, *arrays)


def _implementation(key: Array, *arrays: Array, structure: Structure, lanes: tuple, **_: Any) -> list[Array]:
    return sample_leaves(structure, lanes)(key, *arrays)


def _abstract(*_: Any, lanes: tuple, event: Event, **__: Any) -> list[Any]:
    sizes = tuple(lane.size for lane in reversed(lanes))
    return [ShapedArray((*sizes, *shape), dtype) for shape, dtype in event.leaves]


def _batch(operands: Sequence[Any], axes: Sequence[Any], *, lanes: tuple, **params: Any) -> tuple[list, list]:
    axes = tuple(axis if isinstance(axis, int) else None for axis in axes)
    (size, *_) = (operand.shape[axis] for operand, axis in zip(operands, axes, strict=True) if axis is not None)
    values = draw_p.bind(*operands, lanes=(*lanes, Lane(size, axes)), **params)
    return values, [0] * len(values)


def _refuse(primals: Sequence[Array], tangents: Sequence[Any], *, name: str | None, source: str, **_: Any) -> None:
    raise TypeError(
        f"jax.grad cannot differentiate through the draw {name or short(source)!r} ({source}): the derivative of an "
        "expectation is not the derivative of one run. Use vt.grad(f)(key, *args) in place of jax.grad(f)."
    )


draw_p.def_impl(_implementation)
draw_p.def_abstract_eval(_abstract)
batching.primitive_batchers[draw_p] = _batch
mlir.register_lowering(draw_p, mlir.lower_fun(_implementation, multiple_results=True))
ad.primitive_jvps[draw_p] = _refuse
