"""`vt.sample`: draws from a density that can only be evaluated, as many as the answer needs."""

import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from variate import checks, compiling
from variate.programs import generator
from variate.programs.targets import target_of
from variate.running import chains, memory, timing
from variate.running.beginnings import NoDensity
from variate.running.draws import Draws
from variate.running.file import path_of
from variate.running.folded import Folded
from variate.running.keeping import Every, Means
from variate.running.runner import for_chains
from variate.running.store import Stored, Streamed
from variate.running.until import Until, ends_of

from . import starts
from .adaptation import Pathfinder, TurnsWarmup, Warmup
from .adaptation.pathfinder import led
from .base import has_history, is_kernel, walkers_of
from .choice import check_moves, chosen
from .gibbs import Gibbs


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
    runner: Any = None,
) -> Draws:
    """Draws from a density that can only be evaluated, by Markov chains that leave it invariant.

    All chains run at once, in compiled blocks of steps; nothing is compiled again for the same target with other data.
    An interrupt from the keyboard ends it with the draws so far.

    Args:
        key: a typed key.
        target: a `Target` (`vt.condition(model, ...)` makes one), a distribution or whatever has `log_prob`, or a log
            density of any pytree of real arrays.
        start: values at which every chain starts, a function of a key that makes them for each chain, or
            `vt.mcmc.Starts(values)`, one for each; each starts at a random place of its own if left out, the better
            test of convergence, and at another where it would be far below the others. A bare log density needs it, as
            does a `log_prob` that is not NumPyro's. `vt.mcmc.Pathfinder()` starts chains by a path of an optimizer.
        kernel: `vt.mcmc.NUTS()` if left out, in turn with `vt.mcmc.HeatBath` where a target of `vt.programs.mixed` has
            discrete coordinates. A step size or a scale that it leaves as `None` is found in the warm-up.
        until: when to stop, `vt.ESS(400)` or `vt.StdErr(0.01)` say, combined by `&` and `|`; after `num_samples` if it
            is left out.
        num_samples: draws kept of each chain, 1,000 unless given; with `until` the most there may be, 100,000.
        num_warmup: steps before them, in which the kernel is adapted; rounded up to blocks of 25.
        num_chains: two or more, so that they can be compared; of an ensemble sampler, ensembles.
        thin: steps for each draw that is kept, after the warm-up: less memory for draws that say little more.
        checkpoint: a file (`.npz`) in which the run is kept, and from which it goes on if it is there, bit for bit as
            if it had never stopped. `until` and `num_samples` may be others then.
        progress: whether to show it, on the standard error stream.
        runner: who makes the draws. `vt.running.Runner(Processes(2))`, or `Ray()` for a cluster, shares chains out in
            groups, each of which is a worker's for 25 steps; a worker that dies costs these. Groups are the same
            whatever the workers, so the draws are too, bit for bit, and those of `Runner()`, which is this process.
            The warm-up is done here, by all chains at once: every step of it learns from all. `Runner(Devices())`
            shares each step out to the accelerators of this process. The draws are the same on any number of them that
            are of one kind, bit for bit where the compiler rounds alike for all and for a part of the chains. Without a
            runner last digits may differ.

    Raises:
        TypeError: a key that is not typed, no target, no kernel, no rule or no runner; a target that cannot be sent to
            other processes; a kernel that moves by real numbers a coordinate that numbers values; a call under `jit` or
            `vmap`.
        ValueError: counts that are not positive, starts of no finite density or number, a checkpoint of another run.
        MemoryError: `num_samples` draws, or `num_chains` chains, for which there is no memory.

    Wrong where modes are so far apart that no chain goes from one to the other: chains then agree on what they have all
    missed.
    """
    rule, most = ends_of(until, num_samples)
    checks.check_positive_int("thin", thin)
    return _run(
        key,
        target,
        start,
        kernel,
        Every(thin, num_samples is not None or until is None, walkers_of(kernel), has_history(kernel)),
        until=rule,
        most=most,
        num_warmup=num_warmup,
        num_chains=num_chains,
        checkpoint=checkpoint,
        shown=progress,
        runner=runner,
    )


