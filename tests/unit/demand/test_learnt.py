from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from preprov.demand.curve import DemandInputs
from preprov.demand.forecasting import registry
from preprov.demand.forecasting.scaler import ScalerConfig
from preprov.demand.learnt import expected_otherwise, fit_learnt, issue_learnt, learnt_config
from preprov.demand.learnt_model import LearntModel
from preprov.demand.remainder import Remainder, announced, remainder
from preprov.demand.spreading import LearntDemand
from preprov.model.errors import ConfigError, UnsafeModelError
from preprov.model.reference import reference_pool
from preprov.model.resources import KINDS
from preprov.model.series import SeriesHistory
from preprov.model.work import Schedule
from preprov.model.worktable import WorkTable
from tests.unit.demand.work import AT, HOUR, NOW, Run, Task, history, instant, table

CPU, MEMORY = KINDS.index("cpu"), KINDS.index("memory")
NIGHTLY = Schedule("nightly", "p", "0 2 * * *", "UTC")
LIGHT = ScalerConfig(horizon=26, members=registry.NAIVE, track_days=10)


def daily(days: int, *, cores: float = 10.0, hours: float = 2.0, at_hour: float = 15.0) -> list[Run]:
    """Somebody's manual run each afternoon; AT is noon."""
    return [
        Run(
            f"m{d}",
            "adhoc",
            (at_hour - 12) * HOUR - 24 * HOUR * d,
            [Task("t", hours * HOUR, cpu=cores, memory=3 * cores)],
        )
        for d in range(days, 0, -1)
    ]


def given(work: WorkTable, **more: object) -> DemandInputs:
    asked = DemandInputs(
        pool=reference_pool("p"),
        at=AT,
        seen=work.as_of(AT),
        schedules=(NIGHTLY,),
        series=None,
        start=AT,
        horizon_s=24 * 3600,
        step_seconds=300,
        n_samples=60,
        recurring=False,
    )
    return replace(asked, **more)


def issue(asked: DemandInputs, step: int, steps: int) -> LearntDemand:
    covered, _ = expected_otherwise(asked, asked.at)
    return issue_learnt(asked, covered, step, steps)


def past_of(work: WorkTable) -> Remainder:
    return remainder(work.as_of(AT), np.zeros((work.runs["submit"] <= NOW).sum(), dtype=bool), NOW, 300)


# --------------------------------------------------------------------------- what nothing announced


def test_scheduled_runs_are_left_out_manual_ones_and_other_dags_are_not() -> None:
    runs = [
        *history("nightly", [Task("a", 600.0)], days=3),
        Run("again", "nightly", -HOUR, [Task("a", 600.0)]),
        Run("other", "adhoc", -HOUR, [Task("a", 600.0)]),
        Run("data", "fed", -HOUR, [Task("a", 600.0)], trigger="dataset"),
    ]
    work = table(runs)
    left = work.runs["run_id"][~announced(work, (NIGHTLY,))]
    assert left.tolist() == ["again", "other", "data"]
    assert (~announced(work, (NIGHTLY,), ["fed"])).sum() == 2


def test_past_demand_by_the_hour_counts_what_runs_until_now() -> None:
    runs = [Run("done", "d", -3 * HOUR, [Task("a", 1800.0, cpu=4.0)]), Run("on", "d", -HOUR, [Task("a", 1e6)])]
    past = past_of(table(runs))
    assert past.hours[:, CPU].tolist() == [2.0, 0.0, 1.0]
    assert past.mean.shape == past.peak.shape == (3, 12, 5)
    assert past.peak[0, :, CPU].tolist() == [4.0] * 6 + [0.0] * 6
    assert past.end == NOW


def test_at_a_lead_only_younger_demand_is_new() -> None:
    past = past_of(table(daily(30)))
    share = past.fresh_share(np.array([0.0, 1800.0, 3600.0, 7200.0, 86_400.0]), CPU)
    np.testing.assert_allclose(share, [0, 0.25, 0.5, 1, 1], atol=0.01)
    none = past_of(table([]))
    assert none.fresh_share(np.array([0.0, 300.0]), CPU).tolist() == [1.0, 1.0]


# --------------------------------------------------------------------------- the model


def test_demand_that_comes_each_afternoon_is_expected_this_afternoon() -> None:
    asked = given(table(daily(35)))
    model = fit_learnt(asked, LIGHT)
    assert (model.kind, model.source) == ("cpu", "runs")
    found = issue(asked.with_learnt(model), 300, 288)
    hours = found.mean.mean(axis=0).reshape(24, 12, 5).mean(axis=1)
    assert hours[3:5, CPU] == pytest.approx(10.0, rel=0.2)
    assert hours[3:5, MEMORY] == pytest.approx(30.0, rel=0.2)
    assert hours[:2, CPU].max() < 2
    assert hours[8:, CPU].max() < 2
    assert (found.peak >= found.mean - 1e-5).all()
    assert found.basis["learnt_from"] == "runs"
    assert found.basis["fallback"] == ""


def test_without_a_model_past_days_are_taken_and_it_says_so() -> None:
    found = issue(given(table(daily(35))), 3600, 24)
    assert found.mean[:, 3:5, CPU].mean() == pytest.approx(10.0, rel=0.2)
    assert "no model" in str(found.basis["fallback"])


