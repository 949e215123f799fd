"""What a program asks of a distribution, whoever wrote it: draws, densities, supports, elements, valid parameters."""

import copy
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Bool, Float, Key, PyTree

from variate.programs import generator, parameters
from variate.programs.corrections import corrected


@contextmanager
def numpyro_promotion() -> Iterator[None]:
    """NumPyro mixes dtypes and ranks, which a user's strict configuration would refuse."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def is_distribution(d: Any) -> bool:
    """Whether `d` is a pytree with `sample(key)` and `log_prob(x)`: NumPyro's, FlowJAX's, or one's own."""
    methods = callable(getattr(d, "sample", None)) and callable(getattr(d, "log_prob", None))
    return methods and not isinstance(d, type) and not jax.tree_util.all_leaves([d])


def sample(d: PyTree, key: Key[Array, ""]) -> PyTree[Array]:
    """One draw: `d.sample(key)`, by a right sampler where NumPyro's is wrong (`corrections`).

    Raises `TypeError` where there is none.
    """
    sampler = corrected(d).sample
    try:
        with numpyro_promotion():
            return sampler(generator.faster(key, sampler, jax.tree.structure(d)))
    except NotImplementedError as error:  # NumPyro's ImproperUniform, whose mass is infinite
        raise TypeError(
            f"distribution must be one that can be drawn from, got {type(d).__name__} without a sampler; in a model, "
            "take a wide distribution whose mass is finite"
        ) from error


def log_prob(d: PyTree, x: PyTree) -> Float[Array, "..."]:
    """Log density or log mass of `x`: `d.log_prob(x)`, with the right derivatives where NumPyro's are wrong."""
    with numpyro_promotion():
        return jnp.asarray(corrected(d).log_prob(jax.tree.map(jnp.asarray, x)))


def drawn_log_prob(d: PyTree, x: PyTree, checked: bool = False) -> Float[Array, "..."]:
    """`log_prob(d, x)` of an `x` that was drawn from `d`: unless `checked`, no time is spent on whether it can be."""
    return log_prob(_validating(d, checked), x)


def supported_log_prob(d: Any, x: PyTree) -> Float[Array, ""]:
    """The log density of a draw, minus infinity outside of the support."""
    return jnp.sum(drawn_log_prob(d, x, checked=True))


def _validating(d: PyTree, whether: bool) -> PyTree:
    """`d`, which asks or does not ask whether a value is in its support; as a pytree it has forgotten what it did."""
    if not isinstance(d, dist.Distribution):
        return d
    twin = copy.copy(d)
    parts = {name: _validating(part, whether) for name, part in vars(d).items() if isinstance(part, dist.Distribution)}
    vars(twin).update(parts, _validate_args=whether)
    return twin


def is_discrete(d: PyTree, value: PyTree) -> bool:
    """Whether a draw `value` (arrays or their `ShapeDtypeStruct`s) of `d` moves in jumps.

    Some of NumPyro's count in floating point (`Geometric`), so its supports are asked too. The ones with an atom,
    `HurdleGamma` and `HurdleLogNormal`, are not discrete.
    """
    if not all(jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in jax.tree.leaves(value)):
        return True
    try:
        return isinstance(d, dist.Distribution) and bool(d.is_discrete)
    except (AssertionError, NotImplementedError):  # how NumPyro says that it has no support, or does not know
        return False


def unmasked(d: PyTree) -> PyTree:
    """The distribution that `d` draws from: a mask changes a density, never a draw."""
    return jax.tree.map(lambda node: unmasked(node.base_dist) if _is_masked(node) else node, d, is_leaf=_is_masked)


def _is_masked(node: Any) -> bool:
    return isinstance(node, dist.MaskedDistribution)


@functools.singledispatch
def elementwise(d: Any) -> Any:
    """`d` with one log probability per smallest joint element: `to_event` undone.

    Summed over the axes that this adds at the end, `log_prob(elementwise(d), x)` is `log_prob(d, x)`.
    """
    return d


@elementwise.register
def _(d: dist.Independent) -> Any:
    return elementwise(d.base_dist)


@elementwise.register
def _(d: dist.ExpandedDistribution) -> Any:
    inner = elementwise(d.base_dist)
    return d if inner is d.base_dist else dist.ExpandedDistribution(inner, d.batch_shape + _added(inner, d.base_dist))


@elementwise.register
def _(d: dist.MaskedDistribution) -> Any:
    inner, mask = elementwise(d.base_dist), vars(d)["_mask"]
    if isinstance(mask, bool) or inner is d.base_dist:
        return d if inner is d.base_dist else inner.mask(mask)
    spread = jnp.broadcast_to(jnp.reshape(mask, mask.shape + (1,) * len(_added(inner, d.base_dist))), inner.batch_shape)
    return dist.MaskedDistribution(inner, spread)


