"""The picture of a tuning shows what was measured, and says what it needs."""

import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from variate.diagnostics import plot_tuning
from variate.gradients import Enumerate, LeaveOneOut, Score
from variate.gradients.tuning import Measured, Trial, Tuning

BEST = Trial({"b": Score(LeaveOneOut())}, Measured(2.0, 0.25, 1e-3))
TUNING = Tuning(
    BEST.rules,
    (
        BEST,
        Trial({}, Measured(8.0, 8.0, 2e-3)),
        Trial({"b": Enumerate()}, Measured(0.0, 0.0, 1.0)),
        Trial({}, None, "why"),
    ),
    16,
    8,
)


def test_it_shows_what_varies_with_its_intervals() -> None:
    axes = plot_tuning(TUNING, Figure().subplots())
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b: Score(LeaveOneOut)", "as chosen by default"]
    points, _, (bars,) = axes.containers[0]
    np.testing.assert_allclose(points.get_xdata(), [2.0, 16.0])
    ends = np.array(bars.get_segments())[:, :, 0]
    np.testing.assert_allclose(ends, [[2 - 0.49, 2 + 0.49], [1.6, 16 + 1.96 * 16]])
    assert axes.get_xscale() == "log"
    assert axes.yaxis_inverted()


def test_nothing_to_show_and_nothing_to_show_it_with(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="tuning: expected a trial with a variance, got none"):
        plot_tuning(Tuning({}, TUNING.trials[2:], 16, 8))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"needs matplotlib: pip install 'variate\[demo\]'"):
        plot_tuning(TUNING)
