"""A function of a few numbers as one kernel of the processor, where XLA would call one for each of its operations."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, jaxpr_as_fun
from jaxtyping import Array, PyTree, UInt32

from variate import compiling
from variate.programs.jaxprs import called

# To call a kernel takes XLA some 0.3 microseconds: most of a step of few chains. It makes one of all that a loop of at
# most 1,024 bytes does; what is marked so it makes one of, whatever its size, but not in parallel, nor with libraries.
_MARK = {"xla_cpu_small_call": "true", "inlineable": "false"}
_MOST = 8_192  # numbers that an operation reads, writes or multiplies: of more, kernels of their own are as fast
_LONGEST = 2_000  # operations: one kernel compiles in more than proportion to them

# What XLA writes out by itself. Sorting, scattering (to which `vmap` makes updates at places of its own), factors of
# matrices and calls of Python are not.
_KNOWN = frozenset(
    """
    abs acos acosh add add_any and argmax argmin asin asinh atan atan2 atanh bessel_i0e bessel_i1e
    bitcast_convert_type broadcast_in_dim cbrt ceil clamp clz concatenate convert_element_type copy cos cosh
    cumlogsumexp cummax cummin cumprod cumsum digamma div dot_general dynamic_slice eq erf erf_inv erfc exp exp2 expm1
    floor gather ge gt igamma igammac integer_pow iota is_finite le lgamma log log1p logistic lt max min mul ne neg
    nextafter not or pad polygamma population_count pow random_bits random_clone random_fold_in random_gamma
    random_seed random_split random_unwrap random_wrap reduce_and reduce_max reduce_min reduce_or reduce_precision
    reduce_prod reduce_sum reduce_xor regularized_incomplete_beta rem reshape rev round rsqrt select_n shift_left
    shift_right_arithmetic shift_right_logical sign sin sinh slice split sqrt square squeeze stack sub tan tanh
    transpose unstack xor
    """.split()
)
_HOLDING = frozenset(
    "checkpoint closed_call cond core_call custom_jvp_call custom_vjp_call jit pjit remat2 scan while".split()
)


def mapped(f: Callable, count: int) -> Callable:
    """`jax.vmap(f)`, in one kernel where `count` calls of f are of few numbers, whatever part of them is mapped here.

    For functions that `variate.compiling.sooner` compiles.
    """

    def call(*args: PyTree[Array]) -> PyTree[Array]:
        leaves = jax.tree.leaves(args)
        first = jax.eval_shape(lambda given: jax.tree.map(lambda x: x[0], given), args)
        jaxpr, like = jax.make_jaxpr(f, return_shape=True)(*first)
        fits = compiling.in_one() and small(jaxpr, count) and all(map(_packable, [*jaxpr.consts, *leaves]))
        found = _marked(jaxpr, leaves) if fits else jax.vmap(jaxpr_as_fun(jaxpr))(*leaves)
        return jax.tree.unflatten(jax.tree.structure(like), found)

    return call


def small(jaxpr: ClosedJaxpr, count: int) -> bool:
    """Whether `count` times all is known to fit into one kernel, and not slower for it."""
    equations = _within(jaxpr.jaxpr)
    return (
        len(equations) <= _LONGEST
        and sum(map(jnp.size, jaxpr.consts)) <= _MOST  # they are copied in every call, used or not
        and all(equation.primitive.name in _KNOWN for equation in equations)
        and count * max(map(_numbers, equations), default=0) <= _MOST
    )


def _within(jaxpr: Jaxpr) -> list[JaxprEqn]:
    found = []
    for equation in jaxpr.eqns:
        holds = equation.primitive.name in _HOLDING
        found += [inner for body in called(equation) for inner in _within(body)] if holds else [equation]
    return found


def _numbers(equation: JaxprEqn) -> int:
    ends: Any = (*equation.invars, *equation.outvars)
    shapes = [end.aval.shape for end in ends]
    if equation.primitive.name == "dot_general":
        ((contracted, _), _) = equation.params["dimension_numbers"]
        return math.prod(shapes[-1]) * math.prod(shapes[0][axis] for axis in contracted)
    return max(map(math.prod, shapes))


def _marked(jaxpr: ClosedJaxpr, leaves: Sequence[Array]) -> list[Array]:
    # XLA ends the process where what it marks itself, loops, has an argument that nothing uses, and some are found out
    # to be of no use only when it simplifies; so there is one argument alone.
    words, apart = packed([*map(jnp.asarray, jaxpr.consts), *leaves])

    def of_words(words: UInt32[Array, " n"]) -> list[Array]:
        values = apart(words)
        constants, rows = values[: -len(leaves)], values[-len(leaves) :]
        return jax.vmap(jaxpr_as_fun(jaxpr.replace(consts=constants)))(*rows)

    first, *others = jax.jit(of_words)(words)
    marked: Any = set_xla_metadata(first, **_MARK)
    return [marked, *others]


def packed(values: Sequence[Array]) -> tuple[UInt32[Array, " n"], Callable[[UInt32[Array, " n"]], list[Array]]]:
    """All in one array of words of 32 bits, and what takes it apart."""
    words = list(map(_words, values))
    ends = np.cumsum([len(part) for part in words])

    def apart(all_words: UInt32[Array, " n"]) -> list[Array]:
        return [_value(part, like) for part, like in zip(jnp.split(all_words, ends[:-1]), values, strict=True)]

    return jnp.concatenate(words), apart


def _packable(x: Any) -> bool:
    """Whether it is of whole words, but for booleans."""
    return _keys(x) or x.dtype == bool or (x.dtype.itemsize in (4, 8) and not jnp.iscomplexobj(x))


def _keys(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _words(x: Array) -> UInt32[Array, " n"]:
    if _keys(x):
        x = jax.random.key_data(x)
    return lax.bitcast_convert_type(x.astype(jnp.uint32) if x.dtype == bool else x, jnp.uint32).ravel()


def _value(words: UInt32[Array, " n"], like: Any) -> Array:
    if _keys(like):
        data = jax.eval_shape(jax.random.key_data, like)
        return jax.random.wrap_key_data(_value(words, data), impl=jax.random.key_impl(like))
    if like.dtype == bool:
        return words.reshape(like.shape) != 0
    each = like.dtype.itemsize // 4
    return lax.bitcast_convert_type(words.reshape(like.shape + (each,) * (each > 1)), like.dtype)