def test_peaks_within_an_hour_are_as_they_were() -> None:
    """Demand of two minutes in each hour: its hourly mean is small, its peak is not."""
    runs = [Run(f"b{i}", "burst", -HOUR * i + 600, [Task("t", 120.0, cpu=60.0)]) for i in range(24 * 30, 0, -1)]
    found = issue(given(table(runs)), 3600, 24)
    assert np.median(found.mean[:, 2:, CPU]) == pytest.approx(2.0, rel=0.1)
    assert np.median(found.peak[:, 2:, CPU]) == pytest.approx(60.0, rel=0.1)


def test_a_short_history_and_none_at_all() -> None:
    for runs in ([], daily(1), daily(3)):
        asked = given(table(runs))
        model = fit_learnt(asked, LIGHT)
        found = issue(asked.with_learnt(model), 300, 288)
        assert found.mean.shape == (60, 288, 5)
        assert np.isfinite(found.mean).all()
        assert found.basis["fallback"]
    assert model.scaler is not None
    assert fit_learnt(given(table([])), LIGHT).scaler is None


def test_a_pool_whose_history_is_a_series() -> None:
    hours = 24 * 40
    index = pd.date_range(AT - timedelta(hours=hours), periods=hours + 24, freq="h")
    values = np.where((index.hour >= 15) & (index.hour < 17), 100.0, 20.0)
    series = SeriesHistory("s", "UTC", 3600, index[0].to_pydatetime(), values)
    asked = given(table([]), series=series, schedules=())
    model = fit_learnt(asked, LIGHT)
    assert model.source == "series"
    found = issue(asked.with_learnt(model), 300, 288)
    hourly = found.mean[:, :, CPU].mean(axis=0).reshape(24, 12).mean(axis=1)
    assert hourly[[3, 4]] == pytest.approx(100, rel=0.1)
    assert hourly[8] == pytest.approx(20, rel=0.1)
    assert issue(asked, 300, 288).mean[:, 40, CPU].mean() == pytest.approx(100, rel=0.1)


def test_a_series_of_finer_steps_is_read_by_the_hour_and_of_odd_ones_says_so() -> None:
    values = np.tile(np.arange(4.0), 24 * 30)
    fine = SeriesHistory("s", "UTC", 900, AT - timedelta(days=30, minutes=30), values)
    found = issue(given(table([]), series=fine, schedules=()), 3600, 24)
    assert found.mean[:, :, CPU] == pytest.approx(1.5, abs=0.01)
    daily_steps = SeriesHistory("s", "UTC", 86_400, AT - timedelta(days=30), np.ones(30))
    odd = issue(given(table([]), series=daily_steps, schedules=()), 3600, 24)
    assert "steps of 86400 s" in str(odd.basis["fallback"])
    assert not odd.mean.any()


def test_the_model_comes_back_from_its_bytes_the_same() -> None:
    asked = given(table(daily(35)))
    model = fit_learnt(asked, LIGHT)
    again = LearntModel.from_bytes(model.to_bytes(), version="v1")
    assert again.version == "v1"
    assert (again.kind, again.source, dict(again.metrics)) == (model.kind, model.source, dict(model.metrics))
    a, b = (issue(asked.with_learnt(m), 300, 288) for m in (model, again))
    assert np.array_equal(a.mean, b.mean)
    empty = LearntModel.from_bytes(LearntModel(None, reason="nothing").to_bytes())
    assert (empty.scaler, empty.reason) == (None, "nothing")


@pytest.mark.parametrize(
    "blob", [b"", b"\x80\x04\x95", b'{"format": "other"}\n', b'{"format": "preprov-learnt/1"}\nxx']
)
def test_bytes_of_something_else_are_refused(blob: bytes) -> None:
    with pytest.raises(UnsafeModelError):
        LearntModel.from_bytes(blob)


def test_steps_may_begin_anywhere() -> None:
    asked = given(table(daily(35)))
    model = fit_learnt(asked, LIGHT)
    odd = replace(asked.with_learnt(model), start=instant(37 * 60 + 13), at=instant(37 * 60 + 13))
    found = issue(replace(odd, seen=table(daily(35)).as_of(odd.at)), 300, 288)
    hours = found.mean[:, :, CPU].mean(axis=0)
    busy = np.flatnonzero(hours > 5) * 300 + 37 * 60 + 13
    assert 2.9 * HOUR <= busy[0] <= 3.2 * HOUR
    tomorrow = replace(asked.with_learnt(model), start=datetime(2026, 3, 11, tzinfo=UTC))
    next_day = issue(tomorrow, 3600, 24).mean[:, :, CPU].mean(axis=0)
    assert next_day[15:17] == pytest.approx(10.0, rel=0.3)


def test_a_pool_may_let_installed_forecasters_join_and_names_that_nobody_offers_are_an_error() -> None:
    asked = given(table(daily(35)))
    joined = replace(asked, pool=replace(asked.pool, forecasters=("last", "nobody")))
    assert learnt_config(joined).members == (*learnt_config(asked).members, "nobody")
    with pytest.raises(ConfigError, match="nobody"):
        fit_learnt(joined)
