"""`observe` and `factor`: what weighs a run, and does nothing while the program just runs."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.core import Tracer
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from variate import checks
from variate.programs import distributions
from variate.programs.primitive import Lane
from variate.programs.source import branches, caller, short
from variate.programs.structure import take_apart

factor_p = Primitive("factor")
factor_p.multiple_results = True


def observe(distribution: Any, value: Any, *, name: Any = None) -> None:
    r"""Observe that $x \sim p$ came out as `value`: the run is weighted by $p(x)$.

    A program that just runs is not changed by it, and `simulate` and `replay` run it so, which draws from the prior.
    `vt.density` and `vt.condition` count it; whatever would average runs without their weights (`vt.expect`, `vt.grad`)
    refuses. It goes through `jit`, `vmap`, `scan`, `cond` and the rest of JAX like `draw`.

    Args:
        distribution: as for `draw`.
        value: of the shape of what `distribution` draws; for NumPyro's, more leading axes are independent observations.
        name: what messages call it; its source line if left out.

    Raises:
        TypeError: `distribution` has no `sample` and `log_prob`, or `value` is not of the structure that it draws.
        ValueError: `value` has another shape than what is drawn, or it or a parameter of the distribution, where they
            are known, is NaN or out of range.

    Wrong under `vmap` where neither value nor distribution differs from lane to lane: `vmap` then calls it once, and
    once it counts. Wrong, too, inside a function that the program itself differentiates by `jax.grad`, which may drop
    what has no result.
    """
    checks.check_distribution(distribution)
    checks.check_name(name)
    source = caller()
    label = name or short(source)
    distributions.check_parameters(distribution, label)
    value = jax.tree.map(jnp.asarray, value)
    _check_observed(label, distribution, value)
    values, tree = jax.tree.flatten(value)
    arrays, structure = take_apart(distribution)
    factor_p.bind(
        *values, *arrays, structure=structure, tree=tree, lanes=(), name=name, source=source, branches=branches()
    )


def factor(log_weight: Any, *, name: Any = None) -> None:
    r"""Multiply the weight of the run by $e^w$, w being `log_weight`; of an array, the sum of its elements.

    It is to `observe` what a bare log density is to a distribution: it does nothing while the program just runs, counts
    in `vt.density` and `vt.condition`, and is refused where it would be ignored.

    Args:
        log_weight: a real number or array; -inf says that the run is impossible.
        name: what messages call it; its source line if left out.

    Raises:
        TypeError: `log_weight` is not real.
        ValueError: `log_weight`, where it is known, is NaN or +inf.

    Wrong where `observe` is: under `vmap` if no lane differs, and inside a function that the program differentiates.
    """
    checks.check_name(name)
    source = caller()
    _check_log_weight(name or short(source), log_weight)
    factor_p.bind(
        jnp.asarray(log_weight), structure=None, tree=None, lanes=(), name=name, source=source, branches=branches()
    )


def _check_observed(label: str, distribution: Any, value: Any) -> None:
    drawn = jax.eval_shape(distributions.sample, distribution, jax.random.key(0))
    leaves, expected = jax.tree.leaves(value), jax.tree.leaves(drawn)
    if jax.tree.structure(value) != jax.tree.structure(drawn):
        raise TypeError(f"the observation {label!r}: value must be like a draw, {drawn}, got {checks.describe(value)}")
    for leaf, like in zip(leaves, expected, strict=True):
        more = leaf.shape[leaf.ndim - len(like.shape) :] if isinstance(distribution, dist.Distribution) else leaf.shape
        if more != like.shape or leaf.ndim < len(like.shape):
            raise ValueError(
                f"the observation {label!r}: value must have the shape of what {type(distribution).__name__} draws, "
                f"{like.shape}, got {leaf.shape}"
            )
    if any(_has_nan(leaf) for leaf in leaves) and _has_nan(distributions.log_prob(distribution, value)):
        raise ValueError(f"the observation {label!r}: value is NaN; a mask leaves out what is missing")


def _check_log_weight(label: str, weight: Any) -> None:
    dtype = getattr(weight, "dtype", None) or np.asarray(weight).dtype
    if not (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)):
        raise TypeError(f"the factor {label!r}: log_weight must be real, got {checks.describe(weight)}")
    if not isinstance(weight, Tracer) and not np.all(np.asarray(weight) < np.inf):
        raise ValueError(f"the factor {label!r}: log_weight must be a number below inf, got {checks.describe(weight)}")


def _has_nan(x: Any) -> bool:
    return not isinstance(x, Tracer) and jnp.issubdtype(x.dtype, jnp.inexact) and bool(np.any(np.isnan(x)))


def _batch(operands: Sequence[Any], axes: Sequence[Any], *, lanes: tuple, **params: Any) -> tuple[list, list]:
    axes = tuple(axis if isinstance(axis, int) else None for axis in axes)
    (size, *_) = (operand.shape[axis] for operand, axis in zip(operands, axes, strict=True) if axis is not None)
    factor_p.bind(*operands, lanes=(*lanes, Lane(size, axes)), **params)
    return [], []


def _derivative(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[list, list]:
    factor_p.bind(*primals, **params)
    return [], []


def _nothing(*_: Any, **__: Any) -> list[Any]:
    return []


factor_p.def_impl(_nothing)
factor_p.def_abstract_eval(_nothing)
batching.primitive_batchers[factor_p] = _batch
mlir.register_lowering(factor_p, mlir.lower_fun(_nothing, multiple_results=True))
ad.primitive_jvps[factor_p] = _derivative
