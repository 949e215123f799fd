"""`vt.sample`: draws from a density that can only be evaluated, as many as the answer needs."""

import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Key

from variate import checks
from variate.programs import LogDensity
from variate.protocols import Target
from variate.running import chains
from variate.running.draws import Draws
from variate.running.folded import Folded
from variate.running.keeping import Every, Means
from variate.running.until import Until, rule_of

from .adaptation import TurnsWarmup, Warmup
from .base import is_kernel
from .gibbs import Gibbs
from .hamiltonian import NUTS
from .heat_bath import HeatBath

_PLENTY = 100_000  # draws of a chain, where a rule decides


def sample(
    key: Key[Array, ""],
    target: Any,
    start: Any = None,
    *,
    kernel: Any = None,
    until: Any = None,
    num_samples: int | None = None,
    num_warmup: int = 500,
    num_chains: int = 4,
    thin: int = 1,
    checkpoint: str | Path | None = None,
    progress: bool = False,
) -> Draws:
    """Draws from a density that can only be evaluated, by Markov chains that leave it invariant.

    All chains run at once, in compiled blocks of steps; nothing is compiled again for the same target with other data.
    An interrupt from the keyboard ends it with the draws so far.

    Args:
        key: a typed key.
        target: a `Target` (`vt.condition(model, ...)` makes one), or a log density of any pytree of real arrays.
        start: values at which every chain starts; each starts at a random place of its own if left out, which is the
            better test of convergence. A bare log density needs it.
        kernel: `vt.mcmc.NUTS()` if left out, in turn with `vt.mcmc.HeatBath` where a target of `vt.programs.mixed` has
            discrete coordinates. A step size or a scale that it leaves as `None` is found in the warm-up.
        until: when to stop, `vt.ESS(400)` or `vt.StdErr(0.01)` say, combined by `&` and `|`; after `num_samples` if it
            is left out.
        num_samples: draws kept of each chain, 1,000 unless given; with `until` the most there may be, 100,000.
        num_warmup: steps before them, in which the kernel is adapted; rounded up to blocks of 25.
        num_chains: two or more, so that they can be compared.
        thin: steps for each draw that is kept, after the warm-up: less memory for draws that say little more.
        checkpoint: a file (`.npz`) in which the run is kept, and from which it goes on if it is there, bit for bit as
            if it had never stopped. `until` and `num_samples` may be others then.
        progress: whether to show it, on the standard error stream.

    Raises:
        TypeError: a key that is not typed, no target, no kernel or no rule; a call under `jit` or `vmap`.
        ValueError: counts that are not positive, a start without a finite density, or a checkpoint of another run.

    Wrong where modes are so far apart that no chain goes from one to the other: chains then agree on what they have all
    missed.
    """
    most = num_samples if num_samples is not None else 1_000 if until is None else _PLENTY
    rule = None if until is None else rule_of(until)
    checks.check_positive_int("thin", thin)
    return _run(
        key,
        target,
        start,
        kernel,
        Every(thin),
        until=rule,
        most=most,
        num_warmup=num_warmup,
        num_chains=num_chains,
        checkpoint=checkpoint,
        shown=progress,
    )


def fold(
    key: Key[Array, ""],
    target: Any,
    f: Any = None,
    start: Any = None,
    *,
    kernel: Any = None,
    num_samples: int = 1_000,
    num_warmup: int = 500,
    num_chains: int = 100,
    checkpoint: str | Path | None = None,
    progress: bool = False,
) -> Folded:
    """Means of f over many Markov chains, none of whose draws is kept: in the memory of one block of steps.

    Where `sample` has a few chains and error bars from how each depends on its past, this has many, and takes them from
    the means of the chains, which do not depend on each other.

    Args:
        key: a typed key.
        target: as for `sample`.
        f: a function of a draw, the identity if left out.
        start: as for `sample`.
        kernel: as for `sample`; it is tuned by 256 of the chains.
        num_samples: steps of each chain, rounded up to blocks of 25.
        num_warmup: as for `sample`.
        num_chains: 30 or more.
        checkpoint: as for `sample`.
        progress: as for `sample`.

    Raises:
        TypeError: as for `sample`.
        ValueError: as for `sample`.

    Wrong for quantiles, and where a chain is too short to forget its start, as `doubts()` says: steps help then, not
    chains.
    """
    checks.check_at_least("num_chains", num_chains, 30)
    if f is not None and not callable(f):
        raise TypeError(f"f must be a function of a draw, got {checks.describe(f)}")
    return _run(
        key,
        target,
        start,
        kernel,
        Means(f),
        until=None,
        most=num_samples,
        num_warmup=num_warmup,
        num_chains=num_chains,
        checkpoint=checkpoint,
        shown=progress,
    )


def _run(
    key: Any,
    target: Any,
    start: Any,
    kernel: Any,
    keeping: Every | Means,
    *,
    until: Until | None,
    most: int,
    num_warmup: int,
    num_chains: int,
    checkpoint: str | Path | None,
    shown: bool,
) -> Any:
    began = time.monotonic()
    checks.check_key(key)
    if isinstance(key, Tracer):
        raise TypeError("key: vt.sample looks at its draws as they come, and cannot run under jit or vmap")
    checks.check_positive_int("num_samples", most)
    checks.check_positive_int("num_warmup", num_warmup)
    checks.check_at_least("num_chains", num_chains, 2)
    if kernel is not None and not is_kernel(kernel):
        raise TypeError(f"kernel must be a kernel, vt.mcmc.NUTS() say, got {checks.describe(kernel)}")
    if not isinstance(target, Target):
        if not callable(target):
            raise TypeError(f"target must be a target or a log density, got {checks.describe(target)}")
        if start is None:
            raise TypeError("start must be given with a bare log density: it tells the shapes of a position")
        target, start = LogDensity(target, start), None
    key_start, key_run = jax.random.split(key)
    if start is None:
        positions = jax.vmap(target.start)(jax.random.split(key_start, num_chains))
    else:
        one = target.unconstrain(start)
        positions = jax.tree.map(lambda x: jnp.broadcast_to(x, (num_chains, *jnp.shape(x))), one)
    flat = ravel_pytree(jax.tree.map(lambda x: x[0], positions))[0]
    kernel, blocks = _chosen(target) if kernel is None else kernel, -(-num_warmup // chains.BLOCK)
    turns = isinstance(kernel, Gibbs)
    warmup = TurnsWarmup(kernel, blocks, flat.dtype) if turns else Warmup(kernel, flat.size, blocks, flat.dtype)
    try:
        return chains.run(
            target,
            warmup,
            key_run,
            positions,
            keeping,
            until=until,
            most=most,
            began=began,
            checkpoint=checkpoint,
            shown=shown,
        )
    except chains.NoDensity:
        target.start(jax.random.clone(key_start))  # says why, if it has no start either
        raise


def _chosen(target: Any) -> Any:
    """NUTS, and for coordinates that are numbers of values a heat bath."""
    counts = np.concatenate([np.zeros(0, int), *map(np.ravel, jax.tree.leaves(getattr(target, "counts", ())))])
    real, discrete = (tuple(np.flatnonzero(which).tolist()) for which in (counts == 0, counts > 0))
    if not discrete:
        return NUTS()
    bath = HeatBath(counts[counts > 0].tolist())
    return Gibbs((NUTS(), bath), (real, discrete)) if real else bath
