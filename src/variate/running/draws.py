"""Draws of Markov chains, what they tell, and whether they can be believed."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from variate.estimates import Estimate
from variate.trees import as_float

# Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), Bayesian Analysis 16(2), sections 4 and 6.
_RHAT, _ESS = 1.01, 100
_LOST = 1e-3  # of the steps


class Draws(eqx.Module):
    """Draws of several Markov chains: `vt.sample` makes them.

    `values`: what the target calls a draw, with leading axes of chains and of draws. `acceptance`: the probability with
    which each step was accepted. `divergent`: the steps whose path or density was lost. `evaluations`: how often each
    step asked for the density. `ended`: why before there were as many draws as asked for. `warmup`: the same of the
    steps before, which no estimate uses. `seconds`: what compiling, warming up and drawing took.
    """

    values: PyTree[Array | np.ndarray]
    acceptance: Float[Array | np.ndarray, "chains draws"]
    divergent: Bool[Array | np.ndarray, "chains draws"]
    evaluations: Int[Array | np.ndarray, "chains draws"]
    warmup: "Draws | None" = None
    ended: str | None = eqx.field(static=True, default=None)
    seconds: dict[str, float] = eqx.field(static=True, default_factory=dict)
    kernel: str = eqx.field(static=True, default="")

    def expect(self, f: Callable[[Any], PyTree] | None = None) -> Estimate:
        r"""$E[f(x)]$ under the target, with the standard error of dependent draws, $\sigma / \sqrt{\mathrm{ESS}}$.

        f is the identity if left out. `converged` is false if anything is found in `doubts(f)`. A number that never
        changes in one of the chains has no error bar: a chain that is stuck looks the same as a constant.
        """
        found = self.of(f)
        error = jax.tree.map(standard_error, found)
        value = jax.tree.map(lambda x: x.mean((0, 1)), found)
        bad = [~np.isfinite(x).reshape(*x.shape[:2], -1).all(2) for x in jax.tree.leaves(found)]
        estimate = Estimate(
            jax.tree.map(jnp.asarray, value),
            jax.tree.map(jnp.asarray, error),
            self.acceptance.size,
            not self.doubts(f),
            int(np.any(bad, axis=0).sum()),
            method=f"{self.acceptance.shape[0]} Markov chains",
        )
        return dataclasses.replace(estimate, ended=self.ended)

    def of(self, f: Callable[[Any], PyTree] | None = None) -> PyTree[np.ndarray]:
        """f of every draw, the draws themselves if it is left out, as real numbers."""
        found = self.values if f is None else jax.tree.map(as_float, jax.vmap(jax.vmap(f))(self.values))
        # NumPy's arrays: what JAX does with them it would compile anew for every number of draws.
        found = jax.tree.map(np.asarray, found)
        return jax.tree.map(lambda x: x if np.issubdtype(x.dtype, np.inexact) else x.astype(float), found)

    def ess(self, f: Callable[[Any], PyTree] | None = None) -> PyTree[np.ndarray]:
        """The effective sample size of every number, by ranks; NaN where a chain stands still.

        Source: Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), Rank-normalization, folding, and localization:
        an improved R-hat for assessing convergence of MCMC, Bayesian Analysis 16(2), 667-718, section 4.
        """
        return jax.tree.map(lambda x: effective(x, "bulk"), self.of(f))

    def rhat(self, f: Callable[[Any], PyTree] | None = None) -> PyTree[np.ndarray]:
        """R-hat of every number, by ranks and folded, 1 for chains that agree; NaN where a chain stands still.

        Source: as for `ess`, section 4.
        """
        return jax.tree.map(_rhat, self.of(f))

    def doubts(self, f: Callable[[Any], PyTree] | None = None) -> list[str]:
        """Why not to believe the draws, or what f makes of them: an empty list if nothing is found.

        Sought for are an R-hat of 1.01 or more, fewer than 100 effective draws for each chain, chains that stand still,
        and more than one divergent step in a thousand: where paths are lost is where chains do not go.
        """
        found, enough = self.of(f), _ESS * self.acceptance.shape[0]
        named = [(jax.tree_util.keystr(path, simple=True, separator="."), x) for path, x in _leaves(found)]
        doubts = []
        for name, x in named:
            ess, rhat = np.min(effective(x, "bulk")), np.max(_rhat(x))
            if np.isnan(ess):
                doubts.append(f"a chain stands still in {name or 'the draws'}")
            elif rhat >= _RHAT:
                doubts.append(f"chains disagree on {name or 'the draws'}: R-hat is {rhat:.3f}")
            elif ess < enough:
                doubts.append(f"only {ess:.0f} effective draws of {name or 'the draws'}, {enough} are wanted")
        lost = int(np.sum(self.divergent))
        if lost > _LOST * self.divergent.size:
            doubts.append(f"{lost} of {self.divergent.size} steps diverged: the target is too steep for them somewhere")
        return doubts

    def to_arviz(self) -> Any:
        """ArviZ's `DataTree`: `posterior`, `sample_stats`, and both of the warm-up, with the attributes of the run."""
        import arviz_base  # here, for it takes seconds to import

        groups = {"posterior": _named(self.values), "sample_stats": self._stats()}
        if self.warmup is not None:
            groups |= {"warmup_posterior": _named(self.warmup.values), "warmup_sample_stats": self.warmup._stats()}
        tree = arviz_base.from_dict(groups, save_warmup=True)
        attributes = {"inference_library": "variate", "kernel": self.kernel, "ended": self.ended or ""}
        for group in tree.children.values():
            group.attrs.update(attributes | {f"seconds_{name}": spent for name, spent in self.seconds.items()})
        return tree

    def _stats(self) -> dict[str, np.ndarray]:
        return {
            "acceptance_rate": np.asarray(self.acceptance),
            "diverging": np.asarray(self.divergent),
            "n_steps": np.asarray(self.evaluations),
        }


def _leaves(tree: PyTree) -> list[tuple[Any, Any]]:
    return jax.tree_util.tree_leaves_with_path(tree)


def _named(values: PyTree) -> dict[str, np.ndarray]:
    return {
        jax.tree_util.keystr(path, simple=True, separator=".") or "x": np.asarray(leaf)
        for path, leaf in _leaves(values)
    }


def standard_error(x: np.ndarray) -> np.ndarray | np.floating:
    """Of the mean, over axes of chains and of draws."""
    return x.std((0, 1)) / np.sqrt(effective(x, "mean").astype(x.dtype))


def effective(x: np.ndarray, method: str) -> np.ndarray:
    """The effective sample size by a method of ArviZ's; NaN where a chain stands still."""
    # Chains that go there and back may have more than one for each draw; how many more no estimate can tell, so they
    # are held below N log10 N, as in Stan.
    from arviz_stats.base.array import BaseArray

    return _diagnosed(lambda x: BaseArray().ess(x, chain_axis=0, draw_axis=1, method=method), x)


def _rhat(x: Any) -> np.ndarray:
    from arviz_stats.base.array import BaseArray

    return _diagnosed(lambda x: BaseArray().rhat(x, chain_axis=0, draw_axis=1, method="rank"), x)


def _diagnosed(diagnostic: Callable[[np.ndarray], Any], x: Any) -> np.ndarray:
    """NaN where a chain never moves: neither a number of draws nor agreement can be told from it."""
    x = np.asarray(x, dtype=float)
    stuck = np.any(np.ptp(x, axis=1) == 0, axis=0) | ~np.all(np.isfinite(x), axis=(0, 1))
    if x.shape[1] < 4:
        return np.full(x.shape[2:], np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(stuck, np.nan, diagnostic(x))
