"""Pictures of draws show what they say, and say what they need."""

import sys
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from variate.diagnostics import plot_forest, plot_pairs, plot_ranks
from variate.running import Draws

RANDOM = np.random.default_rng(0)
LOST = np.arange(800).reshape(4, 200) % 400 == 7


@pytest.fixture(autouse=True)
def no_window() -> None:
    mpl.use("agg")


def draws(shift: float = 0.0) -> Draws:
    x = RANDOM.normal(size=(4, 200, 2)) + np.array([0.0, 10.0])
    x[3] += shift
    ones = np.ones((4, 200))
    return Draws({"mu": x[..., 0], "z": x}, ones, LOST, ones.astype(int))


def test_ranks_of_chains_that_agree_are_between_the_lines_and_of_one_elsewhere_are_not() -> None:
    axes = plot_ranks(draws(), lambda x: x["mu"])
    assert axes.shape == (1, 2)
    assert [line.get_xydata().shape for line in axes[0, 0].lines] == [(200, 2)] * 4

    def beyond(axes: Any) -> float:
        low, high = (line.get_ydata()[0] for line in axes[0, 1].lines)
        assert low + high == pytest.approx(2)
        shares = np.array([patch.get_data().values for patch in axes[0, 1].patches])
        np.testing.assert_allclose(shares.mean(1), 1)
        return float(np.mean((shares < low) | (shares > high)))

    # 80 shares, each outside with 5%: 15 of them once in 100,000.
    assert beyond(axes) < 15 / 80
    assert beyond(plot_ranks(draws(3.0), lambda x: x["mu"])) > 15 / 80


def test_pairs_mark_the_draws_whose_steps_diverged() -> None:
    shown = draws()
    axes = plot_pairs(shown)
    assert axes.shape == (2, 2)
    assert [axes[1, 0].get_xlabel(), axes[1, 1].get_xlabel()] == ["mu", "z[0]"]
    assert [axes[0, 0].get_ylabel(), axes[1, 0].get_ylabel()] == ["z[0]", "z[1]"]
    everything, crosses = axes[1, 0].lines
    assert len(everything.get_xdata()) == 800
    np.testing.assert_array_equal(crosses.get_xdata(), np.asarray(shown.values["mu"])[LOST])
    np.testing.assert_array_equal(crosses.get_ydata(), np.asarray(shown.values["z"])[LOST, 1])
    assert not axes[0, 1].axison


def test_a_forest_has_the_quantiles_of_all_and_of_each_chain() -> None:
    shown = draws(1.0)
    axes = plot_forest(shown, axes=Figure().subplots())
    assert [label.get_text() for label in axes.get_yticklabels()] == ["mu", "z[0]", "z[1]"]
    x = np.asarray(shown.values["mu"])
    wide, narrow, median = axes.lines[:3]
    np.testing.assert_allclose(wide.get_xdata(), np.quantile(x, (0.05, 0.95)))
    np.testing.assert_allclose(narrow.get_xdata(), np.quantile(x, (0.25, 0.75)))
    np.testing.assert_allclose(median.get_xdata(), np.quantile(x, 0.5))
    alone = np.array(axes.collections[0].get_segments())[:, :, 0]
    np.testing.assert_allclose(alone, np.quantile(x, (0.05, 0.95), axis=1).T)


def test_what_cannot_be_shown_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for plot in (plot_ranks, plot_pairs, plot_forest):
        with pytest.raises(TypeError, match=r"draws must be what vt.sample returned, got"):
            plot(SimpleNamespace())
        with pytest.raises(ValueError, match="f must return no more than"):
            plot(draws(), lambda x: x["mu"] + np.zeros(25))
    with pytest.raises(ValueError, match="f must return two numbers or more, got x"):
        plot_pairs(draws(), lambda x: x["mu"])
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    for plot in (plot_ranks, plot_pairs, plot_forest):
        with pytest.raises(ImportError, match=r"needs matplotlib: pip install 'variate\[demo\]'"):
            plot(draws())


def test_plots_of_arviz_are_given_what_they_take() -> None:
    def counted(tree: Any, factor: int) -> int:
        return factor * tree["posterior"].sizes["draw"]

    assert draws().plot(counted, factor=2) == 2 * draws().acceptance.shape[1]
    with pytest.raises(TypeError, match="picture must be a function of ArviZ's"):
        draws().plot("forest")


def test_without_arviz_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(ImportError, match=r"variate\[arviz\]"):
        draws().plot()


@pytest.mark.filterwarnings("ignore")
def test_the_trace_is_what_arviz_draws_unless_told() -> None:
    import arviz

    before = len(plt.get_fignums())
    draws().plot()
    draws().plot(arviz.plot_forest, combined=True)
    assert len(plt.get_fignums()) == before + 2
