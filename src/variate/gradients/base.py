"""What every gradient rule is given and owes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

from variate.programs import distributions, generator
from variate.programs.dataflow import Break
from variate.programs.primitive import over_lanes, sample_leaves
from variate.programs.program import Site


class BiasedGradientError(ValueError):
    """A gradient would be wrong in silence: the derivative of one run is not that of the expectation."""


@dataclass(frozen=True)
class Facts:
    """What dataflow knows of one draw.

    `moved`: the operands through which its distribution depends on what is differentiated. `rough`: those of them with
    which the sampler does not move smoothly. `edges`: those of them that move the support. `kinks`: where its log
    probability has a kink in them that matters at this order. `breaks`: where the drawn value meets a discontinuity on
    the way to the result. `support`: the number of values of one element, if finite and known. `elements`: how many
    elements it draws in a run, over loops and lanes. `law`: the class of the distribution of an element, and
    `parameters`: the names that NumPyro gives to those of its parameters that are moved. `shared_key`: why its key is
    not its own.
    """

    site: Site
    discrete: bool
    moved: frozenset[int]
    rough: dict[int, Break]
    edges: frozenset[int]
    breaks: tuple[Break, ...]
    support: int | None
    elements: int | None
    law: type
    parameters: frozenset[str]
    kinks: tuple[Break, ...]
    shared_key: str | None
    looped: bool  # inside a loop
    unbounded: bool  # inside a `while`, which may run any number of times
    order: int  # of the derivatives that will be taken
    linked: bool  # its distribution depends on other random numbers
    normalized: bool  # its log probability is that of a probability, as it is unless its class denies it


@runtime_checkable
class Rule(Protocol):
    """How one draw contributes to the gradient of an expectation.

    A draw's value is `stop_gradient`ed unless the rule moves it with the parameters; what the rule needs later (log
    probabilities) goes into its record.
    """

    def refuse(self, facts: Facts) -> str | None:
        """Why this rule cannot serve that draw; None if it can."""
        ...

    def bias(self, facts: Facts) -> str | None:
        """Why its gradient would be biased there; None if it would not."""
        ...

    def draw(self, site: Site, operands: Sequence[Array]) -> tuple[list[Array], Any]:
        """The drawn value's leaves, and a record: a pytree of arrays or None."""
        ...


def fixed_sample(site: Site, operands: Sequence[Array]) -> list[Array]:
    """The drawn value, held fixed under differentiation."""
    return lax.stop_gradient(sample_leaves(site.structure, site.lanes)(*lax.stop_gradient(list(operands))))


def another_key(key: Key[Array, ""]) -> Key[Array, ""]:
    """For what a rule draws besides, independent of what a sampler makes of the same key."""
    return generator.flat(jax.random.fold_in(jax.random.clone(key), _ALTERNATIVES))


def by_lane(function: Callable[..., Any], site: Site, value: Array, operands: Sequence[Array]) -> Any:
    """`function(distribution, value, key)` of what each lane drew, lanes first; the key has made nothing else."""

    def one(value: Array, key: Array, *arrays: Array) -> Any:
        with distributions.numpyro_promotion():
            return function(site.structure.build(arrays), value, another_key(key))

    return over_lanes(one, site.lanes, 1)(value, *operands)


class Alternatives(NamedTuple):
    r"""Values $x_k$ that each element of a draw could have had, and weights $w_k$, of which only derivatives count.

    They stand for $\nabla_\theta E f(x) = E \sum_k \nabla_\theta w_k \, (f(x_k) - f(x))$.
    """

    log_prob: Float[Array, "*elements"]  # of the drawn value
    weights: Float[Array, "*elements k"]
    values: Array  # [*elements, k, *event]


class Replay:
    """The part that is common to rules which compare a run with replays of it where an element took another value.

    A replay shares every other random number with the run.
    """

    def alternatives(self, distribution: Any, value: Array, key: Key[Array, ""]) -> Alternatives:
        """To a value drawn from the distribution, by element; the key has made no other random numbers."""
        raise NotImplementedError

    def serves(self, facts: Facts) -> str | None:
        """Why the rule has no alternatives for that draw; None if it has."""
        raise NotImplementedError

    def told(self, facts: Facts) -> "Replay":
        """The rule as it is for that draw, where its alternatives depend on what moves."""
        return self

    def refuse(self, facts: Facts) -> str | None:
        if facts.unbounded:
            return "it is inside a while_loop, where the number of draws is random"
        if reason := self.serves(facts):
            return reason
        if facts.elements is None and not isinstance(self, JointReplay):
            return "how many elements it draws is not known before the run"
        if facts.order > 1 and facts.looped:
            return "it is inside a loop, where only its first derivative is available"
        return facts.shared_key

    def bias(self, facts: Facts) -> str | None:
        return None

    def draw(self, site: Site, operands: Sequence[Array]) -> tuple[list[Array], Any]:
        (value,) = fixed_sample(site, operands)
        found = by_lane(lambda *drawn: self.in_lane(self.alternatives(*drawn)), site, value, operands)
        return [value], self.in_lanes(found, len(site.lanes))

    def in_lane(self, found: Alternatives) -> Alternatives:
        """With one axis of elements in place of all that the log probability has."""
        ndim = found.log_prob.ndim
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[ndim:]), found)

    def in_lanes(self, found: Alternatives, lanes: int) -> Alternatives:
        """With one axis of elements in place of the lanes and of their own."""
        assert found.log_prob.ndim == lanes + 1
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[lanes + 1 :]), found)


class JointReplay(Replay):
    r"""A replay rule that changes all elements of a draw at once, so that a replay serves them all.

    Its alternatives stand for $E \sum_k (\sum_i \nabla_\theta w_{ik}) (f(x_k) - f(x))$ over the elements $i$ of $x_k$.
    """

    def in_lane(self, found: Alternatives) -> Alternatives:
        """The whole of a draw as one element."""
        axes = tuple(range(found.log_prob.ndim))
        values = jnp.moveaxis(found.values, len(axes), 0)
        return Alternatives(jnp.sum(found.log_prob), jnp.sum(found.weights, axis=axes), values)

    def in_lanes(self, found: Alternatives, lanes: int) -> Alternatives:
        whole = self.in_lane(found)
        return jax.tree.map(lambda x: jnp.expand_dims(x, 0), whole)


_ALTERNATIVES = 0x5EED  # what tells the key of alternatives from any that a sampler makes of the same key
