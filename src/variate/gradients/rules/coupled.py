"""Coupled finite perturbation: a count moves by one, as often as its parameter says."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import lax
from jax.nn import sigmoid
from jaxtyping import Array, Float, Int, Key

from variate import checks
from variate.gradients.base import Alternatives, Facts, Replay
from variate.programs import distributions
from variate.programs.program import Site


@dataclass(frozen=True)
class Coupled(Replay):
    r"""$\nabla_\theta E f(x) = -E\, \frac{\nabla_\theta F_\theta(x)}{p_\theta(x)} (f(x + 1) - f(x))$ for a count $x$.

    $F$ is the distribution function: what moves past $x$ as the parameters move lands one value further. Each element
    of the draw (over loops and lanes too) takes one replay, which shares every other random number with the run.
    Serves draws of finite support, in the order of their values, and binomial, Poisson, geometric and negative binomial
    counts. A negative binomial one with success probability $q$, whose number of failures r (the concentration) moves,
    takes two replays: it is the sum of logarithmic numbers $L$, of which there are a Poisson number of mean
    $-r \log(1 - q)$, and $\nabla_r E f(x) = -\log(1 - q)\, E (f(x + L) - f(x))$.

    Much less noise than `Score` where a step of one changes the result little. The wrong choice for a support whose
    order means nothing, where `Enumerate` is exact, and for draws of many elements, each of which takes its replay,
    unless `replays` says how many take one: as many elements, chosen anew in each run, stand for all, which is unbiased
    with noise of its own.

    Args:
        limit: the most replays that one draw may cost.
        replays: the most elements that are replayed, chosen uniformly without replacement and weighted with how many
            there are for each of them; in a loop at each step. All if left out.

    Source: Gong and Ho (1987), smoothed perturbation analysis; as weighted finite perturbations in programs by Arya et
    al. (2022), Automatic differentiation of programs with discrete randomness, sec. 2, whose pruned alternatives are
    chosen by their weights.
    """

    limit: int = 1024
    replays: int | None = None
    _failures: bool = field(default=False, kw_only=True, repr=False)  # whether their number moves

    def __post_init__(self) -> None:
        if self.replays is not None:
            checks.check_positive_int("replays", self.replays)

    def serves(self, facts: Facts) -> str | None:
        if facts.law not in _FLOWS and facts.support is None:
            return f"the finite perturbation of {facts.law.__name__} is not known, nor is a finite support"
        if facts.order > 1:
            return "only its first derivative is available"
        replays = self.count(facts)
        if replays is not None and replays > self.limit:
            return f"it would take {replays} replays, more than Coupled(limit={self.limit})"
        return None

    def told(self, facts: Facts) -> "Coupled":
        return replace(self, _failures=_failures_move(facts))

    def count(self, facts: Facts) -> int | None:
        """How many replays a draw takes in a run."""
        if facts.elements is None:
            return None
        each = 2 if _failures_move(facts) else 1
        if self.replays is None:
            return each * facts.elements
        steps = math.prod(loop.length or 0 for loop in facts.site.repeats)
        return each * steps * min(self.replays, facts.elements // steps) if steps else 0

    def draw(self, site: Site, operands: Sequence[Array]) -> tuple[list[Array], Any]:
        values, record = super().draw(site, operands)
        elements = record.log_prob.size
        if self.replays is None or self.replays >= elements:
            return values, record
        key = jax.random.clone(operands[0]).reshape(-1)[0]
        chosen = subset(jax.random.fold_in(key, _SUBSET), elements, self.replays)
        return values, only(record, chosen, values[0])

    def alternatives(self, distribution: Any, value: Array, key: Key[Array, ""]) -> Alternatives:
        own = distributions.drawn_log_prob(distributions.elementwise(distribution), value)
        law = distributions.innermost(distribution)
        if flow := _FLOWS.get(type(law)):
            weight, following = flow(law, value), value + 1
            if isinstance(law, _BINOMIAL):  # of which there is no more than so many
                following = jnp.minimum(following, jnp.asarray(law.total_count).astype(value.dtype))
        else:
            weight, following = _through_table(distribution, value, key)
        weights, values = [jnp.broadcast_to(weight, own.shape)], [following]
        if self._failures:
            weight, following = _through_failures(law, value, key)
            weights.append(jnp.broadcast_to(weight, own.shape))
            values.append(following)
        return Alternatives(own, jnp.stack(weights, -1), jnp.stack(values, -1))


def subset(key: Key[Array, ""], elements: int, size: int) -> Int[Array, " size"]:
    """As many different elements, each as likely as any other."""
    return jax.random.choice(key, elements, (size,), replace=False)


def only(record: Alternatives, chosen: Array, value: Array) -> Alternatives:
    """Alternatives of a whole draw, in each of which one of the chosen elements takes another value."""
    event = record.values.shape[2:]

    def with_another(element: Array, new: Array) -> Array:
        return value.reshape(-1, *event).at[element].set(new.astype(value.dtype)).reshape(value.shape)

    weights = record.weights[chosen].reshape(-1) * (record.log_prob.size / len(chosen))
    values = jax.vmap(jax.vmap(with_another, (None, 0)))(chosen, record.values[chosen])
    whole = Alternatives(jnp.sum(record.log_prob), weights, values.reshape(-1, *value.shape))
    return jax.tree.map(lambda x: jnp.expand_dims(x, 0), whole)


def _through_table(distribution: Any, value: Array, key: Key[Array, ""]) -> tuple[Float[Array, "*batch"], Array]:
    r"""$-F(x) / p(x)$, the divisor fixed, and the value after $x$, from the probabilities of all values.

    A value of probability 0 is never drawn. What its derivative moves is charged to the value before it that may be
    (to the first, if none is): of $n$ values to go to, the next probable one and the improbable ones on the way, one is
    taken at random, with $n$ times its own weight, $p(x') / p(x)$ for an improbable one.
    """
    support = distributions.support(distribution)
    assert support is not None  # or `serves` had said so
    table = distributions.element_probs(distribution)
    size = len(support)
    places = jnp.arange(size).reshape(-1, *(1,) * (table.ndim - 1))
    index = jnp.searchsorted(support, value.astype(support.dtype))[None]
    probable = table > 0
    following = jnp.min(jnp.where(probable & (places > index), places, size), axis=0, keepdims=True)
    leading = jnp.argmax(probable, axis=0)[None] == index
    open_to = ((places > index) & (places <= following)) | (leading & (places < index))
    count = jnp.sum(open_to, axis=0, keepdims=True)
    which = jnp.floor(jax.random.uniform(key, count.shape) * count.astype(float)).astype(count.dtype)
    chosen = jnp.argmax(open_to & (jnp.cumsum(open_to, axis=0) == which + 1), axis=0)[None]
    before = jnp.take_along_axis(jnp.cumsum(table, axis=0), jnp.maximum(chosen - 1, 0), axis=0)
    there, here = (jnp.take_along_axis(table, place, axis=0) for place in (chosen, index))
    moved = jnp.where(chosen == following, -before, there) * count.astype(table.dtype)
    weight = jnp.where(count == 0, 0, moved / lax.stop_gradient(here))
    return weight[0], support[jnp.where(count == 0, index, chosen)[0]].astype(value.dtype)


def _poisson(law: Any, x: Array) -> Array:
    return law.rate


def _geometric(law: Any, x: Array) -> Array:
    return -_held((x + 1) / law.probs) * law.probs


def _binomial(law: Any, x: Array) -> Array:
    left = law.total_count - x
    return _held(jnp.where(left > 0, left / (1 - law.probs), 0)) * law.probs


def _negative_binomial(law: Any, x: Array) -> Array:
    success = _success(law)
    return _held((law.concentration + x) / (1 - success)) * success


def _success(law: Any) -> Array:
    """The probability of one, in trials until failure number r = concentration."""
    return sigmoid(-jnp.log(law.rate))


def _failures_move(facts: Facts) -> bool:
    return facts.law in _NEGATIVE_BINOMIAL and bool(facts.parameters & {"concentration", "total_count"})


def _through_failures(law: Any, x: Array, key: Key[Array, ""]) -> tuple[Array, Array]:
    q = _success(law)
    more = logarithmic(key, jnp.broadcast_to(q, x.shape))
    return law.concentration * _held(-jnp.log1p(-q)), x + more.astype(x.dtype)


def logarithmic(key: Key[Array, ""], q: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    r"""Numbers k with probability $-q^k / (k \log(1 - q))$: geometric ones that go on with $1 - (1 - q)^u$, u uniform.

    Source: Kemp (1981), Efficient generation of logarithmically distributed pseudo-random variables, J. R. Stat. Soc. C
    30(3), 249-253.
    """
    first, second = jax.random.split(key)
    again = -jnp.expm1(jax.random.uniform(first, q.shape, q.dtype) * jnp.log1p(-q))
    v = 1 - jax.random.uniform(second, q.shape, q.dtype)  # never 0
    return 1 + jnp.where(again > 0, jnp.floor(jnp.log(v) / jnp.log(again)), 0)


def _held(x: Array) -> Array:
    return lax.stop_gradient(x)


# $-F(x) / p(x)$ of laws on the whole numbers, up to what has no derivative.
_FLOWS: dict[type, Callable[[Any, Array], Float[Array, "..."]]] = {
    dist.Poisson: _poisson,
    dist.GeometricProbs: _geometric,
    dist.GeometricLogits: _geometric,
    dist.BinomialProbs: _binomial,
    dist.BinomialLogits: _binomial,
    dist.GammaPoisson: _negative_binomial,
    dist.NegativeBinomialProbs: _negative_binomial,
    dist.NegativeBinomialLogits: _negative_binomial,
    dist.NegativeBinomial2: _negative_binomial,
}
_NEGATIVE_BINOMIAL = (
    dist.GammaPoisson,
    dist.NegativeBinomialProbs,
    dist.NegativeBinomialLogits,
    dist.NegativeBinomial2,
)
_BINOMIAL = (dist.BinomialProbs, dist.BinomialLogits)
_SUBSET = 0x50B5E7  # what tells the key of the choice of elements from all others that are made of the draw's key
