"""Pictures; matplotlib is loaded when one is drawn."""

from typing import Any

import numpy as np


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
    shown = [trial for trial in tuning.trials if trial.measured and trial.measured.variance > 0]
    if not shown:
        raise ValueError("tuning: expected a trial with a variance, got none: its rules are exact or refused")
    if axes is None:
        axes = _new(0.8 + 0.35 * len(shown))
    measured = [trial.measured for trial in shown]
    cost, error = 1e3 * np.array([(each.cost, 1.96 * each.stderr * each.seconds) for each in measured]).T
    below = np.minimum(error, 0.9 * cost)  # a logarithmic axis does not reach zero
    places = np.arange(len(shown))
    axes.errorbar(cost, places, xerr=(below, error), fmt="o", ms=5, lw=1.5, capsize=3, color="#2b6cb0")
    axes.axvline(cost[0], color="#222222", lw=0.8, ls=":")
    axes.set(yticks=places, yticklabels=[trial.name for trial in shown], xscale="log", xlabel="variance x time, ms")
    axes.invert_yaxis()
    return axes


def _new(height: float) -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("a picture needs matplotlib: pip install 'variate[demo]'") from error
    return plt.subplots(figsize=(8, height), layout="constrained")[1]
