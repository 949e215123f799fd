"""The conditions that the parameters of NumPyro's distributions must meet, and the words for one that is not met."""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.core import Tracer
from jaxtyping import ArrayLike, PyTree
from numpyro.distributions import constraints


class Condition(NamedTuple):
    """One parameter of one distribution, and what must hold for it: for each element, or for each of its last axes."""

    owner: str
    parameter: str
    value: Any
    words: str
    predicate: Callable[[Any], Any]

    def holds(self) -> ArrayLike:
        return self.predicate(self.value)

    def problem(self) -> str | None:
        """What is wrong, in words; None where nothing is or the value is not known."""
        if isinstance(self.value, Tracer):
            return None
        value = np.asarray(self.value)
        holds = self.predicate(value)
        if isinstance(holds, Tracer) or np.all(holds):
            return None
        place, shown = "", value
        if value.ndim and value.shape[: np.ndim(holds)] == np.shape(holds) != ():
            index = tuple(np.argwhere(~np.asarray(holds))[0].tolist())
            place, shown = str(list(index)), value[index]
        text = np.array2string(np.asarray(shown), precision=6, threshold=8, separator=", ")
        return f"{self.owner}({self.parameter}) must be {self.words}, got {self.parameter}{place} = {text}"


def conditions(d: PyTree) -> Iterator[Condition]:
    """Every condition on `d` and on the distributions that it was made from; none for what is not NumPyro's."""
    if isinstance(d, dist.Distribution):
        yield from _own(d)
        for part in _parts(d):
            yield from conditions(part)


def cheap_conditions(d: PyTree) -> Iterator[Condition]:
    """Those of `conditions` without positive definiteness, whose test costs more than a density and shows in it."""
    definite = type(constraints.positive_definite)
    return (condition for condition in conditions(d) if not isinstance(condition.predicate, definite))


def _parts(d: Any) -> Iterator[Any]:
    if isinstance(d, dist.MixtureSameFamily):
        yield from (d.mixing_distribution, d.component_distribution)
    elif isinstance(d, dist.MixtureGeneral):
        yield from (d.mixing_distribution, *d.component_distributions)
    else:  # what NumPyro derives from the parameters it keeps under names that start with an underscore
        yield from (part for name, part in vars(d).items() if not name.startswith("_"))


def _own(d: Any) -> Iterator[Condition]:
    arguments = d.get_args()
    for name, constraint in d.arg_constraints.items():
        value = arguments.get(name)
        if isinstance(value, jax.Array | np.ndarray | np.generic | int | float):
            condition = functools.partial(Condition, type(d).__name__.lstrip("_"), name, value)
            while isinstance(constraint, constraints.independent):
                constraint = constraint.base_constraint
            yield from (condition(*rule) for rule in _rules(d, name, constraint))
    if {"low", "high"} <= arguments.keys():
        low, level = d.low, isinstance(d, dist.DiscreteUniform)
        words, below = ("at least low", jnp.less_equal) if level else ("greater than low", jnp.less)
        yield Condition(type(d).__name__, "high", d.high, words, lambda high: below(low, high))


def _rules(d: Any, name: str, constraint: Any) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    """Words and predicates for a parameter; a bound of a truncated distribution may be infinite."""
    if not constraints.is_dependent(constraint):
        yield "finite", jnp.isfinite
        if not isinstance(constraint, type(constraints.real)):
            yield _words(constraint), _sums_to_one if isinstance(constraint, type(constraints.simplex)) else constraint
    elif name == "concentration":  # of the Wishart family
        size = d.event_shape[-1]
        yield f"finite and greater than {size - 1} ({size} x {size} matrices)", _above(size - 1)
    elif isinstance(d, dist.Uniform | dist.DiscreteUniform):
        yield "finite", jnp.isfinite
    else:
        yield "a number", lambda value: ~jnp.isnan(value)


def _above(bound: int) -> Callable[[Any], Any]:
    return lambda value: jnp.isfinite(value) & (value > bound)


def _sums_to_one(probs: Any) -> Any:
    # NumPyro's tolerance of 1e-6 is less than what rounding does to many probabilities in single precision.
    tolerance = max(1e-6, 2 * math.sqrt(probs.shape[-1]) * float(jnp.finfo(probs.dtype).eps))
    total = jnp.sum(probs, axis=-1, dtype=jnp.promote_types(probs.dtype, jnp.float32))
    return jnp.all(probs >= 0, axis=-1) & (jnp.abs(total - 1) <= tolerance)


@functools.singledispatch
def _words(constraint: Any) -> str:
    """A constraint in words, to follow "must be"."""
    return _MATRICES.get(type(constraint)) or repr(constraint)


@_words.register
def _(constraint: constraints.greater_than) -> str:
    return f"greater than {constraint.lower_bound:g}"


@_words.register
def _(constraint: constraints.greater_than_eq) -> str:
    return f"at least {constraint.lower_bound:g}"


@_words.register
def _(constraint: constraints.less_than) -> str:
    return f"less than {constraint.upper_bound:g}"


@_words.register
def _(constraint: constraints.interval) -> str:
    return f"between {constraint.lower_bound:g} and {constraint.upper_bound:g}"


@_words.register
def _(constraint: constraints.open_interval) -> str:
    return f"between {constraint.lower_bound:g} and {constraint.upper_bound:g}, both excluded"


@_words.register
def _(constraint: constraints.integer_greater_than) -> str:
    return f"a whole number of at least {constraint.lower_bound}"


_MATRICES = {
    type(constraints.boolean): "0 or 1",
    type(constraints.simplex): "probabilities that sum to 1 along the last axis",
    type(constraints.ordered_vector): "increasing along the last axis",
    type(constraints.l1_ball): "at most 1 in the sum of absolute values along the last axis",
    type(constraints.lower_cholesky): "a lower triangular matrix with a positive diagonal",
    type(constraints.corr_cholesky): "a lower triangular matrix with a positive diagonal and rows of length 1",
    type(constraints.corr_matrix): "a symmetric positive definite matrix with ones on the diagonal",
    type(constraints.positive_definite): "a symmetric positive definite matrix",
    type(constraints.positive_definite_circulant_vector): "the first row of a positive definite circulant matrix",
}
