"""Means over many chains whose draws were not kept, what they tell, and whether they can be believed."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree
from scipy import special

from variate.estimates import Estimate

from .measures import Constants, Known, error_of_means, exactly, named
from .summary import LOST

# Where chains forget at a constant rate, n effective draws later exp(-2 n) is left of where they were.
_RHAT = 1.05  # of ten
_ALARM = 1e-3


class Moments(NamedTuple):
    """Of f along each chain, in batches of steps one after another, of which the last may be empty."""

    count: Int[Array | np.ndarray, "batches"]
    mean: PyTree[Float[Array | np.ndarray, "batches chains ..."]]
    squares: PyTree[Float[Array | np.ndarray, "batches chains ..."]]  # of what is off the mean, summed

    def with_block(self, batch: Int[Array, ""], block: PyTree[Float[Array, "steps chains ..."]]) -> "Moments":
        """With steps more of one batch.

        Source: Chan, Golub and LeVeque (1983), Algorithms for computing the sample variance, The American Statistician
        37(3), 242-247, equation 2.1.
        """
        count, new = self.count[batch], len(jax.tree.leaves(block)[0])

        def joined(x: Array, mean: Array, squares: Array) -> tuple[Array, Array]:
            own = jnp.mean(x, 0)
            mean, squares = jnp.asarray(mean), jnp.asarray(squares)
            off = own - mean[batch]
            share = (new / (count + new)).astype(x.dtype)
            more = jnp.sum((x - own[None]) ** 2, 0) + off**2 * share * count.astype(x.dtype)
            return mean.at[batch].add(off * share), squares.at[batch].add(more)

        pairs = jax.tree.map(joined, block, self.mean, self.squares)
        mean, squares = jax.tree.transpose(jax.tree.structure(block), jax.tree.structure((0, 0)), pairs)
        return Moments(jnp.asarray(self.count).at[batch].add(new), mean, squares)

    def paired(self) -> "Moments":
        """With every two batches as one, so that the second half of them is empty."""
        twos = [self.joined(slice(i, i + 2)) for i in range(0, len(self.count), 2)]
        return jax.tree.map(lambda *x: jnp.concatenate([jnp.stack(x), jnp.zeros_like(jnp.stack(x))]), *twos)

    def halves(self) -> "Moments":
        """Two batches of as much of the run each as there can be, or the one that there is, as NumPy's arrays."""
        found = jax.tree.map(np.asarray, self)
        filled = int(np.sum(found.count > 0))
        cuts = [slice(0, filled // 2), slice(filled // 2, filled)] if filled > 1 else [slice(0, 1)]
        return jax.tree.map(lambda *x: np.stack(x), *[found.joined(cut) for cut in cuts])

    def joined(self, batches: slice) -> "Moments":
        """Of some batches together, without an axis of them.

        Source: as for `with_block`, equation 2.1, of more than two.
        """
        count = self.count[batches]
        whole = count.sum()

        def together(mean: Any, squares: Any) -> Any:
            wide = count.reshape(-1, *[1] * (mean.ndim - 1)).astype(mean.dtype)
            middle = (wide * mean[batches]).sum(0) / whole.clip(1).astype(mean.dtype)
            return middle, squares[batches].sum(0) + (wide * (mean[batches] - middle[None]) ** 2).sum(0)

        pairs = jax.tree.map(together, self.mean, self.squares)
        mean, squares = jax.tree.transpose(jax.tree.structure(self.mean), jax.tree.structure((0, 0)), pairs)
        return Moments(whole, mean, squares)


class Folded(eqx.Module):
    r"""Means over chains that were not kept: `vt.mcmc.fold` makes them.

    `moments`: the mean and the variance of f along each chain, in both halves of the run, of which neither is shorter
    than two fifths of it but in the first few blocks. `info`: what kernels told of
    their steps, a mean over all chains for each block, `divergent` the number of such steps. `ended`, `seconds`,
    `kernel`, `biased` and `constants` as of `Draws`.
    """

    moments: Moments
    info: Sequence[Any]
    ended: str | None = eqx.field(static=True, default=None)
    seconds: dict[str, float] = eqx.field(static=True, default_factory=dict)
    kernel: str = eqx.field(static=True, default="")
    biased: bool = eqx.field(static=True, default=False)
    constants: Constants = eqx.field(static=True, default_factory=dict)

    def expect(self) -> Estimate:
        r"""$E[f(x)]$ under the target, with the standard error of the means of independent chains.

        Student's t with a degree less than there are chains. `converged` is false if anything is found in `doubts()`,
        or if the run ended before it was to.
        """
        weights = self.moments.count / np.sum(self.moments.count)
        means = jax.tree.map(lambda x: np.tensordot(weights.astype(x.dtype), x, 1), self.moments.mean)
        bad = [~np.isfinite(x).reshape(self._chains, -1).all(1) for x in jax.tree.leaves(means)]
        return Estimate(
            jax.tree.map(lambda x: jnp.asarray(x.mean(0, dtype=float).astype(x.dtype)), means),
            jax.tree.map(lambda x: jnp.asarray(error_of_means(x)), means),
            self._chains * int(np.sum(self.moments.count)),
            self.ended is None and not self.doubts(),
            int(np.any(bad, axis=0).sum()),
            degrees=self._chains - 1,
            biased=self.biased,
            method=f"{self._chains} Markov chains",
            ended=self.ended,
        )

    def rhat(self) -> PyTree[np.ndarray]:
        r"""R-hat of every number, $\sqrt{(n - 1) / n + B / W}$ of the halves of all chains; NaN where one stands still.

        n is the steps of a half, B the variance of their means and W the mean of their variances, so that a half has
        about $W / B$ effective draws.

        Source: Gelman, Carlin, Stern, Dunson, Vehtari and Rubin (2013), Bayesian data analysis, 3rd edition, equations
        11.3 and 11.4.
        """
        return exactly(jax.tree.map(self._rhat, self.moments.mean, self.moments.squares), self.constants, 1.0)

    def ess(self) -> PyTree[np.ndarray]:
        r"""How many independent draws would know the mean of every number as well; NaN where a chain stands still.

        $\mathrm{Var}[f(x)]$ over the squared standard error of the means of independent chains, which with 30 chains
        is known to a quarter.
        """
        found = jax.tree.unflatten(jax.tree.structure(self.moments.mean), [known.ess for known in self._known()])
        return exactly(found, self.constants, np.inf)

    def known(self) -> list[Known]:
        """Of the mean of every number that is not constant by itself."""
        names, places = named(self.moments.mean, ""), self.constants
        return [
            Known(*[np.delete(np.ravel(part), list(places.get(name, ()))) for part in each])
            for name, each in zip(names, self._known(), strict=True)
        ]

    def _known(self) -> list[Known]:
        whole = self.moments.joined(slice(None))

        def one(mean: np.ndarray, squares: np.ndarray, moved: np.ndarray) -> Known:
            within, error = squares / whole.count, error_of_means(mean)
            sd = np.sqrt(within.mean(0, dtype=float) + mean.var(0, dtype=float))
            with np.errstate(invalid="ignore", divide="ignore"):
                ess = np.where(np.all(moved > 0, axis=(0, 1)), (sd / error) ** 2, np.nan)
            return Known(mean.mean(0, dtype=float), sd, error, ess)

        leaves = (jax.tree.leaves(x) for x in (whole.mean, whole.squares, self.moments.squares))
        return [one(*parts) for parts in zip(*leaves, strict=True)]

    def doubts(self) -> list[str]:
        """Why not to believe the means: an empty list if nothing is found.

        Sought for are fewer than ten effective draws in half of a chain, an R-hat of 1.05, chains that stand still in
        half of the run, more than one divergent step in a thousand, and means that drift: those of the halves differ by
        more than chance makes one run in a thousand. The last is what is left of the starts, where there are so many
        chains that it shows.
        """
        found, names = [], named(self.moments.mean, "the means")
        numbers = sum(x[0, 0].size for x in names.values())
        limit = -special.stdtrit(self._chains - 1, _ALARM / 2 / numbers)
        for (name, mean), (path, rhat) in zip(names.items(), named(self.rhat(), "").items(), strict=True):
            if np.any(np.isnan(rhat)):
                found.append(f"a chain stands still in {name}, or is no number")
                continue
            off = mean[-1] - mean[0]  # none of a run of one block
            with np.errstate(invalid="ignore"):
                apart = np.abs(np.mean(off, 0)) / error_of_means(off) if len(mean) > 1 else np.zeros(mean.shape[2:])
            apart = exactly(apart, {"": self.constants.get(path, ())}, 0.0)
            if np.max(rhat) >= _RHAT:
                few = 1 / (np.max(rhat) ** 2 - 1)
                found.append(
                    f"chains disagree on {name}: R-hat is {np.max(rhat):.3f}, as of {few:.2g} draws in half of a chain"
                )
            elif np.max(apart) > limit:
                found.append(f"{name} drifts: its halves are {np.max(apart):.1f} standard errors apart")
        steps, lost = self._chains * int(np.sum(self.moments.count)), sum(int(i.divergent) for i in self.info)
        if lost > LOST * steps:
            found.append(f"{lost} of {steps} steps were divergent")
        return found

    @property
    def _chains(self) -> int:
        return jax.tree.leaves(self.moments.mean)[0].shape[1]

    def _rhat(self, mean: np.ndarray, squares: np.ndarray) -> np.ndarray:
        count = self.moments.count
        with np.errstate(invalid="ignore", divide="ignore"):
            within = squares / (count - 1).reshape(-1, *[1] * (squares.ndim - 1))
            between = mean.reshape(-1, *mean.shape[2:]).var(0, ddof=1)
            found = np.sqrt((count.min() - 1) / count.min() + between / within.mean((0, 1)))
        return np.where(np.all(squares > 0, axis=(0, 1)), found, np.nan)
