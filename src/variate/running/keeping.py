"""What is kept of the draws of chains: each, or their means alone."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from variate.checks import check_result
from variate.programs.digests import digest_of
from variate.protocols import Steps
from variate.trees import as_float

from . import memory
from .chain_file import Block, Reached
from .draws import Draws
from .folded import Folded, Moments
from .measures import Constants, constants_of

_TWICE = 2  # in memory: block by block, and all together
_TOLD = 20  # bytes of what is told of a step, about
_TELLING = 256  # chains from which a kernel is tuned where no draws are kept
_BATCHES = 8  # of a run whose draws are not kept


class Keeping:
    """What is asked of whatever keeps draws or what they come to, answered where all is in memory and does not grow."""

    def checked(self, draw: PyTree, constants: Constants, chains: int, most: int) -> Any:
        """Given the shapes of a draw and its constants; raises MemoryError where there is no room for all draws."""
        return self

    def go_on(self, reached: Reached) -> None:
        """From where a run is."""

    def held(self, index: int, block: Block) -> Block:
        """What stays in memory of a block that was made."""
        return block

    def like(self, block: Block) -> Block:
        """Its shapes."""
        return block

    def room(self, reached: Reached) -> bool:
        """Whether there is any for a block more, and for joining all of them."""
        return True


@dataclass(frozen=True)
class Every(Keeping):
    """Every draw, of which chains make `thin` for each that is kept."""

    thin: int = 1
    asked: bool = False  # for all of them, no rule may end it before
    walkers: int = 1  # of an ensemble
    history: bool = False  # of steps, which depend on all before them
    constants: Constants = dataclasses.field(default_factory=dict)

    def begin(self, values: Callable[[], PyTree]) -> Any:
        """What is to be kept beside the blocks, before there are any; `values` tells the shapes of those of a block."""
        return ()

    def checked(self, draw: PyTree, constants: Constants, chains: int, most: int) -> Any:
        each = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(draw)) + _TOLD
        needed, free = _TWICE * each * chains * most, memory.available()
        if self.asked and needed > free:
            raise MemoryError(
                f"num_samples={most} draws of num_chains={chains} chains take {memory.size(needed)} of memory, and "
                f"{memory.size(free)} are left: ask for fewer by num_samples or num_chains, keep fewer by thin, or "
                "none by vt.mcmc.fold"
            )
        return dataclasses.replace(self, constants=constants)

    def room(self, reached: Reached) -> bool:
        if not reached.kept:
            return True
        block = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(reached.kept[-1]))
        return block * (len(reached.kept) + _TWICE) <= memory.available()

    def warm(self, values: PyTree, steps: Steps) -> Block:
        """Of a block of the warm-up."""
        return values, steps

    def add(self, sums: Any, index: int, values: PyTree, steps: Steps) -> tuple[Any, Block]:
        """With a block more, after so many, and what is kept of the block itself."""
        return sums, (values, steps._replace(position=np.zeros(0), gradient=None))

    def read(self, reached: Reached, most: int) -> Draws:
        found = draws_of(reached.kept, self.walkers, most)
        return dataclasses.replace(found, history=self.history, constants=self.constants)

    def end(self, reached: Reached, most: int) -> Draws:
        """What is read when there are no more to come, with the warm-up."""
        warmup = draws_of(reached.warm, self.walkers) if reached.warm else None
        return dataclasses.replace(self.read(reached, most), warmup=warmup)

    def identity(self, sums: Any) -> str:
        """What tells this run from those that keep something else; it may go on for longer."""
        return f"values {self.thin}"


@dataclass(frozen=True)
class Means(Keeping):
    """The means and variances of f along each chain, in batches of the run: twice as long whenever there are eight."""

    f: Callable[[Any], PyTree] | None
    thin: int = 1
    digest: str = ""  # of what f does with a draw, which what it closes over may change
    constants: Constants = dataclasses.field(default_factory=dict, hash=False)

    def checked(self, draw: PyTree, constants: Constants, chains: int, most: int) -> Any:
        if self.f is None:
            return dataclasses.replace(self, constants=constants)
        check_result(self.f, jax.eval_shape(self.f, draw))
        constants = constants_of(self.f, (draw,), constants)
        return dataclasses.replace(self, digest=digest_of(self.f, draw), constants=constants)

    def begin(self, values: Callable[[], PyTree]) -> Moments:
        like = jax.eval_shape(self.of, values())
        zeros = jax.tree.map(lambda x: jnp.zeros((_BATCHES, *x.shape[1:]), x.dtype), like)
        return Moments(jnp.zeros(_BATCHES, int), zeros, zeros)

    def warm(self, values: PyTree, steps: Steps) -> Block:
        return (), jax.tree.map(lambda x: x[:, :_TELLING] if jnp.ndim(x) > 1 else x, steps)

    def add(self, sums: Moments, index: int, values: PyTree, steps: Steps) -> tuple[Moments, Block]:
        blocks = 2 ** (index // _BATCHES).bit_length()  # of a batch
        if blocks > 1 and 2 * index == _BATCHES * blocks:
            sums = eqx.filter_jit(Moments.paired)(sums)
        return _added(self, sums, jnp.asarray(index // blocks, int), values, steps)

    def read(self, reached: Reached, most: int) -> Any:
        return Folded(reached.sums.halves(), [steps.info for _, steps in reached.kept], constants=self.constants)

    def end(self, reached: Reached, most: int) -> Folded:
        return self.read(reached, most)

    def identity(self, sums: Moments) -> str:
        return f"means {self.thin} {jax.tree.map(jnp.shape, sums)} {self.digest}"

    def of(self, values: PyTree) -> PyTree[Float[Array, "steps chains ..."]]:
        return jax.tree.map(as_float, values if self.f is None else jax.vmap(jax.vmap(self.f))(values))


@eqx.filter_jit
def _added(means: Means, sums: Moments, batch: Int[Array, ""], values: PyTree, steps: Steps) -> tuple[Moments, Block]:
    info = jax.tree.map(lambda x: jnp.mean(jnp.asarray(x, float), (0, 1)), steps.info)
    info = info._replace(divergent=jnp.sum(steps.info.divergent))
    return sums.with_block(batch, means.of(values)), ((), Steps(jnp.zeros(0), None, info))


def draws_of(blocks: Sequence[Block], walkers: int, most: int | None = None) -> Draws:
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
        walkers=walkers,
    )


def thinned(steps: Steps, thin: int) -> Steps:
    """The last of every so many steps, its energy, and what else is told of all of them."""
    if thin == 1:
        return steps
    groups = jax.tree.map(lambda x: x.reshape(-1, thin, *x.shape[1:]), steps.info)
    info = jax.tree.map(lambda x: jnp.mean(x.astype(float), 1), groups)
    some = {name: jnp.any(getattr(groups, name), 1) for name in ("accepted", "divergent")}
    if getattr(groups, "energy", None) is not None:
        some["energy"] = groups.energy[:, -1]
    info = info._replace(evaluations=jnp.sum(groups.evaluations, 1), **some)
    position, gradient = jax.tree.map(lambda x: x[thin - 1 :: thin], (steps.position, steps.gradient))
    return Steps(position, gradient, info)


def _told(info: Any) -> dict[str, Any]:
    """What a kernel tells of its steps beyond what every kernel does."""
    known = ("acceptance", "accepted", "divergent", "evaluations")
    return {name: value for name, value in info._asdict().items() if name not in known and value is not None}