def fold(
    key: Key[Array, ""],
    target: Any,
    f: Any = None,
    start: Any = None,
    *,
    kernel: Any = None,
    until: Any = None,
    num_samples: int | None = None,
    num_warmup: int = 500,
    num_chains: int = 100,
    checkpoint: str | Path | None = None,
    progress: bool = False,
    runner: Any = None,
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
        until: as for `sample`, of the means of f. Effective draws are those that the spread of the chains' means tells.
        num_samples: steps of each chain, rounded up to blocks of 25; 1,000 unless given, with `until` the most there
            may be, 100,000.
        num_warmup: as for `sample`.
        num_chains: 30 or more.
        checkpoint: as for `sample`.
        progress: as for `sample`.
        runner: as for `sample`.

    Raises:
        TypeError, ValueError: as for `sample`.

    Wrong for quantiles, and where a chain is too short to forget its start, as `doubts()` says: steps help then, not
    chains.
    """
    checks.check_at_least("num_chains", num_chains, 30)
    _check_alone(kernel)
    if f is not None and not callable(f):
        raise TypeError(f"f must be a function of a draw, got {checks.describe(f)}")
    rule, most = ends_of(until, num_samples)
    return _run(
        key,
        target,
        start,
        kernel,
        Means(f),
        until=rule,
        most=most,
        num_warmup=num_warmup,
        num_chains=num_chains,
        checkpoint=checkpoint,
        shown=progress,
        runner=runner,
    )


def stream(
    key: Key[Array, ""],
    target: Any,
    path: str | Path,
    start: Any = None,
    *,
    kernel: Any = None,
    num_samples: int = 1_000,
    num_warmup: int = 500,
    num_chains: int = 4,
    thin: int = 1,
    checkpoint: str | Path | None = None,
    progress: bool = False,
    runner: Any = None,
) -> Stored:
    """The draws of `sample`, written to a Zarr store block by block: in the memory of one block, however many they are.

    Whoever reads the store, while the run goes on or after it was killed, finds whole blocks. Where it cannot be
    written to, a warning says so, the run ends and says why, and what is returned has the draws that it did not take.

    Args:
        key: a typed key.
        target: as for `sample`.
        path: of a store that is not there yet, or that of the run of the checkpoint.
        start: as for `sample`.
        kernel: as for `sample`.
        num_samples: draws of each chain, rounded up to blocks of 25.
        num_warmup: as for `sample`; the warm-up is not kept.
        num_chains: as for `sample`.
        thin: as for `sample`.
        checkpoint: as for `sample`, of where chains are, without the draws that are in the store.
        progress: as for `sample`.
        runner: as for `sample`.

    Raises:
        TypeError: as for `sample`.
        ValueError: as for `sample`; a store of another run.
        ModuleNotFoundError: where Zarr is not installed (`pip install 'variate[zarr]'`).

    Wrong for draws that fit into memory, which `sample` looks at as they come, and for means, which `fold` keeps.
    """
    _check_alone(kernel)
    if has_history(kernel):
        raise TypeError(f"kernel must forget, or the store's readers find wrong errors, got {checks.describe(kernel)}")
    checks.check_positive_int("thin", thin)
    checks.check_positive_int("num_samples", num_samples)
    return _run(
        key,
        target,
        start,
        kernel,
        Streamed(thin, path=path_of("path", path)),
        until=None,
        most=-(-num_samples // chains.BLOCK) * chains.BLOCK,
        num_warmup=num_warmup,
        num_chains=num_chains,
        checkpoint=checkpoint,
        shown=progress,
        runner=runner,
    )


def _check_alone(kernel: Any) -> None:
    if walkers_of(kernel) > 1:
        raise TypeError(f"kernel must be no ensemble, whose means hide a stuck walker, got {checks.describe(kernel)}")


@timing.told
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
    runner: Any,
) -> Any:
    began = time.monotonic()
    runner = for_chains(runner)
    checks.check_key(key)
    if compiling.traced(key):
        raise TypeError("key: vt.sample looks at its draws as they come, and cannot run under jit or vmap")
    checks.check_positive_int("num_samples", most)
    checks.check_positive_int("num_warmup", num_warmup)
    checks.check_at_least("num_chains", num_chains, 2)
    if kernel is not None and not is_kernel(kernel):
        raise TypeError(f"kernel must be a kernel, vt.mcmc.NUTS() say, got {checks.describe(kernel)}")
    finder = start if isinstance(start, Pathfinder) else None
    key_start, key_run = generator.halves(key)
    start = starts.each(finder.start if finder else start, key_start, num_chains)
    target = target_of(target, start.first if isinstance(start, starts.Starts) else start)
    check_moves(kernel, target)
    positions = starts.positions_of(target, start, key_start, num_chains)
    if not (flat := starts.flat(positions)).size:
        raise ValueError(f"target must have numbers to draw, its positions are {jax.tree.map(jnp.shape, positions)}")
    scale = None
    if finder is not None:
        # None of the keys of the starts: splitting folds in what is below the number of chains.
        key_path = jax.random.fold_in(jax.random.clone(key_start), num_chains)
        positions, scale = led(finder, target, key_path, positions)
    kernel, blocks = chosen(target) if kernel is None else kernel, -(-num_warmup // chains.BLOCK)
    turns = isinstance(kernel, Gibbs)
    warmup = TurnsWarmup(kernel, blocks, flat.dtype) if turns else Warmup(kernel, flat.size, blocks, flat.dtype, scale)
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
            runner=runner,
            elsewhere=starts.again(target, start, key_start, num_chains),
        )
    except jax.errors.JaxRuntimeError as error:
        if not memory.is_lack(error):
            raise
        raise MemoryError(f"num_chains={num_chains} chains, and what is kept of them, have no room: {error}") from error
    except NoDensity:
        target.start(jax.random.clone(key_start))  # says why, if it has no start either
        raise
