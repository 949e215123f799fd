"""Draws of Markov chains, what they tell, and whether they can be believed."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from variate.checks import check_at_least, check_fraction, check_key, check_result
from variate.estimates import Estimate
from variate.trees import as_float

from .arviz import plotted, tree_of
from .measures import (
    Constants,
    Known,
    constants_of,
    degrees,
    effective,
    energy_information,
    error_between,
    exactly,
    moments,
    named,
    others,
    quantile_error,
    rank_rhat,
    standard_error,
    stands_still,
)
from .summary import Doubt, StepsTold, Summary, doubts_of, summary_of


class Draws(eqx.Module):
    """Draws of several Markov chains: `vt.sample` makes them.

    `values`: what the target calls a draw, with leading axes of chains and of draws. `acceptance`: the probability with
    which each step was accepted. `divergent`: the steps whose path or density was lost. `evaluations`: how often each
    step asked for the density. `ended`: why before there were as many draws as asked for. `warmup`: the same of the
    steps before, which no estimate uses. `seconds`: until chains could `start`, of the `first block` of steps, of
    `compiling`, most of which is in these two, and of `all`. `told`: what else the kernel tells of each step, by name.
    `biased`: the kernel is, by an amount that no error bar tells. `walkers`: so many chains in a row are one ensemble,
    and depend on each other; errors, effective draws and R-hat are those of the ensembles. `history`: a step depends on
    all before it, so that autocorrelations tell no errors. `constants`: the numbers that the target has as they are,
    the elements above the diagonal of a triangle say, by name and place; their error is none.
    """

    values: PyTree[Array | np.ndarray]
    acceptance: Float[Array | np.ndarray, "chains draws"]
    divergent: Bool[Array | np.ndarray, "chains draws"]
    evaluations: Int[Array | np.ndarray, "chains draws"]
    warmup: "Draws | None" = None
    ended: str | None = eqx.field(static=True, default=None)
    seconds: dict[str, float] = eqx.field(static=True, default_factory=dict)
    kernel: str = eqx.field(static=True, default="")
    biased: bool = eqx.field(static=True, default=False)
    told: dict[str, PyTree[Array | np.ndarray]] = eqx.field(default_factory=dict)
    walkers: int = eqx.field(static=True, default=1)
    history: bool = eqx.field(static=True, default=False)
    constants: Constants = eqx.field(static=True, default_factory=dict)

    def expect(self, f: Callable[[Any], PyTree] | None = None) -> Estimate:
        r"""$E[f(x)]$ under the target, with the standard error of dependent draws, $\sigma / \sqrt{\mathrm{ESS}}$.

        f is the identity if left out. The error is estimated too: intervals are Student's, with as many `degrees` of
        freedom as its jackknife over halves of chains says, which are of all numbers together. `converged` is false if
        anything is found in `doubts(f)`, or if the run ended before it was to. A number that never changes in one of
        the chains has no error bar: a chain that is stuck looks the same as a constant. Where f makes it of no draw, or
        of what is constant by itself, it is known and its error is 0.

        Where steps have a `history` the error is that of the means of independent chains, whose number less one are the
        degrees of freedom: more chains make it better known.
        """
        found = self.of(f)
        constants = self._constants(f, found)
        mean = jax.tree.map(lambda x: moments(x)[0].astype(x.dtype), found)
        if self.history:
            error, known = jax.tree.map(error_between, found), len(self.acceptance) - 1
        else:
            error = jax.tree.map(lambda x: standard_error(x, self.walkers), found)
            known = degrees(others(found, constants), self.walkers)
        return dataclasses.replace(self._estimate(found, mean, error, constants), degrees=known)

    def predict(self, key: Key[Array, ""], f: Callable[[Any, Any], PyTree]) -> "Draws":
        r"""Of $f(k, x)$ in place of every draw x, each with a key of its own: random consequences of the draws.

        `lambda key, x: vt.programs.predict(model, x)(key, data).observed` makes draws of the posterior predictive law.
        Error bars and doubts are those of dependent draws, as before.

        Raises `TypeError` for a key that is not typed.
        """
        check_key(key)
        keys = jax.random.split(key, self.acceptance.shape)
        constants = constants_of(f, (jax.eval_shape(lambda: jax.random.key(0)), self._like()), self.constants)
        values = jax.jit(jax.vmap(jax.vmap(f)))(keys, self.values)
        return dataclasses.replace(self, values=values, warmup=None, constants=constants)

    def quantile(self, q: float, f: Callable[[Any], PyTree] | None = None) -> Estimate:
        r"""The q-quantile of f(x) under the target, with the standard error of dependent draws.

        With S the effective sample size of $1(f(x) \le \hat\theta_q)$, the probability below $\hat\theta_q$ is
        $\mathrm{Beta}(Sq + 1, S(1 - q) + 1)$; the error is half of what is between the draws at the 16% and the 84% of
        that law. There is no error bar where a chain stands still, where fewer than five effective draws are beyond the
        quantile, where all draws near it are one number, as those of a number that takes few values, and where steps
        have a `history`. f is the identity if left out; `converged` is as for `expect`.

        Raises `ValueError` if q is not between 0 and 1.

        Source: Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), Bayesian Analysis 16(2), 667-718, section 4.
        """
        q = check_fraction("q", q)
        found = self.of(f)
        value = jax.tree.map(lambda x: np.quantile(x, q, axis=(0, 1)).astype(x.dtype), found)
        errors = jax.tree.map(lambda x: quantile_error(x, q, self.walkers), found)
        if self.history:
            errors = jax.tree.map(lambda x: np.full_like(x, np.nan), errors)
        return self._estimate(found, value, errors, self._constants(f, found))

    def summary(self, f: Callable[[Any], PyTree] | None = None) -> Summary:
        """A table of every number of f(x), and the verdict: what is in doubt and what to try, or that nothing is found.

        Each row has the mean, the standard deviation, the standard error of the mean, the quantiles of 5, 50 and 95%,
        the effective sample sizes of the middle and of the tails, and R-hat. f is the identity if left out.

        Source: as for `ess`, sections 4 and 6.
        """
        found = self.of(f)
        return summary_of(found, self.values, self._steps(self._constants(f, found)), self.ended)

    def _estimate(self, found: PyTree[np.ndarray], value: PyTree, error: PyTree, constants: Constants) -> Estimate:
        error = exactly(error, constants, 0.0)
        bad = [~np.isfinite(x).reshape(*x.shape[:2], -1).all(2) for x in jax.tree.leaves(found)]
        known = all(np.all(np.isfinite(x)) for x in jax.tree.leaves(error))
        return Estimate(
            jax.tree.map(jnp.asarray, value),
            jax.tree.map(jnp.asarray, error),
            self.acceptance.size,
            known and self.ended is None and not self._doubts(found, constants),
            int(np.any(bad, axis=0).sum()),
            biased=self.biased,
            method=self._method(),
            ended=self.ended,
        )

    def of(self, f: Callable[[Any], PyTree] | None = None) -> PyTree[np.ndarray]:
        """f of every draw, the draws themselves if it is left out, as real numbers."""
        found = self.values
        if f is not None:
            found = jax.vmap(jax.vmap(f))(self.values)
            check_result(f, found)
            found = jax.tree.map(as_float, found)
        # NumPy's arrays: what JAX does with them it would compile anew for every number of draws.
        found = jax.tree.map(np.asarray, found)
        return jax.tree.map(lambda x: x if np.issubdtype(x.dtype, np.inexact) else x.astype(float), found)

    def known(self) -> list[Known]:
        """Of the mean of every number."""

        def one(x: np.ndarray) -> Known:
            mean, sd = moments(x)
            if self.history:
                error = error_between(x)
                return Known(mean, sd, error, (sd / error) ** 2)
            return Known(mean, sd, standard_error(x, self.walkers), effective(x, "bulk", walkers=self.walkers))

        return [one(x) for x in others(self.of(), self.constants)]

    def ess(self, f: Callable[[Any], PyTree] | None = None) -> PyTree[np.ndarray]:
        """The effective sample size of every number, by ranks; NaN where a chain stands still.

        Source: Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), Rank-normalization, folding, and localization:
        an improved R-hat for assessing convergence of MCMC, Bayesian Analysis 16(2), 667-718, section 4.
        """
        found = self.of(f)
        draws = jax.tree.map(lambda x: effective(x, "bulk", walkers=self.walkers), found)
        return exactly(draws, self._constants(f, found), np.inf)

    def rhat(self, f: Callable[[Any], PyTree] | None = None, *, groups: int | None = None) -> PyTree[np.ndarray]:
        r"""R-hat of every number, by ranks and folded, 1 for chains that agree; NaN where a chain stands still.

        Of `groups` of chains, those of a group one after another and begun at one place, it is nested:
        $\sqrt{1 + B / W}$, B the variance of the means of groups and W the mean of the variances within them, that of
        the means of chains included; of both halves of the draws. It tells of many short chains whether they have
        forgotten where they began, where one of few draws each cannot be near 1 otherwise. Of ensembles it is nested.

        Raises `ValueError` for fewer than two groups, or chains that do not divide into them.

        Source: as for `ess`, section 4; Margossian, Hoffman, Sountsov, Riou-Durand, Vehtari and Gelman (2024), Nested
        R-hat: assessing the convergence of Markov chain Monte Carlo when running many short chains, Bayesian Analysis.
        """
        if groups is not None:
            check_at_least("groups", groups, 2)
            if len(self.acceptance) % groups:
                raise ValueError(f"groups must divide the {len(self.acceptance)} chains, got {groups}")
        elif self.walkers > 1:
            groups = len(self.acceptance) // self.walkers
        found = self.of(f)
        return exactly(jax.tree.map(lambda x: rank_rhat(x, groups), found), self._constants(f, found), 1.0)

    def bfmi(self) -> np.ndarray:
        r"""Of each chain how far its energy goes in one step, $\sum_n (E_n - E_{n-1})^2 / \sum_n (E_n - \bar E)^2$.

        $E_n = -\log \pi(x_n) + |p_n|^2 / 2$ with the fresh momentum $p_n$. A step can change the energy by no more than
        its momentum does; where that is far less than what the energy of the target spreads over, the energy walks at
        random, and tails are hardly reached. About 1 for a normal law; below 0.3 it is a doubt. NaN where the energy
        never changes. Of thinned draws it says as much as their steps would only if one is kept of each.

        Raises `ValueError` where the kernel tells no energy: only `HMC` and `NUTS` do.

        Source: Betancourt (2016), Diagnosing suboptimal cotangent disintegrations in Hamiltonian Monte Carlo,
        arXiv:1604.00695, equation 1 and its estimate in section 3.
        """
        if "energy" not in self.told:
            raise ValueError(f"draws must be of a kernel that tells an energy, HMC or NUTS, got {self.kernel}")
        return energy_information(np.asarray(self.told["energy"], float))

    def doubts(self, f: Callable[[Any], PyTree] | None = None) -> list[str]:
        """Why not to believe the draws, or what f makes of them: an empty list if nothing is found.

        Sought for are an R-hat of 1.01 or more that chance does not explain, fewer than 100 effective draws for each
        chain in the middle or 50 in the tails, single chains that are elsewhere or spread half as much as all (of many
        chains R-hat does not see one), chains that stand still, all the time or for more than a tenth of their draws,
        more than one divergent step in a thousand: where paths are lost is where chains do not go; of `HMC` and `NUTS`
        steps that are refused 4.4 times as often from the outermost twentieth of a number as in all, and accepted less
        than 0.7 times there; and a `bfmi` below 0.3. Of ensembles the 100 are for each of them, and 50 are wanted
        of each walker by itself.
        """
        found = self.of(f)
        return [doubt.words for doubt in self._doubts(found, self._constants(f, found))]

    def _doubts(self, found: PyTree[np.ndarray], constants: Constants) -> list[Doubt]:
        return doubts_of(found, self.values, self._steps(constants))

    def _constants(self, f: Callable[[Any], PyTree] | None, found: PyTree[np.ndarray]) -> Constants:
        if f is None:
            return self.constants
        if not any(map(stands_still, jax.tree.leaves(found))):  # no need to look
            return {}
        return constants_of(f, (self._like(),), self.constants)

    def _like(self) -> PyTree:
        """The shapes of a draw."""
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[2:], x.dtype), self.values)

    def _method(self) -> str:
        chains = len(self.acceptance)
        if self.walkers > 1:
            return f"{chains // self.walkers} ensembles of {self.walkers} walkers"
        return f"{chains} Markov chains"

    def to_arviz(self) -> Any:
        """ArviZ's `DataTree`: `posterior`, `sample_stats`, and both of the warm-up, with the attributes of the run.

        Slashes in names are dots there, and what is called `chain` or `draw` has a line behind it.
        """
        return tree_of(self)

    def plot(self, picture: Any = None, /, **options: Any) -> Any:
        """What a function of ArviZ's draws of these, `draws.plot(arviz.plot_forest, var_names=["tau"])` say.

        Args:
            picture: of its functions of a data tree, `arviz.plot_trace` if left out, or another function of one.
            options: its other arguments.

        Raises:
            ImportError: there is no ArviZ (`pip install 'variate[arviz]'`).
            TypeError: something that is no function.

        Wrong for divergent steps and ranks at a glance, which `vt.diagnostics.plot_pairs` and `plot_ranks` show.
        """
        return plotted(self, picture, options)

    def _steps(self, constants: Constants) -> StepsTold:
        divergent = np.asarray(self.divergent)
        paths = "energy" in self.told
        bfmi = self.bfmi() if paths else np.full(len(divergent), np.nan)
        acceptance = np.asarray(self.acceptance, float) if paths else None
        return StepsTold(divergent, bfmi, self.walkers, self.history, constants, acceptance)

    def stats(self) -> dict[str, np.ndarray]:
        """What is told of the steps, by ArviZ's names."""
        return {
            "acceptance_rate": np.asarray(self.acceptance),
            "diverging": np.asarray(self.divergent),
            "n_steps": np.asarray(self.evaluations),
            **named(self.told, ""),
        }
