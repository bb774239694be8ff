"""Issued forecasts against what came."""

from datetime import timedelta

import numpy as np
import pytest

from preprov.demand.watching.scoring import came, came_in, score, usual_change
from preprov.model.demand import DemandCurve
from preprov.model.resources import KINDS
from preprov.model.series import SeriesHistory
from tests.unit.demand.work import AT, HOUR, Run, Task, instant, table

CPU = KINDS.index("cpu")


def curve(low: float, high: float, hours: int = 24) -> DemandCurve:
    """Samples spread evenly from low to high in every hour; the peak is twice the mean."""
    mean = np.zeros((101, hours, 5), np.float32)
    mean[:, :, CPU] = np.linspace(low, high, 101)[:, None]
    return DemandCurve("p", AT, AT, 3600, 2 * mean, mean)


def test_the_mean_of_each_hour_is_scored_and_an_hour_that_is_not_known_is_not() -> None:
    actual = np.full(24, 5.0)
    actual[3] = np.nan
    found = score(curve(0, 10), actual, np.ones(24), "cpu")
    assert found.loss[3] is None
    assert sum(v is not None for v in found.loss) == 23
    assert (found.coverage80, found.coverage90) == (1.0, 1.0)
    assert 0 < found.wql < 0.5
    nothing = score(curve(0, 10), np.full(24, np.nan), np.ones(24), "cpu")
    assert (nothing.coverage80, nothing.coverage90, nothing.wql) == (None, None, None)


def test_coverage_is_the_share_of_hours_inside() -> None:
    found = score(curve(0, 10), np.array([0.7, 5.0, 9.3, 9.7] * 6), np.ones(24), "cpu")
    assert found.coverage80 == pytest.approx(0.25)
    assert found.coverage90 == pytest.approx(0.75)
    certain = score(curve(5, 5), np.full(24, 5.0), np.ones(24), "cpu")
    assert (certain.coverage80, certain.wql) == (1.0, pytest.approx(0, abs=1e-6))


def test_the_loss_is_in_units_of_the_usual_change() -> None:
    actual = np.full(24, 30.0)
    small, large = (score(curve(0, 10), actual, np.full(24, u), "cpu").loss[0] for u in (1.0, 10.0))
    assert small == pytest.approx(10 * large)


def test_what_is_usual_is_never_nothing() -> None:
    days = np.tile(np.arange(24.0), 10)
    assert (usual_change(days, 24) > 0).all()
    assert (usual_change(np.full(48, np.nan), 24) > 0).all()
    assert (usual_change(np.zeros(0), 24) > 0).all()
    moved = days.reshape(10, 24) + np.arange(10)[:, None] % 2
    assert usual_change(moved.ravel(), 24) == pytest.approx(np.ones(24))


def test_what_came_counts_tasks_by_the_time_they_ran() -> None:
    runs = [
        Run("a", "d", -3 * HOUR, [Task("t", 1800.0, cpu=4.0)]),
        Run("b", "d", -2 * HOUR, [Task("t", 7200.0, cpu=2.0)]),
        Run("c", "d", -0.5 * HOUR, [Task("t", 1e6, cpu=1.0)]),
    ]
    found = came(table(runs).as_of(AT), AT, instant(-4 * HOUR), 3600, 5, "cpu")
    assert found[:4].tolist() == [0.0, 2.0, 2.0, 2.5]
    assert np.isnan(found[4]), "an hour that is not over yet"


def test_what_came_of_a_series() -> None:
    series = SeriesHistory("s", "UTC", 1800, AT - timedelta(hours=4), np.arange(8.0))
    found = came_in(series, AT - timedelta(hours=5), 3600, 6)
    np.testing.assert_array_equal(found, [np.nan, 0.5, 2.5, 4.5, 6.5, np.nan])
    assert np.isnan(came_in(series, AT - timedelta(minutes=10), 3600, 2)).all()
