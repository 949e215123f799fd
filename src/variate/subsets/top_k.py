"""Sets drawn without replacement, by Gumbel top-k, with the probability of the set."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key

from variate.subsets.base import check_logits, check_mask, check_size, gumbel, is_mask, log_softmax, log_sum_exp

FEW = 8  # places, to which all items are compared sooner than they are written to one by one
LARGEST = 512  # of the sets: up to here the integrals have been held against exact sums


class TopK(eqx.Module):
    r"""The set $S$ of the first $k$ items drawn without replacement, as a mask, with weights $w_i = e^{\phi_i}$.

    The same draws as `PlackettLuce(logits, size)`, of which the order is forgotten: $p(S) = \sum_{\pi} p(\pi)$ over the
    $k!$ orders of $S$. With a clock of rate $w_i$ for each item it is the probability that those of $S$ ring before all
    others, $p(S) = \int_0^1 \prod_{i \in S} (1 - v^{w_i / W}) \, dv$ with $W = \sum_{j \notin S} w_j$. The integral is
    taken by the trapezoidal rule in $\log(-\log v)$, which converges exponentially: the error of $\log p(S)$ is below
    $10^{-13} (1 + |\log p(S)|)$, in single precision $10^{-6} (1 + |\log p(S)|)$.

    Its relaxation, for `vt.gradients.StructuredRelaxation`, is $\sum_{j=1}^{k} a^j$ with
    $a^j = \mathrm{softmax}(\alpha^j / \tau)$, $\alpha^1 = \phi + G$ and $\alpha^{j+1} = \alpha^j + \log(1 - a^j)$. The
    variance of its gradient grows faster than that of others as $\tau$ falls, sixtyfold from 0.3 to 0.1 for 3 items of
    5. The wrong choice where the probability of an item is to be set, or the set of most entropy is wanted
    (`ConditionalPoisson`, whose log probability is cheaper too).

    Args:
        logits: $\phi$ [..., n], finite; only their differences count.
        size: $k$, from 1 to n and at most 512.

    Draws are zeros and k ones [..., n] in the type of the logits; `log_prob` is [...], and -inf for other masks.

    Raises:
        TypeError: `logits` are not real, or `size` is no integer.
        ValueError: `logits` have no axis, or one is not finite; `size` is not in its range.

    Source: Kool, van Hoof and Welling (2020), Estimating gradients for discrete random variables by sampling without
    replacement, app. B; Xie and Ermon (2019), Reparameterizable subset sampling via continuous relaxations.
    """

    logits: Float[Array, "*batch n"]
    size: int = eqx.field(static=True)

    def __init__(self, logits: Any, size: Any):
        self.logits = check_logits(logits)
        items = self.logits.shape[-1]
        what = "the number of items" if items <= LARGEST else "beyond which its probabilities are not known to be exact"
        self.size = check_size("size", size, min(items, LARGEST), what)

    def sample(self, key: Key[Array, ""]) -> Float[Array, "*batch n"]:
        places = lax.top_k(self.logits + gumbel(key, self.logits), self.size)[1]
        if self.size <= FEW:
            items = lax.broadcasted_iota(places.dtype, (*(1,) * places.ndim, self.logits.shape[-1]), places.ndim)
            return jnp.any(places[..., None] == items, axis=-2).astype(self.logits.dtype)
        return jnp.put_along_axis(jnp.zeros_like(self.logits), places, 1, axis=-1, inplace=False)

    def log_prob(self, x: Any) -> Float[Array, "*batch"]:
        items = self.logits.shape[-1]
        x, logits = check_mask(x, self.logits, items)
        if self.size == items:
            return jnp.where(is_mask(x, items), jnp.sum(jnp.zeros_like(logits), axis=-1), -jnp.inf)
        possible = is_mask(x, self.size)
        some = jnp.broadcast_to((jnp.arange(items) < self.size).astype(x.dtype), x.shape)
        x = jnp.where(possible[..., None], x, some)  # the derivative of what is not chosen has to be finite too
        chosen = jnp.take_along_axis(logits, lax.top_k(x, self.size)[1], axis=-1)
        rest = log_sum_exp(jnp.where(x == 1, -jnp.inf, logits))
        return jnp.where(possible, log_first(chosen, rest), -jnp.inf)

    def inclusion_probabilities(self) -> Float[Array, "*batch n"]:
        """Of each item, to be in the set, with an error below 1e-11 (1e-5 in single precision)."""
        if self.size == self.logits.shape[-1]:
            return jnp.ones_like(self.logits)
        return jnp.vectorize(lambda logits: among_first(logits, self.size), signature="(n)->(n)")(self.logits)

    def relaxed(self, key: Key[Array, ""], temperature: float) -> Float[Array, "*batch n"]:
        """Nonnegative, with the sum k; tends to `sample(key)` as the temperature falls."""
        if self.size == self.logits.shape[-1]:
            return jnp.ones_like(self.logits)

        def choose(scores: Array, _: None) -> tuple[Array, Array]:
            logs = log_softmax(scores / temperature)
            # Of one that is nearly all, what is left is the sum of the others, to all digits.
            most = lax.stop_gradient(logs) > math.log(0.75)
            others = log_sum_exp(jnp.where(most, -jnp.inf, logs))[..., None]
            left = jnp.where(most, others, jnp.log1p(-jnp.exp(jnp.where(most, -1, logs))))
            return scores + left, jnp.exp(logs)

        scores = self.logits + gumbel(key, self.logits)
        return jnp.sum(lax.scan(choose, scores, length=self.size)[1], axis=0)


def log_first(chosen: Float[Array, "*batch k"], rest: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    r"""$\log \int_{-\infty}^{\infty} e^{u - e^u} \prod_i (1 - \exp(-e^{u + \phi_i - \log W})) \, du$ with $\log W$ =
    `rest`.

    The integrand is entire and log-concave. Its slope is at most that of $e^{(k + 1) u - e^u}$, whose width decides the
    step, and at least that of $e^{u - e^u}$, which decides the range.
    """
    size, dtype = chosen.shape[-1], chosen.dtype
    least = -math.log(jnp.finfo(dtype).eps) + 5
    low, high, step = -least, math.log(size + 1) + 4, min(0.22, 0.65 / math.sqrt(size + 1))
    u, step = np.linspace(low, high, math.ceil((high - low) / step) + 1, retstep=True)
    ratios = chosen - rest[..., None]
    lead = (1,) * rest.ndim
    rung = log_rung(jnp.asarray(u.reshape(*lead, -1, 1), dtype) + ratios[..., None, :])
    logs = jnp.asarray((u - np.exp(u)).reshape(*lead, -1), dtype) + jnp.sum(rung, axis=-1)
    return log_sum_exp(logs) + math.log(step)


def log_rung(y: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    r"""$\log(1 - \exp(-e^y))$, the log probability that a clock of rate one has rung at $e^y$."""
    held = lax.stop_gradient(y)  # what is only a choice of formula is no kink
    early, late = held < -4, held > 8
    x = jnp.exp(jnp.where(early, y, -4))
    series = jnp.where(early, y, -4) - x / 2 + x**2 / 24 - x**4 / 2880
    plain = jnp.log(-jnp.expm1(-jnp.exp(jnp.where(early | late, 0, y))))
    return jnp.where(early, series, jnp.where(late, 0, plain))


def among_first(logits: Float[Array, " n"], size: int) -> Float[Array, " n"]:
    r"""$P(i \in S) = \int w_i e^{-w_i t} P(\text{fewer than } k \text{ others have rung at } t) \, dt$, in $\log t$."""
    dtype = logits.dtype
    range_ = -math.log(jnp.finfo(dtype).eps)
    # An item that is so far from the k-th is as good as surely in the set or out of it.
    kth = lax.top_k(lax.stop_gradient(logits), size)[0][-1]
    logits = jnp.clip(logits, kth - range_ - 14, kth + range_ + 14)
    held = lax.stop_gradient(logits)
    low = -jnp.max(held) - range_
    high = _late(held, size, range_)
    nodes = math.ceil(64 * (5 + math.sqrt(size)))
    step = (high - low) / nodes
    times = low + step * jnp.arange(nodes + 1, dtype=dtype)

    def at(time: Float[Array, ""]) -> Float[Array, " n"]:
        rates = jnp.exp(jnp.minimum(logits + time, 8))
        silent, rung = jnp.exp(-rates), -jnp.expm1(-rates)
        # What multiplies the silence of an item is the probability that fewer than k of the others have rung.
        return rates * silent * jax.grad(_fewer)(silent, rung, size)

    return step * jnp.sum(jax.vmap(at)(times), axis=0)


def _fewer(silent: Float[Array, " n"], rung: Float[Array, " n"], size: int) -> Float[Array, ""]:
    """The probability that fewer than `size` of independent clocks have rung."""

    def item(counts: Array, each: tuple[Array, Array]) -> tuple[Array, None]:
        silent, rung = each
        return counts * silent + jnp.concatenate([jnp.zeros_like(counts[:1]), counts[:-1]]) * rung, None

    start = jnp.zeros(size, silent.dtype).at[0].set(1)
    return jnp.sum(lax.scan(item, start, (silent, rung))[0])


def _late(logits: Float[Array, " n"], size: int, range_: float) -> Float[Array, ""]:
    """A log time at which fewer than `size` have rung with a probability below `exp(-range_)`."""
    kth = lax.top_k(logits, size)[0][-1]
    all_of_k = math.log(range_ + math.log(size)) - kth
    # By Chernoff's bound it is enough that so many are expected.
    enough = size + range_ + math.sqrt(range_**2 + 2 * range_ * size)

    def halve(_: Any, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = (low + high) / 2
        expected = -jnp.sum(jnp.expm1(-jnp.exp(jnp.minimum(logits + middle, 8))))
        return jnp.where(expected < enough, middle, low), jnp.where(expected < enough, high, middle)

    return lax.fori_loop(0, 30, halve, (-jnp.max(logits) - range_, all_of_k))[1]
