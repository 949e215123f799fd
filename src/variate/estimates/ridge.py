"""Control variates by ridge regression on earlier draws, whose error bars hold however many controls there are."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from variate.checks import check_positive, describe
from variate.programs.program import Program
from variate.programs.runs import Run, Wishes
from variate.trees import as_float

from .base import Controls
from .controlled import Controlled, ControlledMoments
from .estimate import Estimate
from .moments import Spread
from .weighted import WeightedMoments

_FITTED = 16  # draws that share coefficients


class Ridge(eqx.Module):
    r"""The controls of `ControlVariates(...)` or `Scores()`, with coefficients by ridge regression on earlier draws.

    $\hat\mu = \sum_i w_i (x_i - \hat\beta_{<i}^\top c_i) / \sum_i w_i$, where $\hat\beta_{<i} = (S_{cc} + \lambda\,
    \mathrm{diag}(S_{cc}) / n)^{-1} S_{cx}$ comes from the n draws before, new every 16. As no draw has a say in its own
    coefficients, the value is unbiased and its terms are uncorrelated, so that their spread is the error: a form of
    cross-fitting in which nothing is fitted on what comes later, and no fold depends on another. The weights $w_i =
    n / (n + p)$ are what p coefficients lose by being fitted on n draws.

    For controls that are many beside the draws, where least squares has a bias and too small an error bar. The wrong
    choice where they are few: `ControlVariates` alone uses all draws for all coefficients.

    Args:
        of: the controls.
        penalty: $\lambda$, in draws: so much does a coefficient of 0 count.

    Raises:
        TypeError: `of` are no controls.
        ValueError: a penalty that is not positive; at use, a design that grows, whose few sets have no order.

    Sources: ridge regression: Hoerl and Kennard (1970), Technometrics 12(1), 55-67, eq. 2.1; independent coefficients:
    Avramidis and Wilson (1993), A splitting scheme for control variates, Operations Research Letters 14(4), 187-198;
    terms that are fitted on the past: Luedtke and van der Laan (2016), Annals of Statistics 44(2), 713-742, section 3.
    """

    of: Controls
    penalty: float = eqx.field(static=True)

    def __init__(self, of: Any, penalty: float = 1.0):
        if isinstance(of, type | Ridge) or not isinstance(of, Controls):
            raise TypeError(f"of must be controls, ControlVariates(...) or Scores() say, got {describe(of)}")
        check_positive("penalty", penalty)
        self.of, self.penalty = of, float(penalty)

    @property
    def stated(self) -> bool:
        return self.of.stated

    @property
    def fold(self) -> "PastRegression":
        """Of no draws, that says how to fold them."""
        return PastRegression(None, None, self.penalty)

    def wishes(self, program: Program) -> Wishes:
        return self.of.wishes(program)

    def controls(self, run: Run) -> Float[Array, " p"]:
        return self.of.controls(run)


class PastRegression(eqx.Module):
    """The fold of `Ridge`: what earlier draws say of the coefficients, and later ones adjusted by them."""

    past: Any  # ControlledMoments
    adjusted: Any  # WeightedMoments
    penalty: float = eqx.field(static=True)

    def empty(self, example: Controlled) -> "PastRegression":
        return PastRegression(ControlledMoments.empty(example), WeightedMoments.empty(example.value), self.penalty)

    def add_rows(self, rows: Controlled, count: Int[Array, ""] | int | None = None) -> "PastRegression":
        """With a block of draws more, of which the first `count` are used."""
        rows = jax.tree.map(as_float, rows)
        size = rows.controls.shape[0]
        parts = -(-size // _FITTED)

        def parted(leaf: Array) -> Array:
            padded = jnp.pad(leaf, [(0, parts * _FITTED - size), *[(0, 0)] * (leaf.ndim - 1)])
            return padded.reshape(parts, _FITTED, *leaf.shape[1:])

        left = jnp.clip((size if count is None else count) - _FITTED * jnp.arange(parts), 0, _FITTED)
        step = lambda fold, part: (fold._with(*part), None)  # noqa: E731
        return jax.lax.scan(step, self, (jax.tree.map(parted, rows), left))[0]

    def merge(self, other: "PastRegression") -> "PastRegression":
        """Of both sets of draws, each adjusted by its own past."""
        return PastRegression(self.past.merge(other.past), self.adjusted.merge(other.adjusted), self.penalty)

    def off(self, degrees: int) -> Float[Array, " p"]:
        return self.past.off(degrees)

    def read(self) -> Estimate:
        """Of the draws as they are, where none had a past."""
        plain, found = self.past.moments.read(), self.adjusted.read()
        either = lambda x, y: jnp.where(self.adjusted.weight > 0, x, y)  # noqa: E731
        value = jax.tree.map(either, found.value, plain.value.value)
        stderr = jax.tree.map(either, found.stderr, plain.stderr.value)
        return Estimate(value, stderr, plain.num_samples, plain.converged, plain.nonfinite)

    def _with(self, rows: Controlled, count: Int[Array, ""]) -> "PastRegression":
        past, controls = self.past, rows.controls
        n, p = past.moments.num_samples.astype(controls.dtype), controls.shape[1]
        roots = past.moments.spread.controls.root
        # Less than what rounding has made of the correlations would leave them singular.
        share = jnp.maximum(self.penalty / jnp.maximum(n, 1), jnp.finfo(controls.dtype).eps * jnp.sqrt(n * p) / 4)
        ridge = jnp.where(roots > 0, share, 1)  # 1: has not varied yet
        factor = jax.scipy.linalg.cho_factor(past.correlations + jnp.diag(ridge))
        units = controls / jnp.where(roots > 0, roots, 1)[None]

        def adjusted(leaf: Array, cross: Array, spread: Spread) -> Array:
            coefficients = jax.scipy.linalg.cho_solve(factor, cross.reshape(-1, p).T.astype(controls.dtype))
            return leaf - spread.root[None] * (units @ coefficients).reshape(leaf.shape).astype(leaf.dtype)

        used = jnp.arange(_FITTED) < count
        log_weights = jnp.where(used, jnp.log(n / (n + p)), -jnp.inf)
        values = jax.tree.map(adjusted, rows.value, past.cross, past.moments.spread.value)
        terms = WeightedMoments.of_rows(values, log_weights)
        past = past.merge(ControlledMoments.of_rows(rows, count))
        return PastRegression(past, self.adjusted.merge(terms), self.penalty)
