"""Where the probability flow really leads: an adaptive method, to a tolerance."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from variate.checks import check_positive, check_positive_int
from variate.closures import fresh_jit

from .checks import check_points
from .denoisers.base import Denoiser, check_model
from .processes.base import exact_levels
from .schedules.base import check_times


class Ends(NamedTuple):
    """Where points were led, and how that went."""

    values: Float[Array, "n ..."]
    converged: Bool[Array, " n"]  # to the tolerance, before there were too many steps
    steps: Int[Array, " n"]  # taken or tried, each of about a dozen evaluations


def exact_ends(
    model: Denoiser | Any,
    start: Float[Array, "n ..."] | Any,
    times: Any,
    *,
    tolerance: float = 1e-10,
    max_steps: int = 4096,
) -> Ends:
    """The ends of the probability flow from the first of some times to the last, for each point by itself.

    It is what solvers are measured against: each point has its own steps, found by a method of order eight so that
    the estimated error of a step is within the tolerance, absolute or relative. In double precision, as the defaults
    suppose; in single precision no tolerance below about 1e-6 can be met.

    Args:
        model: a denoiser, smooth in the point and the time.
        start: the points, one a row.
        times: falling; only the first and the last count.
        tolerance: of the error of one step.
        max_steps: after which a point is given up, which its `converged` says.

    Raises:
        TypeError, ValueError: no denoiser, times that do not fall, or that end where there is no noise.

    Source: Kidger (2021), On neural differential equations, chapter 5, and Diffrax, whose Dopri8 it is.
    """
    check_model("model", model)
    times = check_times(times, model.process)
    if exact_levels(model.process, times[-1]).sigma == 0:
        raise ValueError(f"times must end where there is noise left, got {times[-1]}: the flow has no speed there")
    tolerance, max_steps = check_positive("tolerance", tolerance), check_positive_int("max_steps", max_steps)
    start = check_points("start", start)
    first, last = (jnp.asarray(t, start.dtype) for t in (times[0], times[-1]))
    return _ends(model, start, first, last, tolerance, max_steps)


@fresh_jit
def _ends(model: Denoiser, start: Array, first: Array, last: Array, tolerance: float, max_steps: int) -> Ends:
    def one(x: Float[Array, "..."]) -> tuple[Any, Any, Any]:
        return follow(lambda t, x: model.velocity(x, t), x, (first, last), tolerance, max_steps)

    return Ends(*jax.vmap(one)(start))


def follow(
    speed: Callable[[Any, PyTree], PyTree], start: PyTree, ends: tuple[Any, Any], tolerance: float, max_steps: int
) -> tuple[PyTree, Bool[Array, ""], Int[Array, ""]]:
    """The solution of an equation at the second end, whether it is one to the tolerance, and the steps it took."""
    import diffrax  # which takes as long as a sixth of all other imports, and few need it

    control = diffrax.PIDController(rtol=tolerance, atol=tolerance)
    term = diffrax.ODETerm(lambda t, y, _: speed(t, y))
    found = diffrax.diffeqsolve(
        term, diffrax.Dopri8(), *ends, None, start, stepsize_controller=control, max_steps=max_steps, throw=False
    )
    assert found.ys is not None
    after = jax.tree.map(lambda leaf: leaf[-1], found.ys)
    finite = jnp.asarray([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(after)])
    return after, (found.result == diffrax.RESULTS.successful) & jnp.all(finite), jnp.asarray(found.stats["num_steps"])