def _added(inner: dist.Distribution, outer: dist.Distribution) -> tuple[int, ...]:
    return inner.batch_shape[len(outer.batch_shape) :]


def support(d: PyTree) -> Array | None:
    """The values [values, *event] that an element of `d` can take.

    None where there are infinitely many or NumPyro cannot list them: continuous and unbounded ones, mixtures,
    multinomials, and those whose size is traced or differs in the batch (`total_count`, `low`, `high`).
    """
    element = elementwise(unmasked(d))
    if not (isinstance(element, dist.Distribution) and element.has_enumerate_support):
        return None
    try:
        with numpyro_promotion(), jax.ensure_compile_time_eval():
            values = element.enumerate_support(expand=False).reshape(-1, *element.event_shape)
    except (NotImplementedError, jax.errors.ConcretizationTypeError):
        return None
    if isinstance(element, dist.ZeroInflatedProbs) and not np.any(np.asarray(values) == 0):
        return None  # NumPyro lists the values of the base alone
    return values


def element_log_probs(d: PyTree) -> Float[Array, "values *batch"]:
    """Log probability of each value of `support(d)` for each element of `d`; a mask is seen through.

    Raises:
        ValueError: `support(d)` is None.
    """
    values = support(d)
    if values is None:
        raise ValueError(f"{type(d).__name__} has no finite support that could be listed")
    element = elementwise(unmasked(d))
    each = values.reshape(-1, *(1,) * len(element.batch_shape), *element.event_shape)
    return jnp.broadcast_to(log_prob(element, each), (len(values), *element.batch_shape))


def element_probs(d: PyTree) -> Float[Array, "values *batch"]:
    """`exp(element_log_probs(d))`, whose derivative is right at a probability of 0 and 1 too.

    The logarithm loses it there: Bernoulli and Categorical distributions of probabilities are asked for these.
    """
    element, inner = elementwise(unmasked(d)), innermost(d)
    if isinstance(inner, dist.CategoricalProbs):
        table = jnp.moveaxis(jnp.asarray(inner.probs), -1, 0)
    elif isinstance(inner, dist.BernoulliProbs):
        success = _real(inner.probs)
        table = jnp.stack([1 - success, success])
    elif isinstance(inner, dist.BernoulliLogits):  # which takes less than going through the logarithm
        logits = _real(inner.logits)
        table = jax.nn.sigmoid(jnp.stack([-logits, logits]))
    else:
        return jnp.exp(element_log_probs(d))
    added = (1,) * (len(element.batch_shape) - len(inner.batch_shape))
    return jnp.broadcast_to(table.reshape(len(table), *added, *inner.batch_shape), (len(table), *element.batch_shape))


def _real(x: Any) -> Float[Array, "..."]:
    return jnp.asarray(x, float) if isinstance(x, int) else jnp.asarray(x)


# NumPyro's own mean of these is that of the draws, as tests of the laws show; of others it may be a direction.
_WITH_MEANS = frozenset(
    """
    AsymmetricLaplace AsymmetricLaplaceQuantile Beta BetaProportion Chi2 Dirichlet Exponential Gamma Gompertz Gumbel
    HalfNormal InverseGamma InverseWishart Kumaraswamy Laplace LogNormal LogUniform Logistic LowRankMultivariateNormal
    MatrixNormal MultivariateNormal MultivariateStudentT Normal Pareto SoftLaplace StudentT Uniform Weibull Wishart
    """.split()
)


def mean(d: PyTree) -> Float[Array, "..."] | None:
    """The expectation of a draw, for laws of which it is known; NaN or infinite where there is none."""
    if not isinstance(d, dist.Distribution) or type(innermost(d)).__name__ not in _WITH_MEANS:
        return None
    with numpyro_promotion():
        found = unmasked(d).mean
    return jnp.broadcast_to(found, d.shape())


def innermost(d: PyTree) -> PyTree:
    """The distribution of the elements of `d`, without the axes along which it was expanded."""
    inner = elementwise(unmasked(d))
    while isinstance(inner, dist.ExpandedDistribution):
        inner = inner.base_dist
    return inner


def check_parameters(d: PyTree, name: str) -> None:
    """Raise if a parameter of `d` that has a value is out of range or not finite; others and `d` of one's own pass.

    Args:
        name: what the error calls the draw.

    Raises:
        ValueError: names the draw, the class, the parameter, the constraint and the first offending value.
    """
    with numpyro_promotion(), jax.ensure_compile_time_eval():
        for condition in parameters.conditions(d):
            problem = condition.problem()
            if problem:
                raise ValueError(f"the draw {name!r}: {problem}")


def parameters_valid(d: PyTree) -> Bool[Array, ""]:
    """What `check_parameters` checks as one boolean, for parameters that have no value yet."""
    with numpyro_promotion():
        return functools.reduce(
            jnp.logical_and, (jnp.all(condition.holds()) for condition in parameters.conditions(d)), jnp.asarray(True)
        )
