"""Stopping rules combine: both are met, or one of them is."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from variate.checks import describe

from .estimate import Estimate


class Rule:
    """Rules combine by `&`, both are met, and `|`, one of them is. Raises TypeError for what is no rule."""

    def __and__(self, other: Any) -> "Both":
        return Both(self, _rule("&", other))

    def __rand__(self, other: Any) -> "Both":
        return Both(_rule("&", other), self)

    def __or__(self, other: Any) -> "Either":
        return Either(self, _rule("|", other))

    def __ror__(self, other: Any) -> "Either":
        return Either(_rule("|", other), self)


@dataclasses.dataclass(frozen=True)
class Pair(Rule):
    """Two rules as one.

    Each of two confidence sequences covers at all times at once, hence so does the longer of their intervals, which is
    what is reported: the error bar is right whichever of the two ends the sampling.
    """

    first: Any
    second: Any

    def map(self, f: Callable[[Any], Any]) -> "Pair":
        """With f of both rules in their place."""
        return dataclasses.replace(self, first=f(self.first), second=f(self.second))

    def met(self, so_far: Any) -> bool:
        raise NotImplementedError

    def assess(self, estimate: Estimate) -> Estimate:
        return self._joined(self.first.assess(estimate), self.second.assess(estimate))

    def assess_sets(self, estimate: Estimate, degrees: int, number: Array) -> Estimate:
        return self._joined(*(rule.assess_sets(estimate, degrees, number) for rule in (self.first, self.second)))

    def _joined(self, one: Estimate, other: Estimate) -> Estimate:
        longer = jax.tree.map(jnp.maximum, one.stderr, other.stderr)
        known = [each.degrees for each in (one, other) if each.degrees is not None]
        return dataclasses.replace(
            one,
            stderr=longer,
            degrees=min(known, default=None),
            converged=self._decided(one.converged, other.converged),
        )

    def _decided(self, one: Array, other: Array) -> Array:
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Both(Pair):
    """Until both rules are met at once."""

    def met(self, so_far: Any) -> bool:
        return self.first.met(so_far) and self.second.met(so_far)

    def _decided(self, one: Array, other: Array) -> Array:
        return one & other


@dataclasses.dataclass(frozen=True)
class Either(Pair):
    """Until one of two rules is met."""

    def met(self, so_far: Any) -> bool:
        return self.first.met(so_far) or self.second.met(so_far)

    def _decided(self, one: Array, other: Array) -> Array:
        return one | other


def parts(rule: Any) -> Iterator[Any]:
    """The rules that a rule is made of."""
    if isinstance(rule, Pair):
        yield from parts(rule.first)
        yield from parts(rule.second)
    else:
        yield rule


def _rule(sign: str, other: Any) -> Any:
    if isinstance(other, type) or not (hasattr(other, "met") or hasattr(other, "assess")):
        raise TypeError(f"a stopping rule goes with another by {sign}, vt.ESS(400) say, got {describe(other)}")
    return other
