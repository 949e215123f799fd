"""`allocate`: a budget of runs split over items so that the summed gradient varies least."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from variate import checks
from variate.gradients.transform import grad

_ROUNDING = 16  # relative errors of a gradient, in units of its type, below which it does not vary


@dataclass(frozen=True)
class Allocation:
    r"""How many runs each item gets.

    `num_samples` [items]: the runs $n_i$. `index` [runs]: the item of each run, and `weights` [runs]: $w_i / n_i$, with
    which gradients, or costs, of the runs add up to $\sum_i w_i \nabla E f_i$. `spread` [items]: the root of the
    variance of one run's gradient, summed over coordinates. `variance` and `equal`: of the sum so allocated and with
    equal shares; each half of the pilot is judged by the other, so that its noise does not flatter the split. Both are
    estimates, and no better than the pilot: where gradients vary seldom and much they are too low in most pilots.
    """

    num_samples: Int[np.ndarray, " items"]
    weight: Float[np.ndarray, " items"]
    spread: Float[np.ndarray, " items"]
    variance: float
    equal: float

    @property
    def index(self) -> Int[np.ndarray, " runs"]:
        return np.repeat(np.arange(len(self.num_samples)), self.num_samples)

    @property
    def weights(self) -> Float[np.ndarray, " runs"]:
        return (self.weight / self.num_samples)[self.index]

    def __str__(self) -> str:
        n = self.num_samples
        return (
            f"{n.sum()} runs over {len(n)} items, {n.min()} to {n.max()} each: variance {self.variance:.3g}, "
            f"{self.variance / self.equal if self.equal > 0 else 1:.2f} of that of equal shares"
        )


def allocate(
    f: Callable[..., Any],
    argnums: int | Sequence[int] = 2,
    *,
    budget: float,
    pilot: int = 16,
    least: int = 1,
    prior: float = 1.0,
    weights: Any = None,
    costs: Any = None,
    **options: Any,
) -> Callable[..., Allocation]:
    r"""Split a budget of runs over items so that $\sum_i w_i \nabla_\theta E f(\cdot, \text{item}_i)$ varies least.

    With a standard deviation $\sigma_i$ of one run's gradient (summed over coordinates) and a cost $c_i$ of a run, the
    variance $\sum_i w_i^2 \sigma_i^2 / n_i$ at a cost $\sum_i c_i n_i$ is least for $n_i \propto w_i \sigma_i /
    \sqrt{c_i}$. $\sigma_i$ is estimated from a pilot, and its square mixed with that of the average item: the less the
    two halves of the pilot agree about which items vary more, the more, down to equal shares. The wrong choice where
    all items vary alike, or where the pilot costs more than it saves.

    Args:
        f: a program `f(key, item, *args)`.
        argnums: which arguments to differentiate in, by Python's position: the key is 0, the item 1.
        budget: what all runs together may cost, the pilot not counted: their number, or what `costs` add up to.
        pilot: how many runs of each item the pilot takes, 4 or more.
        least: how many runs an item gets at least; none may be left out, or the gradient would be biased.
        prior: how many runs' worth of the average item's variance each item's is mixed with at least. An item whose
            pilot did not vary may yet vary, seldom and much; 0 trusts the pilot as far as its halves agree.
        weights: $w_i$ [items]; ones if left out.
        costs: $c_i$ [items], of one run, tokens or seconds say; ones if left out.
        options: of `vt.grad`.

    Returns:
        A function of `(key, items, *args)`, `items` having a leading axis of items, that returns an `Allocation`.

    Raises:
        ValueError: the budget does not pay for `least` runs of each item; an array of another length than `items`.

    Source: Neyman (1934); for the gradients of a policy over prompts Yao et al. (2025), GVM.
    """
    checks.check_callable("f", f)
    budget, least = checks.check_positive("budget", budget), checks.check_positive_int("least", least)
    pilot = checks.check_positive_int("pilot", pilot)
    if not (isinstance(prior, int | float) and math.isfinite(prior) and prior >= 0):
        raise ValueError(f"prior must be a number of runs, 0 or more, got {prior!r}")
    if pilot < 4:
        raise ValueError(f"pilot: expected 4 runs or more, two for each half, got {pilot}")
    if not options.get("stderr", True):
        raise ValueError("stderr: expected True, as the runs are split by what each item's gradient varies")
    for name in ("has_aux", "num_samples"):
        if options.get(name):
            raise ValueError(f"{name}: not an option here, where gradients are only compared by how much they vary")
    halves = [grad(f, argnums, num_samples=n, **options) for n in (pilot // 2, pilot - pilot // 2)]

    @eqx.filter_jit
    def pilots(key: Any, items: Any, args: tuple) -> list[Array]:
        def variance(half: int, item: Any, i: Array) -> Array:
            found = halves[half](jax.random.fold_in(jax.random.fold_in(key, half), i), item, *args)
            squares = functools.reduce(jnp.add, [jnp.sum(e**2) for e in jax.tree.leaves(found.stderr)])
            rounding = [jnp.sum((_ROUNDING * jnp.finfo(m.dtype).eps * m) ** 2) for m in jax.tree.leaves(found.value)]
            per_run = halves[half].request.num_samples * squares
            return jnp.where(squares > functools.reduce(jnp.add, rounding), per_run, 0)

        def both(item: tuple[Any, Array]) -> list[Array]:
            return [variance(half, *item) for half in (0, 1)]

        return jax.lax.map(both, (items, jnp.arange(len(jax.tree.leaves(items)[0]))))

    def allocated(key: Any, items: Any, *args: Any) -> Allocation:
        checks.check_key(key)
        count = checks.check_leading_axis("items", items)
        weight = checks.check_column("weights", weights, count)
        cost = checks.check_column("costs", costs, count)
        if least * cost.sum() > budget:
            raise ValueError(f"budget: {least} runs of each of the items cost {least * cost.sum():g}, got {budget:g}")
        first, second = (np.asarray(x) for x in pilots(key, items, args))
        mean = (first + second) / 2

        reliable = _reliability(first, second)

        def split(variances: np.ndarray, runs: float, trust: float) -> np.ndarray:
            trust = min(runs / (runs + prior), trust)
            mixed = trust * variances + (1 - trust) * np.mean(variances)
            return _split(weight * np.sqrt(mixed), cost, budget, least)

        def judged(n: np.ndarray, variances: np.ndarray) -> float:
            return float(np.sum(weight**2 * variances / n))

        equal = _split(np.sqrt(cost), cost, budget, least)
        halves = split(first, pilot / 2, reliable), split(second, pilot / 2, reliable)
        crossed = (judged(halves[0], second) + judged(halves[1], first)) / 2
        # A mean of two is as reliable as this, if each is as reliable as the other (Spearman and Brown, 1910).
        chosen = split(mean, float(pilot), 2 * reliable / (1 + reliable))
        return Allocation(chosen, weight, np.sqrt(mean), crossed, judged(equal, mean))

    return allocated


def _reliability(first: np.ndarray, second: np.ndarray) -> float:
    """How far two estimates of the items' variances agree about how these differ: their correlation, none below 0."""
    one, other = first - np.mean(first), second - np.mean(second)
    size = math.sqrt(float(np.sum(one**2)) * float(np.sum(other**2)))
    return max(float(np.sum(one * other)) / size, 0.0) if size > 0 else 0.0


def _split(share: np.ndarray, cost: np.ndarray, budget: float, least: int) -> np.ndarray:
    r"""Whole $n_i \ge$ `least` near to what is proportional to $\text{share}_i / \sqrt{c_i}$, that cost the budget."""
    wanted = share / np.sqrt(cost)
    wanted = wanted if np.any(wanted > 0) else np.ones_like(cost)
    held = np.zeros(len(cost), bool)  # at the least
    while True:
        left = budget - least * np.sum(cost[held])
        scale = left / np.sum((wanted * cost)[~held]) if np.any(wanted[~held] > 0) else 0.0
        low = ~held & (scale * wanted < least)
        if not np.any(low):
            break
        held |= low
    exact = np.where(held, least, scale * wanted)
    whole = np.floor(exact).astype(int)
    left = budget - np.sum(whole * cost)
    for i in np.argsort(whole - exact):  # what is left goes to those that lost most by rounding
        if exact[i] > whole[i] and cost[i] <= left:
            whole[i] += 1
            left -= cost[i]
    return whole
