"""The bits of JAX's own generator from code that XLA compiles, and processors run, in a fraction of the time."""

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.core import ShapedArray
from jax.extend import random
from jax.extend.core import Jaxpr, Primitive
from jax.interpreters import batching, mlir
from jaxtyping import Integer, Key, UInt32

from variate.compiling import sooner
from variate.programs.jaxprs import called

_SHAPELESS = "jax_threefry_partitionable"
_ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)
_PARITY = 0x1BD11BDA

# XLA takes about five times as long for threefry with each axis after the second, of what is drawn or of `vmap`s around
# it: seconds for one array of normal numbers. Its twenty rounds are elementwise, so one axis serves any shape.
_threefry_p = Primitive("threefry_along_one_axis")
_threefry_p.multiple_results = True


def _elsewhere(*words: UInt32[Array, "*shape"]) -> list[UInt32[Array, "*shape"]]:
    found = random.threefry2x32_p.bind(*(word.reshape(-1) for word in words))
    return [word.reshape(words[0].shape) for word in found]


def _on_processors(*words: UInt32[Array, "*shape"]) -> list[UInt32[Array, "*shape"]]:
    """Threefry-2x32 of 20 rounds (Salmon, Moraes, Dror and Shaw 2011), which XLA makes one pass over the array of.

    In JAX's own each four rounds are a pass, and nothing that is done with the bits can be part of it.
    """
    *key, x, y = (word.reshape(-1) for word in words)
    keys = (*key, key[0] ^ key[1] ^ jnp.uint32(_PARITY))
    x, y = x + keys[0], y + keys[1]
    for i in range(5):
        for rotation in _ROTATIONS[i % 2]:
            x = x + y
            y = x ^ ((y << jnp.uint32(rotation)) | (y >> jnp.uint32(32 - rotation)))
        x, y = x + keys[(i + 1) % 3], y + keys[(i + 2) % 3] + jnp.uint32(i + 1)
    return [x.reshape(words[0].shape), y.reshape(words[0].shape)]


def _abstract(first: ShapedArray, *_: ShapedArray) -> list[ShapedArray]:
    return [ShapedArray(first.shape, first.dtype)] * 2


def _batch(words: Sequence[Array], axes: Sequence[int | None]) -> tuple[list[Array], list[int]]:
    (size, *_) = (word.shape[axis] for word, axis in zip(words, axes, strict=True) if isinstance(axis, int))
    lanes = [
        jnp.moveaxis(word, axis, 0) if isinstance(axis, int) else jnp.broadcast_to(word, (size, *word.shape))
        for word, axis in zip(words, axes, strict=True)
    ]
    return _threefry_p.bind(*lanes), [0, 0]


_threefry_p.def_impl(jax.jit(_threefry_p.bind))
_threefry_p.def_abstract_eval(_abstract)
batching.primitive_batchers[_threefry_p] = _batch
mlir.register_lowering(_threefry_p, mlir.lower_fun(_elsewhere, multiple_results=True))
mlir.register_lowering(_threefry_p, mlir.lower_fun(_on_processors, multiple_results=True), platform="cpu")


def _words(key: UInt32[Array, "2"], size: int) -> list[UInt32[Array, " size"]]:
    """Two words for each of the numbers below `size`."""
    if size >= 2**32:
        raise ValueError(f"a key gives fewer than 2^32 numbers at once, got a shape of {size}")
    count = jnp.arange(size, dtype=jnp.uint32)
    return _threefry_p.bind(*(jnp.broadcast_to(half, size) for half in key), jnp.zeros_like(count), count)


def _split(key: UInt32[Array, "2"], shape: tuple[int, ...]) -> UInt32[Array, "*shape 2"]:
    return _once(jnp.stack(_words(key, math.prod(shape)), axis=-1).reshape(*shape, 2))


def _fold_in(key: UInt32[Array, "2"], data: Any) -> UInt32[Array, "2"]:
    return _once(jnp.stack(_threefry_p.bind(*key, *random.threefry_prng_impl.seed(data))))


