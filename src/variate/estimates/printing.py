"""Estimates as text: no more digits than the error bar supports, and every warning that applies."""

import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.core import Tracer

from variate.checks import describe

if TYPE_CHECKING:
    from .estimate import Estimate

_INFINITE = 0.5  # the tail index from which there is no variance
_REACHED = 0.9  # a mean weight below which an estimate says that its runs did not meet the rest
_LEVEL = 0.95  # of an interval that is printed
_DIGITS = 17  # of a double, past which an error bar is rounding
_SHOWN = 8  # elements of an array, above which only its ends are printed


class _Text:
    """Prints as it is inside any container, where a string would be quoted."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def text_of(estimate: "Estimate") -> str:
    """One line where the value is a number, `0.7431 ± 0.0213 (n=4096)`; the value's own structure where it is not."""
    if not all(_is_concrete(leaf) for leaf in jax.tree.leaves(estimate)):
        shapes = jax.tree.map(lambda leaf: _Text(describe(leaf)), estimate.value)
        return f"Estimate of {shapes!r} (traced)"
    if estimate.stderr is None:
        body = jax.tree.map(lambda value: _Text(_array(value, None)), estimate.value)
    else:
        body = jax.tree.map(lambda value, error: _Text(_array(value, error)), estimate.value, estimate.stderr)
    return f"{body!r} ({', '.join(_notes(estimate))})"


def _notes(estimate: "Estimate") -> list[str]:
    low, high = int(np.min(estimate.num_samples)), int(np.max(estimate.num_samples))
    notes = [f"n={low}" if low == high else f"n={low} to {high}"]
    if estimate.method is not None:
        ratio = estimate.variance_ratio
        gain = "" if ratio is None or np.ndim(ratio) else f" with {float(ratio):.2g} of the plain variance"
        notes.append(f"by {estimate.method}{gain}")
    if estimate.stderr is None:
        notes.append("no error bar")
    notes += [*_tails(estimate), *_alike(estimate)]
    if estimate.ends is not None:
        notes.append(f"95% interval {_ends(estimate)} by {estimate.ends.name}")
    if estimate.biased:
        notes.append("biased")
    if estimate.bias is not None:
        notes.append(f"bias about {max(float(np.max(leaf)) for leaf in jax.tree.leaves(estimate.bias)):.2g}")
    if not np.all(estimate.converged):
        notes.append("not converged")
    if estimate.ended is not None:
        notes.append(estimate.ended)
    if np.any(estimate.nonfinite):
        notes.append(f"{np.sum(estimate.nonfinite)} of {np.sum(estimate.num_samples)} draws not finite")
    return notes


def _tails(estimate: "Estimate") -> list[str]:
    """Why there is no error bar, or why one may be too short."""
    tail = -math.inf if estimate.tail is None else float(np.fmax.reduce(np.ravel(estimate.tail), initial=-np.inf))
    weight = math.nan if estimate.mean_weight is None else float(np.ravel(estimate.mean_weight)[0])
    heavy = [f"tail index {tail:.2f}"] if tail > _INFINITE else []
    if not _withheld(estimate):
        missed = [f"mean weight {weight:.2g}, which says nothing of where no run was"] if weight < _REACHED else []
        return [*heavy, *missed]
    if tail == math.inf:
        return ["no error bar, for most of the variance is that of one run"]
    if heavy:
        return [f"no error bar for a {heavy[0]}, where the variance is infinite"]
    return [f"no error bar for a mean weight of {weight:.3g} instead of 1"] if estimate.mean_weight is not None else []


def _alike(estimate: "Estimate") -> list[str]:
    """An error bar of 0 is exact for what is not random, and says nothing of an event that no draw has met."""
    if estimate.stderr is None or estimate.ends is not None or int(np.min(estimate.num_samples)) < 2:
        return []
    errors = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(estimate.stderr)])
    alike = int(np.sum(errors == 0))
    if not alike:
        return []
    return ["no two draws differ" if alike == errors.size else f"no two draws differ in {alike} of {errors.size}"]


def _ends(estimate: "Estimate") -> str:
    low, high = (jax.tree.leaves(end) for end in estimate.interval(_LEVEL))
    if len(low) == 1 and np.size(low[0]) == 1:
        return f"{float(np.ravel(low[0])[0]):.4g} to {float(np.ravel(high[0])[0]):.4g}"
    widest = max(float(np.max((b - a) / 2)) for a, b in zip(low, high, strict=True))
    return f"of ±{widest:.3g} at most"


def _withheld(estimate: "Estimate") -> bool:
    """Whether there is a value and a NaN in place of its error."""
    if estimate.stderr is None:
        return False
    pairs = zip(jax.tree.leaves(estimate.value), jax.tree.leaves(estimate.stderr), strict=True)
    return any(np.any(np.isnan(error) & np.isfinite(value)) for value, error in pairs)


def _array(value: Any, error: Any) -> str:
    # NumPy abbreviates arrays of numbers only, and a complex number is the one that holds a pair.
    pairs = np.empty(np.shape(value), complex)
    pairs.real = np.asarray(value, float)
    pairs.imag = 0.0 if error is None else np.asarray(error, float)

    def show(pair: np.complexfloating) -> str:
        return f"{pair.real:.6g}" if error is None else _number(float(pair.real), float(pair.imag))

    long = pairs.size > _SHOWN
    lines = np.array2string(
        pairs.ravel() if long else pairs,
        threshold=_SHOWN,
        edgeitems=2,
        separator=", ",
        formatter={"complexfloat": show},
    )
    text = " ".join(lines.split())
    return f"{text} of shape {pairs.shape}" if long else text


def _number(value: float, error: float) -> str:
    """The error to three digits, the value to the same decimals; six digits of it where its error is not known."""
    if math.isnan(error) and math.isfinite(value):
        return f"{value:.6g} ± ?"
    if not (math.isfinite(value) and math.isfinite(error) and error > 0):
        return f"{value:.6g} ± {error:.3g}"
    rounded = Decimal(f"{error:.2e}")
    exponent = max(Decimal(value).adjusted() if value else rounded.adjusted(), rounded.adjusted())
    if exponent - rounded.adjusted() > _DIGITS:
        return f"{value:.{_DIGITS}g} ± {error:.3g}"
    scale = 0 if -4 <= exponent < 7 else exponent
    decimals = 2 - rounded.adjusted() + scale
    numbers = [round(Decimal(x).scaleb(-scale), decimals) for x in (value, rounded)]
    text = " ± ".join(f"{x:.{max(decimals, 0)}f}" for x in numbers)
    return f"({text})e{scale}" if scale else text


def _is_concrete(leaf: Any) -> bool:
    return not isinstance(leaf, Tracer | jax.ShapeDtypeStruct)
