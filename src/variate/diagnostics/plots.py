"""Pictures; matplotlib is loaded when one is drawn."""

from typing import Any, NamedTuple

import numpy as np


class _Bar(NamedTuple):
    label: str
    cost: float
    stderr: float


def plot_tuning(tuning: Any, axes: Any = None) -> Any:
    r"""Variance x time of every assignment of rules that `vt.tune` measured, the best on top.

    Bars are 95% intervals of the variance times the time; of the time there is no interval. Refused rules and those
    that are exact, which have no variance, are left out.

    Args:
        tuning: what `vt.tune` returned.
        axes: matplotlib's axes to draw into; new ones if left out.

    Returns:
        The axes.

    Raises:
        ImportError: there is no matplotlib.
        ValueError: nothing that was measured varies.
    """
    bars = [_bar(trial) for trial in tuning.trials if trial.measured and trial.measured.variance > 0]
    if not bars:
        raise ValueError("tuning: expected a trial with a variance, got none: its rules are exact or refused")
    if axes is None:
        axes = _new(0.8 + 0.35 * len(bars))
    cost, error = np.array([(1e3 * bar.cost, 1.96e3 * bar.stderr) for bar in bars]).T
    below = np.minimum(error, 0.9 * cost)  # a logarithmic axis does not reach zero
    places = np.arange(len(bars))
    axes.errorbar(cost, places, xerr=(below, error), fmt="o", ms=5, lw=1.5, capsize=3, color="#2b6cb0")
    axes.axvline(cost[0], color="#222222", lw=0.8, ls=":")
    axes.set(yticks=places, yticklabels=[bar.label for bar in bars], xscale="log", xlabel="variance x time, ms")
    axes.invert_yaxis()
    return axes


def _bar(trial: Any) -> _Bar:
    label = ", ".join(f"{name}: {_name(rule)}" for name, rule in trial.rules.items()) or "as chosen by default"
    variance, stderr, seconds = trial.measured
    return _Bar(label, variance * seconds, stderr * seconds)


def _name(rule: Any) -> str:
    baseline = getattr(rule, "baseline", None)
    inside = f"({getattr(baseline, '__name__', None) or type(baseline).__name__})" if baseline is not None else ""
    return type(rule).__name__ + inside


def _new(height: float) -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("a picture needs matplotlib: pip install 'variate[demo]'") from error
    return plt.subplots(figsize=(8, height), layout="constrained")[1]