def _random_bits(key: UInt32[Array, "2"], bit_width: int, shape: tuple[int, ...]) -> Array:
    high, low = _words(key, math.prod(shape))
    if bit_width == 64:
        bits = (high.astype(jnp.uint64) << 32) | low.astype(jnp.uint64)
    else:
        bits = (high ^ low).astype(f"uint{bit_width}")
    # To XLA it is a concatenation that keeps them: alone, they would be made again for whatever is made of them.
    return _once(jnp.concatenate([bits, jnp.zeros_like(bits, shape=1)]))[:-1].reshape(shape)


def _once(x: Array) -> Array:
    """XLA would make them again for everything that is made of them, keys most of all."""
    return lax.optimization_barrier(x)


_FLAT = random.define_prng_impl(
    key_shape=(2,),
    seed=random.threefry_prng_impl.seed,
    split=_split,
    random_bits=_random_bits,
    fold_in=_fold_in,
    name="threefry2x32 along one axis",
    tag="flat",
)


def flat(key: Key[Array, "*shape"]) -> Key[Array, "*shape"]:
    """`key` for whatever draws with it: the same bits sooner, compiled in a time that no axis multiplies.

    Keys of other generators, and of threefry where its numbers depend on the shape (without
    `jax_threefry_partitionable`), come back as they are. For keys that no user sees again: JAX mixes no two generators.
    """
    if jax.random.key_impl(key) != "threefry2x32" or not getattr(jax.config, _SHAPELESS):
        return key
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=_FLAT)


def plain(key: Key[Array, "*shape"]) -> Key[Array, "*shape"]:
    """The key that `flat` was given."""
    if jax.random.key_impl(key) != _FLAT:
        return key
    return jax.random.wrap_key_data(jax.random.key_data(key), impl="threefry2x32")


def of_key(function: Callable[[Key[Array, "*shape"]], Any], key: Key[Array, "*shape"]) -> Any:
    """`function(key)`, made by the flat generator; keys among what it returns are of JAX's own again."""
    made = function(flat(key))
    return jax.tree.map(lambda x: plain(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x, made)


@sooner(once=True)
def halves(key: Key[Array, ""]) -> tuple[Key[Array, ""], Key[Array, ""]]:
    """The two that `jax.random.split` makes of it, compiled in a quarter of the time."""
    first, second = of_key(jax.random.split, key)
    return first, second


def faster(key: Key[Array, ""], sampler: Callable[[Any], Any], kind: Hashable) -> Key[Array, ""]:
    """`flat(key)` for a sampler, or `key` itself for those that want JAX's own generator: the numbers are the same.

    JAX draws an array of gammas at once by its own generator and one after the other by any other, and no Poisson draws
    by any other at all. `kind` is what samplers of the same kind share.
    """
    try:
        wanted = _WANTED.get(kind)
    except TypeError:  # no hash to remember it by
        return key
    if wanted is None:
        try:
            staged = jax.make_jaxpr(lambda key: sampler(flat(key)))(jax.ShapeDtypeStruct(key.shape, key.dtype))
            wanted = _draws_gammas(staged.jaxpr)
        except NotImplementedError:
            wanted = True
        _WANTED[kind] = wanted
    return key if wanted else flat(key)


_WANTED: dict[Hashable, bool] = {}


def _draws_gammas(jaxpr: Jaxpr) -> bool:
    return any(
        equation.primitive.name == "random_gamma" or any(map(_draws_gammas, called(equation)))
        for equation in jaxpr.eqns
    )


def run_keys(key: Key[Array, ""], numbers: Integer[Array, " runs"]) -> Key[Array, " runs"]:
    """`jax.random.fold_in(key, i)` for the number $i$ of each run, whatever block it is in."""
    return of_key(lambda key: jax.vmap(jax.random.fold_in, (None, 0))(key, numbers.astype(jnp.uint32)), key)
