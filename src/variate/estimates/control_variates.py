"""Control variates: functions of the draws whose means are known."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, PyTree

from variate import checks
from variate.programs.program import Program
from variate.programs.runs import Run, Wishes
from variate.trees import as_float

from .controlled import ControlledMoments


class ControlVariates(eqx.Module):
    r"""$\hat\mu = \bar f - \hat\beta^\top (\bar c - E c)$ with known $E c$ and the coefficients of least squares.

    The variance falls to $1 - R^2$ of plain sampling's, R the multiple correlation of f and the controls, at the cost
    of a degree of freedom each. Several results share the controls, with coefficients of their own. The wrong choice
    for controls that hardly correlate, and for more of them than a tenth of the draws (or of the sets of a design).

    Args:
        of: the controls as a function of the draws, `lambda draws: draws["z"] ** 2` say; `draws` maps the name of a
            draw to its value, with a leading axis for each scan around it. Any pytree of numbers.
        mean: the expectation of each, of the same structure and shapes, or that broadcast to them.

    Raises:
        ValueError: the program names no draws, `mean` does not fit, or the draws have another mean than it says (by a
            t-test that a right one fails once in ten million runs; under a caller's `jit` the estimate is then not
            converged).

    Source: Owen (2013), Monte Carlo theory, methods and examples, section 8.9.
    """

    of: Callable[[dict[str, Any]], PyTree]
    mean: PyTree

    def __init__(self, of: Any, mean: PyTree):
        if not callable(of):
            raise TypeError(f"of must be a function of the named draws, got {checks.describe(of)}")
        for leaf in jax.tree.leaves(mean):
            if not hasattr(leaf, "dtype") and not isinstance(leaf, bool | int | float):
                raise TypeError(f"mean must be the means of the controls, real numbers, got {checks.describe(leaf)}")
            if not isinstance(leaf, Tracer) and not np.all(np.isfinite(leaf)):
                raise ValueError(f"mean must be finite, got {leaf}")
        self.of, self.mean = of, jax.tree.map(as_float, mean)

    stated = True  # so that a wrong one is to be looked for
    fold = ControlledMoments

    def wishes(self, program: Program) -> Wishes:
        names = [s.name for s in program.sites if s.name and not any(loop.kind == "while" for loop in s.loops)]
        if not names:
            raise ValueError("of: the program names no draw to make controls of; give one with vt.draw(..., name=...)")
        return Wishes(kept=frozenset(names))

    def controls(self, run: Run) -> Float[Array, " p"]:
        checks.check_takes("of", self.of, (dict(run.draws),), "the named draws")
        try:
            found = self.of(dict(run.draws))
        except KeyError as error:
            if why := run.absent.get(error.args[0]):
                raise ValueError(
                    f"of: the draw {error} {why}, so that a run has no value of it to control by"
                ) from None
            raise ValueError(f"of: no draw is called {error}; those with a name are {sorted(run.draws)}") from None
        checks.check_result(self.of, found)
        same = jax.tree.structure(found) == jax.tree.structure(self.mean)
        if not same and jax.tree.structure(self.mean) != jax.tree.structure(0):
            raise ValueError(
                f"mean: expected the structure of the controls, {jax.tree.structure(found)}, "
                f"got {jax.tree.structure(self.mean)}"
            )
        means = self.mean if same else jax.tree.map(lambda _: self.mean, found)
        flat = jax.tree.map(lambda c, mean: _beyond_rounding(as_float(c), _fitting(mean, jnp.shape(c))), found, means)
        return jnp.concatenate([leaf.astype(float) for leaf in jax.tree.leaves(flat)])


def _beyond_rounding(control: Array, mean: Array) -> Float[Array, " p"]:
    """By how much a control exceeds its mean: 0 where that is rounding, of which a constant would be all."""
    excess = control - mean
    rounding = 64 * jnp.finfo(excess.dtype).eps * jnp.maximum(jnp.abs(control), jnp.abs(mean))
    return jnp.where(jnp.abs(excess) <= rounding, 0, excess).ravel()


def raise_wrong_mean(off: Array) -> None:
    """`off`: by how much each control is off, in units of what chance allows."""
    worst = int(jnp.argmax(off))
    raise ValueError(
        f"mean: control {worst} of {off.size} has another mean than was stated, by {float(off[worst]):.3g} times what "
        "chance allows; its controls are counted through the pytree that `of` returns"
    )


def _fitting(mean: Array, shape: tuple[int, ...]) -> Array:
    try:
        return jnp.broadcast_to(mean, shape)
    except ValueError:
        raise ValueError(f"mean: expected shape {shape}, that of its control, got {mean.shape}") from None
