"""Rows of the variance benchmark: what was measured of an estimator, how far it is off, and how it compares."""

from typing import Any, NamedTuple

import numpy as np
from peers_variance import ROUNDING, Found
from scipy.stats import norm, t

from variate.gradients.tables import name_of

OURS, HAND, WRONG = "Variate", "JAX by hand", 5.0
COLUMNS = ("problem", "estimator", "variance", "time", "variance x time", "to the best", "off by", "note")


class Truth(NamedTuple):
    """A gradient, and its standard error where it is a long run's."""

    gradient: np.ndarray
    errors: np.ndarray

    def off(self, found: Found) -> float:
        """How many standard errors one number would be off by that is as unlikely as the worst coordinate is."""
        noise = np.hypot(found.errors, self.errors) + ROUNDING * np.max(np.abs(self.gradient))
        worst = float(np.max(np.abs(found.mean - self.gradient) / noise))
        chance = len(self.gradient) * t.sf(worst, found.replicates - 1)  # of a few replicates, 5 errors are not much
        return float(norm.isf(min(chance, 0.5))) if chance > 0 else worst


class Estimator(NamedTuple):
    """A row of the table: what was measured, or why it was not."""

    program: str
    name: str
    found: Found | None
    off: float | None = None
    failed: str = ""
    note: str = ""
    best: float = 0.0  # the least product of those that sample
    exact: bool = False

    @property
    def ours(self) -> bool:
        return self.name.startswith(OURS)

    @property
    def ok(self) -> bool | None:
        return None if self.off is None else self.off <= WRONG

    @property
    def counts(self) -> bool:
        """Whether it is right, and noisy: what has no noise is compared by its time alone."""
        return self.found is not None and bool(self.ok) and not self.exact

    def cells(self) -> list[str]:
        if self.found is None:
            return [self.program, self.name, "", "", "", "", "", f"cannot run: {self.failed}".replace("|", "/")]
        f, share = self.found, 100 * self.found.relative
        variance = "0" if self.exact else f"{f.variance:.3g} ± {share:.0f}%"
        product = "0" if self.exact else f"{f.product * 1e3:.3g}"
        ratio = "" if not self.counts else f"{f.product / self.best:.2f}"
        wrong = "" if self.ok else "WRONG"
        fewer = "" if f.replicates >= 200 else f"{f.replicates} replicates"
        note = ", ".join(filter(None, (wrong, "exact" if self.exact else "", self.note, fewer)))
        return [self.program, self.name, variance, milliseconds(f.seconds), product, ratio, f"{self.off:.1f}", note]

    def record(self) -> dict[str, Any]:
        kept = {k: v for k, v in self._asdict().items() if k not in ("found", "best")}
        if self.found is None:
            return kept
        f = self.found
        numbers = {"variance": f.variance, "stderr": f.stderr, "seconds": f.seconds, "replicates": f.replicates}
        return {**kept, **numbers, "product": f.product, "ratio": f.product / self.best if self.best else None}


def milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"


def standing(row: Estimator) -> tuple[bool, float]:
    """What has no noise comes first, by its time; then by variance x time."""
    if row.found is None:
        return True, np.inf
    return not row.exact, row.found.seconds if row.exact else row.found.product


def label(rule: Any) -> str:
    """Its name, with how much of a draw it tries where that is a choice."""
    chosen, name = getattr(rule, "size", None) or getattr(rule, "replays", None), name_of(rule)
    return f"{name}({chosen})" if chosen and not name.endswith(")") else name


def is_exact(found: Found, truth: Truth) -> bool:
    """Whether what it varies by is rounding: in each coordinate that of a cost of a term for every coordinate."""
    count, size = len(found.mean), float(np.max(np.abs(truth.gradient)))
    return found.variance <= count * count * (ROUNDING * size) ** 2
