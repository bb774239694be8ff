"""Every member: nothing from after the origin, the same bits from one seed and after storage, ordered quantiles."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from preprov.demand.forecasting import boosting
from preprov.demand.forecasting.calendar import NAMES, calendar
from preprov.demand.forecasting.forest import Forest, flatten
from preprov.demand.forecasting.member import Member, Public, learnable_rows, on_grid, thinned
from preprov.demand.forecasting.protocol import FittedForecaster, Forecaster
from preprov.demand.forecasting.quantiles import GRID
from preprov.demand.forecasting.registry import DEFAULT, members
from preprov.demand.forecasting.view import View, fill
from preprov.model.errors import ForecastError, UnsafeModelError
from tests.unit.demand.forecasting.series_samples import SMALL, daily, history

NAMED = [name for name in DEFAULT if name != "lightgbm" or boosting.available()]
CUT = 40 * 24


def member(name: str) -> Member:
    return members((name,), effort=SMALL)[0]


@pytest.mark.parametrize("name", NAMED)
def test_what_comes_after_the_origin_changes_no_bit(name: str) -> None:
    values, load = daily(50), daily(50, seed=8)
    values[500:520], values[CUT - 60], load[CUT - 5 : CUT] = np.nan, np.nan, np.nan
    strange = np.zeros(len(values), dtype=bool)
    strange[600:624] = True
    other, other_load, other_strange = values.copy(), load.copy(), strange.copy()
    rng = np.random.default_rng(9)
    other[CUT:] = rng.permutation(other[CUT:]) * 7
    other[CUT + 3 : CUT + 40] = np.nan
    other_load[CUT:], other_strange[CUT:] = rng.permutation(load[CUT:]), True
    origins = np.array([CUT - 49, CUT - 1])
    said = []
    for series, beside, kept_out in ((values, load, strange), (other, other_load, other_strange)):
        known = history(series, exogenous={"load": beside}, quarantined=kept_out)
        fitted = member(name).fit_view(View(known.window(0, CUT)), 24, seed=3)
        said.append(fitted.predict_at(View(known), origins, 24, GRID))
    assert np.isfinite(said[0]).all()
    np.testing.assert_array_equal(said[0], said[1])


@pytest.mark.parametrize("name", NAMED)
def test_forecasts_are_finite_ordered_and_survive_storage(name: str) -> None:
    view = View(history(daily(40)))
    fitted = member(name).fit_view(view, 24, seed=1)
    again = member(name).restore(fitted.state())
    origins = np.array([len(view) - 30, len(view) - 1])
    said = fitted.predict_at(view, origins, 30, GRID)
    assert said.shape == (2, 30, len(GRID))
    assert np.isfinite(said).all()
    assert (np.diff(said, axis=-1) >= -1e-9).all()
    np.testing.assert_array_equal(said, again.predict_at(view, origins, 30, GRID))


@pytest.mark.parametrize("name", NAMED)
def test_a_member_stands_behind_the_public_protocol(name: str) -> None:
    alone = Public(member(name), horizon=24)
    assert isinstance(alone, Forecaster)
    known = history(daily(32))
    fitted = alone.fit(known, seed=0)
    assert isinstance(fitted, FittedForecaster)
    assert fitted.predict(known, 24, (0.1, 0.9)).shape == (24, 2)
    assert alone.restore(fitted.state()).predict(known, 1, (0.5,)).shape == (1, 1)
    assert alone.min_steps >= 1


@pytest.mark.parametrize("name", ["forest_level", "forest_change", "linear", "snaive24"])
def test_quarantined_steps_are_not_learnt_from(name: str) -> None:
    clean, quarantined = daily(40), np.zeros(40 * 24, dtype=bool)
    strange = clean.copy()
    strange[480:504], quarantined[480:504] = 5_000.0, True
    view = View(history(strange, quarantined=quarantined))
    fitted = member(name).fit_view(view, 24, seed=2)
    assert fitted.predict_at(view, np.array([len(view) - 1]), 24, GRID).max() < 1_000


def test_the_last_value_is_the_median_of_the_last_value() -> None:
    flat = np.full(40 * 24, 12.0)
    fitted = member("last").fit_view(View(history(flat)), 24, seed=0)
    assert (fitted.predict_at(View(history(flat)), np.array([900]), 24, GRID) == 12.0).all()


def test_seasonal_copies_only_look_back() -> None:
    view = View(history(np.arange(20 * 24.0)))
    origins, ahead = np.array([300, 300, 300]), np.array([1, 24, 25])
    assert view.back(origins, ahead, 24, 2).tolist() == [[277, 253], [300, 276], [277, 253]]


@pytest.mark.parametrize("period", [24, 168])
def test_lags_before_the_beginning_stay_inside(period: int) -> None:
    view = View(history(daily(3)))
    position = view.back(np.array([0, 5, 30]), np.array([1, 24, 40]), period, 4)
    assert position.min() >= 0
    assert (position <= np.array([[0], [5], [30]])).all()


def test_the_flat_forest_answers_as_the_library_does() -> None:
    from quantile_forest import ExtraTreesQuantileRegressor

    view = View(history(daily(40)))
    origins, ahead = learnable_rows(view, 24, 2_000, seed=5)
    rows, target = view.rows(origins, ahead), view.filled[origins + ahead]
    grown = ExtraTreesQuantileRegressor(
        n_estimators=10, min_samples_leaf=8, max_samples_leaf=8, n_jobs=1, random_state=5
    ).fit(rows, target)
    flat = on_grid(flatten(grown, np.sort(target)).samples(rows[:40]), (0.1, 0.5, 0.9))
    theirs = grown.predict(rows[:40], quantiles=[0.1, 0.5, 0.9], aggregate_leaves_first=True)
    np.testing.assert_allclose(flat, theirs, rtol=1e-5)


def test_effects_of_features_add_up_to_the_forests_move_from_its_average() -> None:
    view = View(history(daily(40)))
    forest = Forest(change=False, trees=8, rows=1_500).fit_view(view, 24, seed=0)
    rows = view.rows(np.full(24, len(view) - 1), np.arange(1, 25))
    trees = forest.trees
    *_, leaf = trees._descent(rows)
    moved = trees.means[leaf].mean(axis=1) - trees.means[trees.roots].mean()
    np.testing.assert_allclose(trees.effects(rows).sum(axis=1), moved, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("left", np.zeros(3, dtype=np.int32)),
        ("right", None),
        ("leaves", np.array([["x"]])),
        ("feature", np.array([1.5])),
    ],
)
def test_a_damaged_forest_is_refused(key: str, value: np.ndarray | None) -> None:
    forest = Forest(trees=3, rows=500)
    state = dict(forest.fit_view(View(history(daily(30))), 24, seed=0).state())
    if value is None:
        del state[key]
    else:
        state[key] = value
    with pytest.raises(UnsafeModelError):
        forest.restore(state)


def test_a_forest_that_would_loop_is_refused() -> None:
    forest = Forest(trees=3, rows=500)
    state = dict(forest.fit_view(View(history(daily(30))), 24, seed=0).state())
    state["left"] = np.where(state["left"] >= 0, 0, -1).astype(np.int32)
    with pytest.raises(UnsafeModelError, match="damaged"):
        forest.restore(state)


def test_the_calendar_follows_the_zone_and_the_holidays() -> None:
    import pandas as pd

    instants = pd.DatetimeIndex([datetime(2025, 12, 24, 23, tzinfo=UTC), datetime(2025, 7, 31, 21, tzinfo=UTC)])
    rows = calendar(instants.tz_convert("Europe/Zurich"), "CH")
    christmas, july = dict(zip(NAMES, rows[0], strict=True)), dict(zip(NAMES, rows[1], strict=True))
    assert (christmas["hour"], christmas["day_of_month"], christmas["holiday"]) == (0.0, 25.0, 1.0)
    assert (july["hour"], july["days_to_month_end"], july["days_to_quarter_end"]) == (23.0, 0.0, 61.0)
    assert july["day_before_holiday"] == 1.0
    assert calendar(instants, None)[:, NAMES.index("holiday")].sum() == 0
    with pytest.raises(ForecastError, match="no holidays known"):
        calendar(instants, "XX")


def test_gaps_are_filled_from_their_past_alone() -> None:
    values = daily(20)
    values[300:302] = np.nan
    values[320:340] = np.nan
    missing = np.isnan(values)
    filled = fill(values, missing, 24)
    assert (filled[300:302] == values[299]).all()
    np.testing.assert_array_equal(filled[323:340], values[323 - 168 : 340 - 168])
    other = values.copy()
    other[341:] = 0.0
    np.testing.assert_array_equal(fill(other, missing, 24)[:341], filled[:341])


def test_drawn_rows_never_reach_into_what_may_not_be_learnt() -> None:
    values, quarantined = daily(30), np.zeros(30 * 24, dtype=bool)
    values[100:150], quarantined[400:450] = np.nan, True
    view = View(history(values, quarantined=quarantined))
    origins, ahead = learnable_rows(view, 24, 4_000, seed=1)
    assert view.learnable[origins + ahead].all()
    assert (origins + ahead < len(view)).all()
    assert len(set(zip(origins.tolist(), ahead.tolist(), strict=True))) == len(origins)


def test_at_fine_steps_every_time_of_day_stays_among_the_origins() -> None:
    assert len(thinned(np.arange(9_600), 24, 24)) == 9_600
    fine = thinned(np.arange(115_200), 288, 288)
    assert len(fine) < 8_000
    assert fine[-1] == 115_199
    assert len(set(fine % 288)) == 288


def test_system_load_becomes_features() -> None:
    known = history(daily(30), exogenous={"queue": np.arange(30 * 24.0)})
    view = View(known)
    assert {"queue_last", "queue_mean_24h"} <= set(view.names())
    row = view.rows(np.array([500]), np.array([5]))[0]
    assert row[view.names().index("queue_last")] == 500.0
    assert len(row) == len(view.names())


def test_members_that_are_not_there_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boosting, "available", lambda: False)
    assert [m.name for m in members(("last", "lightgbm"))] == ["last"]
    assert replace(Forest(), days=3.0).min_days() == 3.0
