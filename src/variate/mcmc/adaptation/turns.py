"""The adaptation of kernels that take turns: of each by itself, in its own block of the coordinates."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np

from variate.checks import describe
from variate.mcmc.base import unbound
from variate.mcmc.gibbs import Gibbs
from variate.protocols import Move, Steps

from .warmup import Tuned, Warmup


class TurnsTuned(eqx.Module):
    """The kernels of a `Gibbs`, and what has been learned of the settings of each."""

    template: Gibbs
    each: tuple[Tuned, ...]

    def kernel(self, log_density: Any) -> Gibbs:
        kernels = tuple(tuned.kernel(unbound) for tuned in self.each)
        return dataclasses.replace(self.template, kernels=kernels, log_density=log_density)

    def learned(self, move: Move) -> "TurnsTuned":
        own = [move.info._replace(acceptance=move.info.acceptances[:, n]) for n in range(len(self.each))]
        each = tuple(tuned.learned(move._replace(info=info)) for tuned, info in zip(self.each, own, strict=True))
        return dataclasses.replace(self, each=each)


class TurnsWarmup:
    """A `Warmup` for each of the kernels of a `Gibbs`; scales are found from the draws of their blocks alone."""

    def __init__(self, kernel: Gibbs, blocks: int, dtype: Any):
        self.template, self.blocks = kernel, blocks
        for own, block in zip(kernel.kernels, kernel.blocks, strict=True):
            if hasattr(own, "learner") and own.learner(len(block), dtype) is not None:
                raise TypeError(f"kernels: in turns with others a path finds no length, give one to {describe(own)}")
        pairs = zip(kernel.kernels, kernel.blocks, strict=True)
        self.each = tuple(Warmup(own, len(block), blocks, dtype) for own, block in pairs)

    def begin(self) -> TurnsTuned:
        return TurnsTuned(self.template, tuple(warmup.begin() for warmup in self.each))

    def proceed(self, tuned: TurnsTuned, block: int, steps: Sequence[Steps]) -> TurnsTuned:
        found = []
        for warmup, own, place in zip(self.each, tuned.each, self.template.blocks, strict=True):
            parts = [s._replace(position=np.asarray(s.position)[..., list(place)], gradient=None) for s in steps]
            found.append(warmup.proceed(own, block, parts))
        return dataclasses.replace(tuned, each=tuple(found))
