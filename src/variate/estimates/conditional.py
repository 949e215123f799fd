"""Conditional Monte Carlo: draws taken out of the runs by their exact expectation, given all the others."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from variate.checks import check_positive_int
from variate.programs import distributions
from variate.programs.affine import affine_draws
from variate.programs.keys import shared_keys
from variate.programs.program import Operation, Program, every_operation, one_lane
from variate.programs.samplers import support

from .base import Integrated


@dataclass(frozen=True)
class Conditional:
    r"""$E[f \mid x_S]$ in place of f, the expectation over all draws but those S that have to be made.

    By the law of total variance that has no more variance than f, and as a rule less (Rao and Blackwell). Nothing has
    to be written for it: dataflow finds the draws which need not be made.

    - A real draw in which all results are affine, whatever the others are: noise added at the end, a payoff times an
      amount. Its mean stands for it, which costs nothing. In scans and under `vmap` too.
    - A draw of few values outside of loops. The run is made once for every value, weighted by their probabilities; of
      several draws for every combination, as many as `limit` allows, those with fewest values first. Its arrays count
      with all their elements.

    A run then costs as many evaluations as there are combinations: the wrong choice where the variance falls by less.
    `limit=1` takes no values, only means. Draws whose key serves others too are left alone. Goes with designs, which
    then have fewer coordinates, with controls and with weights, both of the draws that are still made.

    Args:
        limit: the most evaluations that a run may cost.

    Raises:
        ValueError: a `limit` that is not positive, a program that has no such draw; a control or a proposal of a draw
            that is integrated out.

    Source: Owen (2013), Monte Carlo theory, methods and examples, section 8.7; Hammersley (1956), Conditional Monte
    Carlo, J. ACM 3(2), 73-76.
    """

    limit: int = 64

    def __post_init__(self) -> None:
        check_positive_int("limit", self.limit)

    def integrated(self, program: Program) -> Integrated:
        shared, affine = shared_keys(program), affine_draws(program)
        draws = {op.site.index: op for op in every_operation(program) if op.site and op.site.index not in shared}
        means = frozenset(index for index, draw in draws.items() if index in affine and _has_mean(draw))
        found = {index: values for index, draw in draws.items() if (values := _values(draw)) is not None}
        taken: dict[int, _Values] = {}
        for index, values in sorted(found.items(), key=lambda each: each[1].count):
            if math.prod(each.count for each in taken.values()) * values.count <= self.limit:
                taken[index] = values
        if not means and not taken:
            labels = [site.label for site in program.sites]
            raise ValueError(
                f"method: Conditional(limit={self.limit}) has nothing to integrate out: of the draws {labels} none is "
                "real with results that are affine in it, or has few enough values and is outside of loops"
            )
        counts = tuple(each.count for each in taken.values())
        places = np.unravel_index(np.arange(math.prod(counts)), counts) if counts else ()
        values = {index: each.at(place) for (index, each), place in zip(taken.items(), places, strict=True)}
        return Integrated(means, values)


class _Values(NamedTuple):
    """All values of a draw: those of an element, and its shape, lanes first."""

    support: np.ndarray
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        return len(self.support) ** math.prod(self.shape)

    def at(self, places: np.ndarray) -> jax.Array:
        digits = np.unravel_index(places, (len(self.support),) * math.prod(self.shape)) if self.shape else (places,)
        return jnp.asarray(np.stack([self.support[each] for each in digits], axis=-1).reshape(-1, *self.shape))


def _has_mean(draw: Operation) -> bool:
    site = draw.site
    assert site is not None
    found: list[bool] = []

    def look(*arrays: jax.Array) -> None:
        mean = distributions.mean(site.structure.build(arrays))
        found.append(mean is not None and mean.shape == site.event.leaves[0][0])

    jax.eval_shape(look, *one_lane(draw)[1:])
    return found[0]


def _values(draw: Operation) -> _Values | None:
    site = draw.site
    if site is None or site.loops or len(site.event.leaves) != 1:
        return None
    (shape, dtype), values = site.event.leaves[0], support(draw)
    whole = (*(lane.size for lane in reversed(site.lanes)), *shape)
    return None if values is None or not math.prod(whole) else _Values(values.astype(dtype), whole)
