"""The scaler through its public doors: no leak, the same bits, dirty histories, honest joint samples, safe storage."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprov.demand.forecasting.scaler import QUANTILES, LearntForecast, ScalerConfig, ScalerModel
from preprov.demand.forecasting.storage import from_bytes, to_bytes
from preprov.model.errors import ForecastError
from preprov.model.series import SeriesHistory
from tests.unit.demand.forecasting.series_samples import CONFIG, START, daily, history

CUT = 45 * 24


@pytest.fixture(scope="module")
def known() -> SeriesHistory:
    return history(daily(60)).window(0, CUT)


@pytest.fixture(scope="module")
def model(known: SeriesHistory) -> ScalerModel:
    return ScalerModel.fit(known, CONFIG, seed=4)


def same(left: LearntForecast, right: LearntForecast) -> None:
    np.testing.assert_array_equal(left.values, right.values)
    np.testing.assert_array_equal(left.samples, right.samples)
    assert left.weights == right.weights


def sound(forecast: LearntForecast, horizon: int = 24) -> None:
    assert forecast.values.shape == (horizon, len(forecast.quantiles))
    assert np.isfinite(forecast.values).all()
    assert np.isfinite(forecast.samples).all()
    assert (np.diff(forecast.values, axis=1) >= 0).all()
    assert forecast.values.min() >= 0
    assert sum(forecast.weights.values()) == pytest.approx(1.0)


def test_shuffling_everything_after_the_cutoff_changes_no_bit() -> None:
    values, load, strange = daily(60), daily(60, seed=8), np.zeros(60 * 24, dtype=bool)
    other, other_load, other_strange = values.copy(), load.copy(), strange.copy()
    rng = np.random.default_rng(1)
    other[CUT:], other_load[CUT:], other_strange[CUT:] = (
        rng.permutation(other[CUT:]) * 3,
        rng.permutation(load[CUT:]),
        1,
    )
    cutoff = START + timedelta(hours=CUT)
    forecasts = []
    for series, beside, kept_out in ((values, load, strange), (other, other_load, other_strange)):
        seen = history(series, exogenous={"load": beside}, quarantined=kept_out).until(cutoff)
        assert len(seen) == CUT
        forecasts.append(ScalerModel.fit(seen, CONFIG, seed=4).predict(seen))
    same(*forecasts)


def test_the_same_seed_gives_the_same_bits_and_storage_keeps_them(known: SeriesHistory, model: ScalerModel) -> None:
    data = to_bytes(model)
    assert data == to_bytes(ScalerModel.fit(known, CONFIG, seed=4))
    same(model.predict(known), from_bytes(data).predict(known))


def test_a_forecast_says_how_it_was_made(known: SeriesHistory, model: ScalerModel) -> None:
    forecast = model.predict(known)
    sound(forecast)
    assert forecast.quantiles == QUANTILES
    assert forecast.issued_at == known.end
    assert forecast.fallback_reason is None
    assert 0.5 <= forecast.coverage["80"] <= 1.0
    assert forecast.coverage["points"] == 14 * 24
    assert next(iter(forecast.importances.values())) == max(forecast.importances.values())
    assert len(forecast.top_features) == 24
    assert all(len(hour) == 3 for hour in forecast.top_features)


def test_it_beats_copying_yesterday_on_a_daily_wave(model: ScalerModel) -> None:
    values = daily(60)
    error, naive = [], []
    for day in range(45, 52):
        seen = history(values).window(0, day * 24)
        median = model.predict(seen).values[:, QUANTILES.index(0.5)]
        error.append(np.abs(median - values[day * 24 : day * 24 + 24]).mean())
        naive.append(np.abs(values[day * 24 - 24 : day * 24] - values[day * 24 : day * 24 + 24]).mean())
    assert np.mean(error) < np.mean(naive)


def test_it_is_asked_again_as_the_series_grows(model: ScalerModel) -> None:
    longer = history(daily(60)).window(0, CUT + 5 * 24)
    forecast = model.predict(longer)
    sound(forecast)
    assert forecast.issued_at == longer.end
    assert forecast.coverage["points"] == (14 + 5) * 24  # the days since the fit are scored too, out of sample


def test_a_refit_goes_on_with_the_record_of_the_model_before(model: ScalerModel) -> None:
    longer = history(daily(60)).window(0, CUT + 7 * 24)
    following = ScalerModel.fit(longer, CONFIG, seed=5, previous=model)
    assert len(following.track) == len(model.track) + 7
    np.testing.assert_array_equal(following.track.said[: len(model.track)], model.track.said)
    sound(following.predict(longer))


@pytest.mark.parametrize("horizon", [6, 24, 30])
def test_past_forecasts_begin_at_the_time_of_day_of_the_next_one(horizon: int) -> None:
    known = history(daily(20)[: 20 * 24 - 7])
    model = ScalerModel.fit(known, replace(CONFIG, members=("last", "snaive24"), horizon=horizon))
    following = model.trained_until + 1
    assert set((model.track.origins + 1) % 24) == {following % 24}
    assert np.isfinite(model.track.came).all()


def test_a_record_of_another_configuration_is_not_taken_over(model: ScalerModel) -> None:
    longer = history(daily(60)).window(0, CUT + 7 * 24)
    other = replace(CONFIG, members=("last", "snaive24"))
    assert len(ScalerModel.fit(longer, other, seed=5, previous=model).track) == 14


def test_any_horizon_and_quantiles_may_be_asked_for(known: SeriesHistory, model: ScalerModel) -> None:
    forecast = model.predict(known, 60, (0.005, 0.5, 0.995))
    sound(forecast, 60)
    assert forecast.samples.shape == (CONFIG.samples, 60)


def test_samples_have_the_marginals_and_move_together(known: SeriesHistory, model: ScalerModel) -> None:
    forecast = model.predict(known)
    drawn = np.quantile(forecast.samples, (0.25, 0.5, 0.75), axis=0).T
    width = forecast.values[:, -1] - forecast.values[:, 0] + 1e-9
    asked = forecast.values[:, [QUANTILES.index(q) for q in (0.25, 0.5, 0.75)]]
    assert (np.abs(drawn - asked) / width[:, None]).max() < 0.06
    middle = (forecast.samples.argsort(axis=0).argsort(axis=0)).astype(float)
    near, far = np.corrcoef(middle[:, 5], middle[:, 6])[0, 1], np.corrcoef(middle[:, 0], middle[:, 23])[0, 1]
    assert near > 0.6
    assert near > far


@pytest.mark.parametrize(("days", "says"), [(0.1, "naive"), (1, "naive"), (3, "naive"), (9, "naive"), (20, "beaten")])
def test_a_short_history_falls_back_and_says_why(days: float, says: str) -> None:
    short = history(daily(30)[: round(days * 24)])
    forecast = ScalerModel.fit(short, CONFIG).predict(short)
    sound(forecast)
    assert forecast.fallback_reason is not None
    assert "28 are needed" in forecast.fallback_reason
    assert says in forecast.fallback_reason
    assert ("forest_change" in forecast.weights) == (says == "beaten")


def test_next_to_no_history_is_the_last_value() -> None:
    forecast = ScalerModel.fit(history(np.array([4.0, 6.0])), CONFIG).predict(history(np.array([4.0, 6.0])))
    assert forecast.weights == {"last": 1.0, "snaive24": 0.0, "snaive168": 0.0, "profile7": 0.0}
    assert forecast.values[0, QUANTILES.index(0.5)] == pytest.approx(6.0, abs=1.0)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(np.full(40 * 24, 7.0), id="constant"),
        pytest.param(np.zeros(40 * 24), id="zeros"),
        pytest.param(np.where(np.arange(40 * 24) % 5 == 0, np.nan, daily(40)), id="holes"),
        pytest.param(np.concatenate([daily(20), np.full(10 * 24, np.nan), daily(12)]), id="ten days missing"),
        pytest.param(np.concatenate([daily(35), 10 * daily(5)]), id="level x10"),
        pytest.param(np.concatenate([np.full(5 * 24, np.nan), daily(35)]), id="begins unknown"),
        pytest.param(np.concatenate([daily(40), np.full(30, np.nan)]), id="ends unknown"),
        pytest.param(np.concatenate([[5.0], np.full(40 * 24, np.nan), [6.0]]), id="two steps"),
        pytest.param(daily(40) * 1e9, id="huge"),
        pytest.param(daily(40) * 1e-9, id="tiny"),
    ],
)
def test_a_dirty_history_gives_a_forecast_all_the_same(values: np.ndarray) -> None:
    dirty = history(values)
    sound(ScalerModel.fit(dirty, CONFIG, seed=1).predict(dirty))


def test_the_hour_that_the_clocks_repeat_is_no_dirt_to_a_model() -> None:
    local = pd.date_range("2025-10-01", "2025-11-05", freq="h", tz="Europe/Zurich").tz_localize(None)
    rows = pd.DataFrame({"ts": local, "demand": daily(40)[: len(local)]})
    doubled = SeriesHistory.from_wall_clock(rows, name="pool", zone="Europe/Zurich")
    assert doubled.dirt.total == 0
    sound(ScalerModel.fit(doubled, CONFIG, seed=1).predict(doubled))


def test_a_constant_stays_constant() -> None:
    flat = history(np.full(40 * 24, 7.0))
    np.testing.assert_allclose(ScalerModel.fit(flat, CONFIG).predict(flat).values, 7.0, rtol=1e-6)


@pytest.mark.parametrize("values", [np.full(100, np.nan), np.zeros(0)])
def test_nothing_known_is_an_error(values: np.ndarray) -> None:
    with pytest.raises(ForecastError, match="not one step"):
        ScalerModel.fit(history(values), CONFIG)


def test_a_model_refuses_what_is_not_its_series(known: SeriesHistory, model: ScalerModel) -> None:
    with pytest.raises(ForecastError, match="later steps"):
        model.predict(known.window(0, CUT - 24))
    with pytest.raises(ForecastError, match="steps of 3600 s"):
        model.predict(history(daily(60), step_seconds=1800))
    with pytest.raises(ForecastError, match="horizon"):
        model.predict(known, 0)


def test_system_load_is_learnt_from_and_asked_for_again() -> None:
    values = daily(40)
    loaded = history(values, exogenous={"queue": np.roll(values, -1)})
    model = from_bytes(to_bytes(ScalerModel.fit(loaded, CONFIG)))
    forecast = model.predict(loaded)
    sound(forecast)
    assert {"queue_last", "queue_mean_24h"} <= set(forecast.importances)
    with pytest.raises(ForecastError, match="fitted with queue"):
        model.predict(history(values))


def test_members_that_need_more_than_there_is_leave_the_last_value() -> None:
    config = replace(CONFIG, members=("linear",))
    short = history(daily(12))
    forecast = ScalerModel.fit(short, config).predict(short)
    sound(forecast)
    assert forecast.weights == {"last": 1.0}
    assert set(forecast.left_out) == {"linear"}
    assert forecast.coverage["points"] > 0


def test_quarantined_days_do_not_move_the_forecast() -> None:
    values, quarantined = daily(45), np.zeros(45 * 24, dtype=bool)
    values[30 * 24 : 31 * 24], quarantined[30 * 24 : 31 * 24] = 9_000.0, True
    strange = history(values, quarantined=quarantined)
    assert ScalerModel.fit(strange, CONFIG, seed=2).predict(strange).values.max() < 500


@pytest.mark.slow
def test_five_minute_steps_work_as_well() -> None:
    fine = history(daily(30, per_day=288), step_seconds=300)
    config = replace(CONFIG, members=("last", "snaive24", "linear", "forest_change"), horizon=36)
    sound(ScalerModel.fit(fine, config, seed=1).predict(fine), 36)


@settings(max_examples=15)
@given(st.lists(st.one_of(st.none(), st.floats(0, 1e7)), min_size=1, max_size=90))
def test_no_history_of_any_kind_makes_it_fail(raw: list[float | None]) -> None:
    values = np.array([np.nan if v is None else v for v in raw])
    if not np.isfinite(values).any():
        return
    odd = history(values)
    sound(ScalerModel.fit(odd, ScalerConfig(samples=20, track_days=5)).predict(odd))
