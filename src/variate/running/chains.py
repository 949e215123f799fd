"""The loop of Markov chains: compiled blocks of steps of all chains at once, until there are enough."""

import dataclasses
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Key, PyTree

from variate.estimates.tasks import digest, digest_of
from variate.protocols import Adaptation, Steps, Target

from . import progress
from .chain_file import Block, ChainFile, Reached
from .draws import Draws
from .until import SoFar, Until

BLOCK = 25  # steps: what an interrupt may cost, and the shortest window of a warm-up
_MORE = 1.1  # so many times as many draws before a rule is asked again


class NoDensity(ValueError):
    """A chain has nowhere to start."""


def run(
    target: Target,
    adaptation: Adaptation,
    key: Key[Array, ""],
    positions: PyTree[Array],
    *,
    until: Until | None,
    most: int,
    began: float,
    checkpoint: str | Path | None = None,
    shown: bool = False,
) -> Draws:
    """Draws of a target by chains that begin at `positions`: until a rule is met, or the `most` of each chain."""
    like = jax.tree.map(lambda x: x[0], positions)
    key_init, key_run = jax.random.split(key)
    tuned = adaptation.begin()
    state = _begun(target, like, tuned, jax.random.split(key_init, len(jax.tree.leaves(positions)[0])), positions)
    density = state.log_density if hasattr(state, "log_density") else jnp.zeros(())
    if not np.all(np.isfinite(density)):
        raise NoDensity(f"start must have a finite log density in every chain, got {density}")

    def block(reached: Reached) -> Reached:
        tuned, state, *found = _block(
            target, like, reached.tuned, jax.random.fold_in(key_run, reached.blocks), reached.state
        )
        values, steps = jax.device_get(found)
        if reached.blocks >= adaptation.blocks:
            return Reached(tuned, state, reached.warm, (*reached.kept, (values, steps)))
        warm = (*reached.warm, (values, steps))
        return Reached(adaptation.proceed(tuned, reached.blocks, [steps for _, steps in warm]), state, warm)

    reached, file = Reached(tuned, state), None
    if checkpoint is not None:
        file = ChainFile(checkpoint, _identity(target, like, reached, key, positions, adaptation.blocks))
        reached = file.load(reached, lambda: eqx.filter_eval_shape(_block, target, like, tuned, key, state)[2:])
    first, seconds, ended, asked = reached.blocks, {"start": time.monotonic() - began}, None, 0
    with (progress.chains_shown if shown else progress.chains_silent)(adaptation.blocks, -(-most // BLOCK)) as tell:
        try:
            while not (reached.kept and len(reached.kept) * BLOCK >= most):
                if until is not None and reached.kept and len(reached.kept) >= _MORE * asked:
                    asked = len(reached.kept)
                    if until.met(SoFar(_draws(reached.kept, most), time.monotonic() - began)):
                        break
                # One name for all, or an interrupt could find the draws and where the chains are apart.
                reached = block(reached)
                if reached.blocks == first + 1:
                    seconds["first block"] = time.monotonic() - began - seconds["start"]
                tell(reached)
                if file is not None:
                    file.save_in_passing(reached)
            else:
                if until is not None and not until.met(SoFar(_draws(reached.kept, most), time.monotonic() - began)):
                    ended = f"ended after {most} draws of each chain, before it was enough"
        except KeyboardInterrupt:
            if not reached.kept:
                raise
            ended = "interrupted"
        finally:
            if file is not None and reached.blocks > first:
                file.save(reached)
    seconds["all"] = time.monotonic() - began
    return dataclasses.replace(
        _draws(reached.kept, most),
        warmup=_draws(reached.warm, len(reached.warm) * BLOCK) if reached.warm else None,
        ended=ended,
        seconds=seconds,
        kernel=type(reached.tuned.template).__name__,
    )


def _identity(target: Any, like: Any, begun: Reached, key: Any, positions: Any, blocks: int) -> dict[str, str]:
    """What makes a run another than others; the rule that ends it may be another."""
    tuned = jax.tree.leaves(eqx.filter(begun.tuned, eqx.is_array))
    kernel = re.sub(r"0x[0-9a-f]+|<function.*?>", "", repr(begun.tuned.template))
    return {
        "target or data": digest_of(_flat(target, like), ravel_pytree(like)[0]),
        "kernel": digest(kernel, *tuned),
        "warm-up": str(blocks),
        "start": digest(*jax.tree.leaves(positions)),
        "key": digest(key),
        "version of JAX": jax.__version__,
    }


@eqx.filter_jit
def _begun(target: Any, like: Any, tuned: Any, keys: Key[Array, " chains"], positions: PyTree[Array]) -> Any:
    kernel = tuned.kernel(_flat(target, like))
    return jax.vmap(kernel.init)(keys, jax.vmap(lambda tree: ravel_pytree(tree)[0])(positions))


@eqx.filter_jit
def _block(target: Any, like: Any, tuned: Any, key: Key[Array, ""], state: Any) -> tuple[Any, Any, Any, Steps]:
    log_density, unravel = _flat(target, like), ravel_pytree(like)[1]

    numbers, rest = eqx.partition(tuned, eqx.is_array)

    def once(at: tuple[Any, Any], key: Key[Array, ""]) -> tuple[tuple[Any, Any], Steps]:
        numbers, state = at
        tuned = eqx.combine(numbers, rest)
        kernel = tuned.kernel(log_density)
        state, info = jax.vmap(kernel.step)(jax.random.split(key, len(state.position)), state)
        numbers = eqx.filter(tuned.learned(info.acceptance), eqx.is_array)
        return (numbers, state), Steps(state.position, getattr(state, "gradient", None), info)

    (numbers, state), steps = lax.scan(once, (numbers, state), jax.random.split(key, BLOCK))
    values = jax.vmap(jax.vmap(lambda x: target.constrain(unravel(x))))(steps.position)
    return eqx.combine(numbers, rest), state, values, steps


def _flat(target: Any, like: Any) -> Any:
    unravel = ravel_pytree(like)[1]
    return lambda x: target.log_density(unravel(x))


def _draws(blocks: Sequence[Block], most: int) -> Draws:
    """Of blocks with axes of steps and of chains, the chains first, and no more than asked for."""

    def joined(*parts: Any) -> np.ndarray:
        return np.concatenate(parts).swapaxes(0, 1)[:, :most]

    info = [steps.info for _, steps in blocks]
    evaluations = [np.broadcast_to(i.evaluations, i.acceptance.shape) for i in info]
    return Draws(
        jax.tree.map(joined, *[values for values, _ in blocks]),
        joined(*[i.acceptance for i in info]),
        joined(*[i.divergent for i in info]),
        joined(*evaluations),
        told=jax.tree.map(joined, *[_told(i) for i in info]),
    )


def _told(info: Any) -> dict[str, Any]:
    """What a kernel tells of its steps beyond what every kernel does."""
    known = ("acceptance", "accepted", "divergent", "evaluations")
    return {name: value for name, value in info._asdict().items() if name not in known}
