"""Means without bias from pairs of chains that meet, and how far a chain still is from its target."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from variate import checks
from variate.closures import fresh_jit
from variate.estimates import Estimate
from variate.programs.targets import target_of
from variate.trees import as_float

from .reflection import Pair


class Coupled(eqx.Module):
    """What pairs of chains told: `vt.mcmc.unbiased` makes it.

    `values`: of each pair, its estimate. `meetings`: the steps after which they met, or `most` of those that had not.
    `met`: whether they had. `lag`: how many steps one is ahead of the other.
    """

    values: PyTree[Float[Array, "pairs ..."]]
    meetings: Int[Array, " pairs"]
    met: Bool[Array, " pairs"]
    lag: int = eqx.field(static=True)

    def expect(self) -> Estimate:
        r"""$E[f(x)]$ under the target without bias, with the standard error of the mean of independent pairs.

        Where some pairs have not met it is biased, and says so; then it is not `converged` either.
        """
        unmet, bad = int(np.sum(~np.asarray(self.met))), jnp.zeros(len(self.met), bool)
        for x in jax.tree.leaves(self.values):
            bad = bad | ~jnp.all(jnp.isfinite(x).reshape(len(x), -1), 1)
        return self._mean(self.values, unmet, int(jnp.sum(bad)))

    def distance(self, steps: int) -> Estimate:
        r"""A bound of the distance in total variation from the target after so many steps, as a mean over pairs.

        $E\,\max(0, \lceil (\tau - L - t) / L \rceil)$ with the meeting time $\tau$ and the lag L. Too small where pairs
        have not met, and `biased` then. A larger lag makes it sharper. From few pairs it is 0 where none met so late,
        which is no proof that none would.

        Raises `ValueError` for steps that are not positive.

        Source: Biswas, Jacob and Vanetti (2019), Estimating convergence of Markov chains with L-lag couplings, NeurIPS,
        theorem 2.5.
        """
        checks.check_positive_int("steps", steps)
        late = jnp.maximum(0, jnp.ceil((self.meetings - self.lag - steps) / self.lag))
        return self._mean(as_float(late), int(np.sum(~np.asarray(self.met))), 0)

    def _mean(self, values: PyTree, unmet: int, bad: int) -> Estimate:
        count = len(self.met)
        return Estimate(
            jax.tree.map(lambda x: jnp.mean(x, 0), values),
            jax.tree.map(lambda x: jnp.std(x, 0, ddof=1) / count**0.5, values),
            count,
            unmet == 0 and bad == 0,
            bad,
            degrees=count - 1,
            biased=unmet > 0,
            method=f"{count} pairs of chains",
            ended=f"ended before {unmet} of {count} pairs had met" if unmet else None,
        )


class _Run(NamedTuple):
    """Of one pair after t steps of the chain that is ahead."""

    t: Int[Array, ""]
    pair: Pair
    meeting: Int[Array, ""]  # 0 before
    total: Float[Array, " numbers"]


def unbiased(
    key: Key[Array, ""],
    target: Any,
    f: Callable[[Any], PyTree] | None = None,
    start: Any = None,
    *,
    kernel: Any,
    first: int = 100,
    last: int = 1_000,
    lag: int = 1,
    num_pairs: int = 100,
    most: int = 10_000,
) -> Coupled:
    r"""Means without bias, however short the chains are, from pairs of chains that meet.

    The chain X is L steps ahead of Y, each of the kernel alone, and once $X_t = Y_{t - L}$ they stay together. With the
    meeting time $\tau$, the mean of each pair is

    $$\frac{1}{m - k + 1} \left(\sum_{t=k}^{m} f(X_t) + \sum_{t=k+L}^{\tau - 1} v_t\, (f(X_t) - f(Y_{t-L}))\right),
    \quad v_t = \lfloor (t - k) / L \rfloor - \lceil \max(L, t - m) / L \rceil + 1,$$

    whose second sum is what the first lacks. So pairs are independent, and error bars need nothing that is known of
    chains; and the meeting times tell how long a chain is to be run (`distance`).

    Args:
        key: a typed key.
        target: as for `sample`.
        f: a function of a draw, the identity if left out.
        start: where all chains start; each at a random place of its own if left out.
        kernel: `Reflected(0.5)`, or `Sometimes(HMC(0.1, 10, 1.0), Reflected(1e-3))`; nothing of it is found by itself.
        first: k, about what most pairs meet before; the smaller, the more the second sum varies.
        last: m, a multiple of k.
        lag: L.
        num_pairs: 2 or more.
        most: steps after which pairs that have not met are given up.

    Raises:
        TypeError: a key that is not typed, no target, or a kernel that moves no pairs.
        ValueError: counts that are not positive, `last` below `first`, or `most` not above `last` and the lag.

    Wrong where chains hardly ever meet: in many dimensions without a gradient, and between modes. Means are then of few
    pairs that took long, and error bars know less than they seem to.

    Source: Jacob, O'Leary and Atchadé (2020), Unbiased Markov chain Monte Carlo methods with couplings, J. R. Stat.
    Soc. B 82(3), 543-600, section 2; Biswas, Jacob and Vanetti (2019), NeurIPS, for the lag.
    """
    checks.check_key(key)
    checks.check_positive_int("first", first)
    checks.check_at_least("last", last, first)
    checks.check_positive_int("lag", lag)
    checks.check_at_least("num_pairs", num_pairs, 2)
    checks.check_at_least("most", most, max(last, lag) + 1)
    if not hasattr(kernel, "together"):
        raise TypeError(f"kernel must move pairs, as Reflected(0.5) does, got {checks.describe(kernel)}")
    target = target_of(target, start)
    keys = jax.random.split(key, num_pairs)
    values, meetings = _pairs(target, start, f, kernel, (first, last, lag, most), keys)
    met = meetings > 0
    return Coupled(values, jnp.where(met, meetings, most), met, lag)


@fresh_jit
def _pairs(
    target: Any, start: Any, f: Any, kernel: Any, numbers: tuple[int, int, int, int], keys: Key[Array, " pairs"]
) -> tuple[Any, Int[Array, " pairs"]]:
    k, m, lag, most = numbers
    shapes = jax.eval_shape(target.start, jax.random.key(0))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    flat, unravel = ravel_pytree(zeros if start is None else target.unconstrain(start))
    kernel = dataclasses.replace(kernel, log_density=lambda x: target.log_density(unravel(x)))

    def of(x: Float[Array, " d"]) -> PyTree:
        values = target.constrain(unravel(x))
        return jax.tree.map(as_float, values if f is None else f(values))

    unravel_values = ravel_pytree(of(flat))[1]

    def numbers_of(x: Float[Array, " d"]) -> Float[Array, " numbers"]:
        return ravel_pytree(of(x))[0]

    def within(t: Int[Array, ""]) -> Float[Array, ""]:
        return ((t >= k) & (t <= m)).astype(flat.dtype)

    def begun(key: Key[Array, ""]) -> Any:
        key_start, key_init = jax.random.split(key)
        position = flat if start is not None else ravel_pytree(target.start(key_start))[0]
        return kernel.init(key_init, position)

    def one_pair(key: Key[Array, ""]) -> tuple[Any, Array]:
        key_one, key_other, key_run = jax.random.split(key, 3)

        def alone(run: tuple[Any, Array], t: Array) -> tuple[tuple[Any, Array], None]:
            state, total = run
            state = kernel.step(jax.random.fold_in(key_run, t), state)[0]
            return (state, total + within(t) * numbers_of(state.position)), None

        state = begun(key_one)
        ahead = (state, within(jnp.asarray(0)) * numbers_of(state.position))
        (state, total), _ = jax.lax.scan(alone, ahead, jnp.arange(1, lag + 1))
        run = _Run(jnp.asarray(lag), Pair(state, begun(key_other)), jnp.asarray(0), total)
        run = run._replace(meeting=jnp.where(run.pair.met, lag, 0))
        run = _told(run, numbers, numbers_of, whole=False)

        def more(run: _Run) -> _Run:
            pair = kernel.together(jax.random.fold_in(key_run, run.t + 1), run.pair)
            other = jax.tree.map(lambda x, y: jnp.where(run.meeting > 0, x, y), pair.one, pair.other)
            pair, t = Pair(pair.one, other), run.t + 1
            meeting = jnp.where((run.meeting == 0) & pair.met, t, run.meeting)
            return _told(_Run(t, pair, meeting, run.total), numbers, numbers_of, whole=True)

        run = jax.lax.while_loop(lambda run: (run.t < most) & ((run.t < m) | (run.meeting == 0)), more, run)
        return unravel_values(run.total / (m - k + 1)), run.meeting

    return jax.vmap(one_pair)(keys)


def _told(run: _Run, numbers: tuple[int, int, int, int], of: Callable, *, whole: bool) -> _Run:
    """With what one more step adds to both sums, to the first only where that is not done yet."""
    k, m, lag, _ = numbers
    t, ahead = run.t, of(run.pair.one.position)
    weight = jnp.where(t >= k + lag, (t - k) // lag + (-jnp.maximum(lag, t - m)) // lag + 1, 0)
    lacking = jnp.where(run.meeting == 0, weight.astype(ahead.dtype), 0) * (ahead - of(run.pair.other.position))
    own = jnp.where(whole & (t >= k) & (t <= m), ahead, 0)
    return run._replace(total=run.total + own + lacking)
