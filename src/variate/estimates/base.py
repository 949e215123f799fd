"""What a method of estimation may change: the uniforms runs are made of, what is drawn, and what is drawn beside it."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Float

from variate.checks import describe
from variate.programs.program import Program
from variate.programs.runs import Run, Wishes
from variate.programs.uniforms import Proposals

from .designs import Design


@runtime_checkable
class Controls(Protocol):
    """Numbers of a run whose expectation is zero, by which its result is adjusted.

    `stated`: whether that is somebody's word, which the draws may contradict.
    `fold`: what rows of values and controls are folded by, its class or an empty one.
    """

    @property
    def stated(self) -> bool: ...

    @property
    def fold(self) -> Any: ...

    def wishes(self, program: Program) -> Wishes:
        """What has to be known of a run. Raises `ValueError` where the program has nothing to offer."""
        ...

    def controls(self, run: Run) -> Float[Array, " p"]:
        """Of expectation zero."""
        ...


@runtime_checkable
class Weighting(Protocol):
    """What to draw from in place of the distributions of named draws, each run weighted by the ratio of densities.

    `defensive`: the share of the runs that make these draws from their own distributions after all, each as a whole.
    `self_normalized`: whether weighted means are over the sum of the weights instead of the number of runs.
    `regressed`: whether what the proposals say beside their draws (`beside(value)`, of mean 0) is a control.
    `smoothed`: whether the largest of self-normalised weights are smoothed (`ParetoSmoothed`).
    """

    @property
    def defensive(self) -> float: ...

    @property
    def self_normalized(self) -> bool: ...

    @property
    def regressed(self) -> bool: ...

    @property
    def smoothed(self) -> bool: ...

    def proposals(self, program: Program) -> Proposals:
        """What to draw from. Raises `ValueError` for a name that no draw has."""
        ...


class Integrated(NamedTuple):
    """Draws that a run does not make: the mean stands for some, and others have all their values, one after the other.

    `values`: by the index of the draw, a leading axis of the same length for each.
    """

    means: frozenset[int] = frozenset()
    values: dict[int, Array] = {}  # noqa: RUF012


@runtime_checkable
class Integration(Protocol):
    """Draws whose expectation given all others is exact, so that they add nothing to the variance."""

    def integrated(self, program: Program) -> Integrated:
        """Which these are. Raises `ValueError` where there are none."""
        ...


class Methods(NamedTuple):
    """At most one of each kind."""

    design: Design | None = None
    controls: Controls | None = None
    weighting: Weighting | None = None
    integration: Integration | None = None

    @property
    def name(self) -> str | None:
        """What an estimate says that it was made by; None for plain sampling."""
        return " and ".join(type(one).__name__ for one in self if one is not None) or None


class Best(NamedTuple):
    """The method that a pilot finds best (`choose` says how), as `method=`; for a caller's `jit`, plain sampling."""


_KINDS = {"design": Design, "controls": Controls, "weighting": Weighting, "integration": Integration}


def check_methods(given: Any) -> Methods:
    """What `method=` says: nothing, one method, or several of different kinds.

    Raises:
        TypeError: something that is no method.
        ValueError: two of a kind.
    """
    found: dict[str, Any] = {}
    for one in given if type(given) in (tuple, list) else () if given is None else (given,):
        kind = next((name for name, kind in _KINDS.items() if isinstance(one, kind)), None)
        if kind is None or isinstance(one, type):
            raise TypeError(
                "method must be a method of vt.estimates, Sobol() or ControlVariates(...) say, or several in a tuple, "
                f"got {describe(one)}"
            )
        if kind in found:
            first, second = type(found[kind]).__name__, type(one).__name__
            raise ValueError(f"method: {first} and {second} do not go together, for each is a {kind} of its own")
        found[kind] = one
    return Methods(**found)
