"""The interfaces through which the rooms meet; nothing here knows who fulfils them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Float, Int, Key, PyTree

if TYPE_CHECKING:
    # The bottom of the house may name what is above it, never load it.
    from variate.estimates import Estimate


@runtime_checkable
class Distribution(Protocol):
    """A law that can be drawn from and whose density can be evaluated.

    NumPyro's and FlowJAX's distributions fulfil it as they are. One of your own also has to be a registered pytree
    (an Equinox module, say), because a program carries its parameters as arrays.
    """

    def sample(self, key: Key[Array, ""], /) -> PyTree[Array]:
        """One draw; the same key gives the same draw. A batched distribution draws its whole batch."""
        ...

    def log_prob(self, x: PyTree[Array], /) -> Float[Array, "..."]:
        """The logarithm of the density or mass at `x`: a number for every member of the batch, -inf off the support."""
        ...


@runtime_checkable
class Target(Protocol):
    """A density known up to its constant, over positions: a pytree of real arrays without bounds.

    A target is a pytree itself, of the data on which it depends. What a user calls a draw may be something else than a
    position, a simplex or a positive number: its values, by name.
    """

    def start(self, key: Key[Array, ""], /) -> PyTree[Array]:
        """A position of positive density."""
        ...

    def log_density(self, position: PyTree[Array], /) -> Float[Array, ""]:
        """Of a position, up to one constant; -inf where there is no mass."""
        ...

    def constrain(self, position: PyTree[Array], /) -> PyTree[Array]:
        """The values of a position."""
        ...

    def unconstrain(self, values: PyTree[Array], /) -> PyTree[Array]:
        """The position of values."""
        ...


@runtime_checkable
class Kernel(Protocol):
    """One step of a Markov chain on vectors of real numbers, under `jit` and `vmap`; one chain, no loop.

    A kernel of a target is a dataclass with a field `log_density`, the function of a vector that it leaves invariant.
    """

    def init(self, key: Key[Array, ""], position: Float[Array, " d"], /) -> Any:
        """The state of a chain at a position: all that a step needs, the `position` among it."""
        ...

    def step(self, key: Key[Array, ""], state: Any, /) -> tuple[Any, Any]:
        """The next state, and what a diagnosis needs of the step."""
        ...


class Steps(NamedTuple):
    """A block of steps of several chains, one after another."""

    position: Float[Array, "steps chains d"]
    gradient: Float[Array, "steps chains d"] | None  # of the log density there, if the kernel knows it
    info: Any


@runtime_checkable
class Adaptation(Protocol):
    """How a kernel is tuned while chains warm up: by the loop's blocks of steps, between which it may look at them."""

    blocks: int  # of the warm-up

    def begin(self) -> Any:
        """A pytree that has `kernel(log_density)`, and `learned(acceptance)` after a step of all chains.

        What it learns from are the `acceptances` of a step whose kernel consists of several.
        """
        ...

    def proceed(self, tuned: Any, block: int, steps: Sequence[Steps], /) -> Any:
        """The same after a block, whose steps are the last of those given."""
        ...


@runtime_checkable
class OrderedFold(Protocol):
    """A fold for which the order of draws matters: what came before has a say in what is made of a row."""

    def add_rows(self, rows: PyTree[Array], count: Int[Array, ""] | int | None = None) -> Any:
        """With a block of draws more, of which the first `count` are used."""
        ...


@runtime_checkable
class Fold(Protocol):
    """An expectation estimated while the draws stream by, in memory that does not grow with their number.

    A fold is a pytree and is never changed: `add` and `merge` return a new one. `merge` is exact, that is associative,
    commutative and, up to rounding, what adding all draws to one fold gives; so blocks, devices and machines can each
    fold their own draws.
    """

    @classmethod
    def empty(cls, example: PyTree, /) -> "Fold":
        """The fold of no draws. `example` is like a draw in structure, shapes and dtypes; its numbers do not matter."""
        ...

    def add(self, x: PyTree, log_weight: Any = 0.0, /) -> "Fold":
        """This fold and the draw `x`, which counts exp(`log_weight`) times."""
        ...

    def merge(self, other: Any, /) -> "Fold":
        """The fold of this one's draws and of those of `other`, a fold of the same kind."""
        ...

    def read(self) -> "Estimate":
        """The expectation estimated from the draws so far, with its standard error."""
        ...
