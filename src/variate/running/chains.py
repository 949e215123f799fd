"""The loop of Markov chains: compiled blocks of steps of all chains at once, until there are enough."""

import contextlib
import dataclasses
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Key, PyTree

from variate.programs import generator
from variate.programs.digests import digest, digest_of
from variate.protocols import Adaptation, Steps, Target

from . import memory, progress
from .base import Here, Lost
from .beginnings import states
from .chain_file import Block, ChainFile, Reached
from .devices import Devices, Shared
from .keeping import Every, Means
from .runner import Runner
from .sharing import Chains, Groups, shared_out
from .steps import BLOCK, At, Flat, block
from .store import Unwritten
from .until import SoFar, Until

_NO_ROOM = "ended for lack of memory"
_MORE = 1.1  # so many times as many draws before a rule is asked again


def run(
    target: Target,
    adaptation: Adaptation,
    key: Key[Array, ""],
    positions: PyTree[Array],
    keeping: Every | Means,
    *,
    until: Until | None,
    most: int,
    began: float,
    checkpoint: str | Path | None = None,
    shown: bool = False,
    runner: Runner | None = None,
    elsewhere: Callable[[int], PyTree[Array]] | None = None,
) -> Any:
    """Draws of a target by chains that begin at `positions`: until a rule is met, or the `most` of each chain.

    Of a chain that would begin far below the others, at the positions that `elsewhere` has for it at the n-th try.
    """
    # By NumPy, which compiles nothing.
    chains, like = len(jax.tree.leaves(positions)[0]), jax.tree.map(lambda x: jnp.asarray(np.asarray(x)[0]), positions)
    keeping = keeping.checked(jax.eval_shape(target.constrain, like), getattr(target, "constants", {}), chains, most)
    devices = runner.workers if runner is not None and isinstance(runner.workers, Devices) else None
    shared = Shared(None if devices is None else devices.line(chains))
    key_init, key_run = generator.halves(key)
    tuned = adaptation.begin()
    state = states(target, like, tuned, key_init, positions, elsewhere)
    target, like = shared.to_all((target, like))
    blocks = _Blocks(target, like, adaptation, key_run, keeping, -(-most // BLOCK), shared)
    reached, file = blocks.begun(tuned, state), None
    if checkpoint is not None:
        file = ChainFile(checkpoint, _identity(target, like, reached, key, positions, adaptation.blocks, keeping))
        reached = file.load(reached, lambda: blocks.shapes(reached))
    keeping.go_on(reached)
    told = (progress.chains_shown if shown else progress.chains_silent)(adaptation.blocks, blocks.total)
    with told as tell, blocks.shared_out(runner if devices is None else None, reached) as blocks:
        first, seconds, ended, asked = reached.blocks, {"start": time.monotonic() - began}, None, 0
        try:
            while not (reached.kept and len(reached.kept) * BLOCK >= most):
                if until is not None and reached.kept and len(reached.kept) >= _MORE * asked:
                    asked = len(reached.kept)
                    if until.met(SoFar(keeping.read(reached, most), time.monotonic() - began)):
                        break
                if not keeping.room(reached):
                    ended = f"{_NO_ROOM} after {len(reached.kept) * BLOCK} draws of each chain"
                    break
                # One name for all, or an interrupt could find the draws and where the chains are apart.
                reached = blocks.after(reached)
                if reached.blocks == first + 1:
                    seconds["first block"] = time.monotonic() - began - seconds["start"]
                tell(reached)
                if file is not None:
                    file.save_in_passing(reached)
            else:
                if until is not None and not until.met(SoFar(keeping.read(reached, most), time.monotonic() - began)):
                    ended = f"ended after {most} draws of each chain, before it was enough"
        except KeyboardInterrupt:
            if not reached.kept:
                raise
            ended = "interrupted"
        except (Unwritten, Lost) as error:
            if isinstance(error, Lost) and not reached.kept:
                raise
            ended = str(error)
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            if not (reached.kept and memory.is_lack(error)):
                raise
            ended = f"{_NO_ROOM} after {len(reached.kept) * BLOCK} draws of each chain"
        finally:
            if file is not None and reached.blocks > first:
                file.save(reached)
    seconds["all"] = time.monotonic() - began
    return dataclasses.replace(
        keeping.end(reached, most),
        ended=ended,
        seconds=seconds,
        kernel=_name(reached.tuned),
        biased=_biased(reached.tuned.template),
    )


def _name(tuned: Any) -> str:
    return type(tuned.template).__name__


def _biased(kernel: Any) -> bool:
    """Whether it, or a kernel that it is made of, has to be allowed to be."""
    parts = jax.tree.leaves(kernel, is_leaf=lambda x: x is not kernel and hasattr(x, "allow_bias"))
    return any(getattr(part, "allow_bias", False) for part in (kernel, *parts))


@dataclasses.dataclass(frozen=True)
class _Blocks:
    """Blocks of steps, one after another: those of the warm-up, and those of which something is kept."""

    target: Target
    like: PyTree[Array]  # a position
    adaptation: Adaptation
    key: Key[Array, ""]
    keeping: Every | Means
    total: int  # without the warm-up
    shared: Shared
    groups: Groups | None = None

    @contextlib.contextmanager
    def shared_out(self, runner: Runner | None, reached: Reached) -> Iterator["_Blocks"]:
        """With those of which something is kept done by the workers of a runner, if there is one."""
        if runner is None:
            yield self
            return
        count = len(reached.state.position)
        some = jax.tree.map(lambda x: x[: -(-count // runner.groups)], reached.state)
        chains = Chains(self.target, self.like, self.key, (reached.tuned, some), count, self.keeping.thin)
        with shared_out(runner.workers or Here(), chains, self.adaptation.blocks + self.total) as groups:
            yield dataclasses.replace(self, groups=groups)

    def begun(self, tuned: Any, state: Any) -> Reached:
        reached = Reached(tuned, state)
        sums = self.keeping.begin(lambda: eqx.filter_eval_shape(self._made, reached, self.keeping.thin)[2])
        return reached._replace(sums=sums)

    def after(self, reached: Reached) -> Reached:
        if reached.blocks >= self.adaptation.blocks:
            made = self._made(reached, self.keeping.thin) if self.groups is None else self.groups.after(reached)
            tuned, state, sums, found = self._kept(reached, *made)
            held = self.keeping.held(len(reached.kept), jax.device_get(found))
            return reached._replace(tuned=tuned, state=state, sums=sums, kept=(*reached.kept, held))
        tuned, state, found = self._warm(reached)
        warm = (*reached.warm, jax.device_get(found))
        tuned = self.adaptation.proceed(tuned, reached.blocks, [steps for _, steps in warm])
        return reached._replace(tuned=tuned, state=state, warm=warm)

    def shapes(self, reached: Reached) -> list[Block]:
        """Of a block of the warm-up and of one that is kept."""

        def kept(reached: Reached) -> Any:
            return self._kept(reached, *self._made(reached, self.keeping.thin))

        warm, held = (eqx.filter_eval_shape(part, reached)[-1] for part in (self._warm, kept))
        return [warm, self.keeping.like(held)]

    def _warm(self, reached: Reached) -> tuple[Any, Any, Block]:
        tuned, state, *found = self._made(reached, 1)
        return tuned, state, self.keeping.warm(*found)

    def _kept(self, reached: Reached, tuned: Any, state: Any, *found: Any) -> tuple[Any, Any, Any, Block]:
        sums, held = self.keeping.add(reached.sums, len(reached.kept), *found)
        return tuned, state, sums, held

    def _made(self, reached: Reached, thin: int) -> tuple[Any, Any, Any, Steps]:
        tuned, at = self.shared.to_all((reached.tuned, At(self.key, np.asarray(reached.blocks, np.uint32))))
        state = self.shared.to_each(reached.state)
        tuned, state, *found = block(self.target, self.like, tuned, at, state, thin, self.shared)
        return tuned, state, *self.shared.home(found)


def _identity(
    target: Any, like: Any, begun: Reached, key: Any, positions: Any, blocks: int, keeping: Every | Means
) -> dict[str, str]:
    """What makes a run another than others; the rule that ends it may be another."""
    tuned = jax.tree.leaves(eqx.filter(begun.tuned, eqx.is_array))
    kernel = re.sub(r"0x[0-9a-f]+|<function.*?>", "", repr(begun.tuned.template))
    like = jax.tree.map(jnp.zeros_like, like)  # where it is is no part of the target
    return {
        "target or data": digest_of(Flat(target, like), ravel_pytree(like)[0]),
        "kernel": digest(kernel, *tuned),
        "warm-up": str(blocks),
        "start": digest(*jax.tree.leaves(positions)),
        "key": digest(key),
        "draws kept": keeping.identity(begun.sums),
    }
