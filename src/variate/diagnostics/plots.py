"""Pictures; matplotlib is loaded when one is drawn."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from scipy import stats

from variate import checks
from variate.trees import place

_INK, _BLUE, _ORANGE, _GREY = "#222222", "#2b6cb0", "#d9622b", "#b0b0b0"
_BINS = 20
_MOST, _MOST_PAIRS = 24, 8


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
        axes = _new(1, 1, 8.0, 0.8 + 0.35 * len(shown))[0, 0]
    from matplotlib.ticker import LogLocator

    measured = [trial.measured for trial in shown]
    cost, error = 1e3 * np.array([(each.cost, 1.96 * each.stderr * each.seconds) for each in measured]).T
    below = np.minimum(error, 0.9 * cost)  # a logarithmic axis does not reach zero
    places = np.arange(len(shown))
    axes.errorbar(cost, places, xerr=(below, error), fmt="o", ms=5, lw=1.5, capsize=3, color=_BLUE)
    axes.axvline(cost[0], color=_INK, lw=0.8, ls=":")
    axes.set(yticks=places, yticklabels=[trial.name for trial in shown], xscale="log", xlabel="variance x time, ms")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))  # of powers of ten few are in sight
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.invert_yaxis()
    return axes


def plot_ranks(draws: Any, f: Callable[[Any], Any] | None = None) -> Any:
    r"""Where each chain is, draw by draw, and beside it how the ranks of its draws among those of all are spread.

    A row for each number of f(x). Ranks of chains that agree are uniform: their shares of 20 bins are 1 up to chance,
    and 95% of them between the dotted lines, which are those of as many independent draws as each chain alone is worth.

    Args:
        draws: what `vt.sample` returned.
        f: what to show of a draw; the draw itself if left out.

    Returns:
        The axes, an array of two in each row.

    Raises:
        ImportError: there is no matplotlib.
        TypeError: no draws.
        ValueError: more than 24 numbers.

    Source: Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), Bayesian Analysis 16(2), 667-718, section 5.
    """
    from arviz_stats.base.array import BaseArray

    numbers = _numbers(draws, f, _MOST)
    axes = _new(len(numbers), 2, 9.0, 0.6 + 1.6 * len(numbers))
    for (left, right), (name, x) in zip(axes, numbers.items(), strict=True):
        ranks = stats.rankdata(x).reshape(x.shape)
        for chain, own in zip(x, ranks, strict=True):
            left.plot(chain, lw=0.4, alpha=0.7)
            shares = np.histogram(own, _BINS, (0.5, x.size + 0.5))[0] * _BINS / len(own)
            right.stairs(shares, np.linspace(0, 1, _BINS + 1), lw=1.2)
        effective = np.mean([BaseArray().ess(own[None], chain_axis=0, draw_axis=1, method="bulk") for own in x])
        chance = 1.96 * np.sqrt((_BINS - 1) * (1 - 1 / len(x)) / effective)
        for level in (1 - chance, 1 + chance):
            right.axhline(level, color=_INK, lw=0.8, ls=":")
        left.set(ylabel=name)
        right.set(ylim=(0, None))
    axes[-1, 0].set(xlabel="draw")
    axes[-1, 1].set(xlabel="rank among the draws of all chains")
    return axes


def plot_pairs(draws: Any, f: Callable[[Any], Any] | None = None) -> Any:
    """Each number of f(x) against each other, with the draws whose steps diverged on top.

    Where crosses gather is where the target is too steep for the steps, and what lies beyond was not reached.

    Args:
        draws: what `vt.sample` returned.
        f: what to show of a draw; the draw itself if left out.

    Returns:
        The axes, a triangle of a square array; what is above is empty.

    Raises:
        ImportError: there is no matplotlib.
        TypeError: no draws.
        ValueError: fewer than 2 numbers, or more than 8.
    """
    numbers = _numbers(draws, f, _MOST_PAIRS)
    if len(numbers) < 2:
        raise ValueError(f"f must return two numbers or more, got {', '.join(numbers) or 'none'}")
    names, lost = list(numbers), np.asarray(draws.divergent)
    size = len(names) - 1
    axes = _new(size, size, 2.4 + 2.2 * size, 1.6 + 2 * size)
    for row, column in np.ndindex(size, size):
        if column > row:
            axes[row, column].set_axis_off()
            continue
        x, y = numbers[names[column]], numbers[names[row + 1]]
        axes[row, column].plot(x.ravel(), y.ravel(), ".", ms=2, alpha=0.35, color=_BLUE)
        axes[row, column].plot(x[lost], y[lost], "x", ms=5, mew=1.5, color=_ORANGE)
        if row == size - 1:
            axes[row, column].set(xlabel=names[column])
        if column == 0:
            axes[row, column].set(ylabel=names[row + 1])
    return axes


def plot_forest(draws: Any, f: Callable[[Any], Any] | None = None, axes: Any = None) -> Any:
    """The median of each number of f(x) with 50% and 90% of its draws, and in grey those of each chain alone.

    They are the spread of the target, not how well it is known: that is `draws.expect(f)`, and what the grey lines of
    chains that disagree show.

    Args:
        draws: what `vt.sample` returned.
        f: what to show of a draw; the draw itself if left out.
        axes: matplotlib's axes to draw into; new ones if left out.

    Returns:
        The axes.

    Raises:
        ImportError: there is no matplotlib.
        TypeError: no draws.
        ValueError: more than 24 numbers.
    """
    numbers = _numbers(draws, f, _MOST)
    if axes is None:
        axes = _new(1, 1, 8.0, 0.8 + 0.45 * len(numbers))[0, 0]
    for at, x in enumerate(numbers.values()):
        low, first, median, third, high = np.quantile(x, (0.05, 0.25, 0.5, 0.75, 0.95))
        axes.plot((low, high), (at, at), lw=1.2, color=_BLUE)
        axes.plot((first, third), (at, at), lw=3.5, color=_BLUE)
        axes.plot(median, at, "o", ms=5, mfc="white", mec=_BLUE)
        beneath = at + np.linspace(0.2, 0.4, len(x))
        axes.hlines(beneath, *np.quantile(x, (0.05, 0.95), axis=1), lw=0.8, color=_GREY)
    axes.set(yticks=np.arange(len(numbers)), yticklabels=list(numbers))
    axes.invert_yaxis()
    return axes


def _numbers(draws: Any, f: Callable[[Any], Any] | None, most: int) -> dict[str, np.ndarray]:
    """Each number of f(x) by its name, with axes of chains and of draws."""
    if not all(hasattr(draws, name) for name in ("of", "divergent")):
        raise TypeError(f"draws must be what vt.sample returned, got {checks.describe(draws)}")
    found = dict(_named(draws.of(f)))
    if len(found) > most:
        raise ValueError(f"f must return no more than {most} numbers, so that they can be seen, got {len(found)}")
    return found


def _named(found: Any) -> Iterator[tuple[str, np.ndarray]]:
    for path, x in jax.tree_util.tree_leaves_with_path(found):
        name = jax.tree_util.keystr(path, simple=True, separator=".") or "x"
        yield from ((name + place(index), x[:, :, *index]) for index in np.ndindex(x.shape[2:]))


def _new(rows: int, columns: int, width: float, height: float) -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("a picture needs matplotlib: pip install 'variate[demo]'") from error
    return plt.subplots(rows, columns, figsize=(width, height), layout="constrained", squeeze=False)[1]
