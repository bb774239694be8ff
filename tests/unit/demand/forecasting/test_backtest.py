"""The yardstick: who is judged on what, and the JSON it gives."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preprov.control.backtest_forecast import run_forecast_backtest
from preprov.demand.forecasting.backtest import Plan, backtest_series, origins, quick_choice, summary
from preprov.demand.forecasting.metrics import geometric, metrics
from preprov.demand.forecasting.peers import PEERS, peers
from preprov.demand.forecasting.scaler import QUANTILES
from preprov.model.errors import ConfigError, ForecastError
from preprov.model.series import SeriesHistory
from tests.unit.demand.forecasting.series_samples import CONFIG, daily, history

NAIVE = ("last", "snaive24", "snaive168", "profile7")


def table(days: int = 20, names: tuple[str, ...] = ("a", "b")) -> list[SeriesHistory]:
    return [replace(history(daily(days, seed=i)), name=name) for i, name in enumerate(names)]


def without_timing(result: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in result.items() if not key.endswith("_seconds")}
    return {**kept, "peers": {who: without_timing(rival) for who, rival in result.get("peers", {}).items()}}


def test_the_last_two_fifths_of_the_days_are_judged_from_local_midnight() -> None:
    known = history(daily(50))
    starts = origins(known, Plan())
    local = known.local_index()[starts]
    assert set(local.hour) == {0}
    assert len(starts) == 20
    assert starts[-1] + 24 <= len(known)
    assert len(origins(history(daily(400)), Plan())) == 60
    assert origins(known, Plan(days=5)).tolist() == starts[-5:].tolist()
    assert origins(known, Plan(days=5, skip_days=3)).tolist() == starts[-8:-3].tolist()
    with pytest.raises(ForecastError, match="too few"):
        origins(history(daily(2)), Plan())


def test_metrics_of_a_perfect_and_of_a_blunt_forecast() -> None:
    actual = np.array([10.0, 20.0, np.nan])
    perfect = np.repeat(actual[:, None], len(QUANTILES), axis=1)
    scores = metrics(actual, perfect, QUANTILES, season_error=5.0)
    assert (scores["wql"], scores["wape"], scores["mase"], scores["pinball95"]) == (0, 0, 0, 0)
    assert (scores["coverage80"], scores["coverage90"]) == (1, 1)
    blunt = metrics(actual, np.zeros((3, len(QUANTILES))), QUANTILES, season_error=5.0)
    assert blunt["wape"] == 1.0
    assert blunt["mase"] == 3.0
    assert blunt["wql"] == pytest.approx(2 * np.mean(QUANTILES))
    assert np.isnan(metrics(np.zeros(2), perfect[:2], QUANTILES, season_error=0.0)["wql"])


def test_figures_over_all_series() -> None:
    def row(wql: float, last: float, other: float, days: float) -> dict[str, object]:
        rivals = {"last": {"wql": last}, "snaive24": {"wql": other}}
        return {"wql": wql, "peers": rivals, "history_days": days, "points": 100, "coverage80": 0.8}

    figures = summary({"a": row(1.0, 2.0, 4.0, 90), "b": row(2.0, 1.0, 2.0, 20)})
    assert figures["skill_vs_snaive24"] == pytest.approx(1 - np.sqrt(0.25 * 1.0))
    assert figures["ratio_vs_best_peer"] == pytest.approx(np.sqrt(0.5 * 2.0))
    assert figures["worst_ratio_vs_last"] == 0.5  # b is too short to count
    assert figures["mean_coverage80"] == pytest.approx(0.8)
    assert np.isnan(geometric([0.0, float("nan")]))


def test_a_rival_that_fails_is_stood_in_for_and_counted() -> None:
    class Failing:
        name = "failing"
        min_steps = 1

        def fit(self, history: object, *, seed: int) -> object:
            raise RuntimeError("no")

    result = backtest_series(history(daily(15)), Plan(days=2, config=CONFIG), {"failing": Failing()})  # type: ignore[dict-item]
    assert result["peers"]["failing"]["stood_in"] == 2
    assert np.isfinite(result["peers"]["failing"]["wql"])


def test_what_lies_before_and_what_lies_after_the_judged_days_is_kept_apart() -> None:
    values = daily(20)
    changed = values.copy()
    changed[-24:] *= 9
    plan = Plan(days=4, skip_days=1, config=CONFIG)
    rivals = peers(NAIVE)
    left, right = (backtest_series(history(v), plan, rivals) for v in (values, changed))
    assert without_timing(left) == without_timing(right)


def test_the_json_of_the_command(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    report = run_forecast_backtest(
        table(),
        days=3,
        peers=NAIVE,
        resume_dir=tmp_path,
        config=CONFIG,
        progress=lambda name, done, total: seen.append((name, done, total)),
    )
    assert set(report) == {"series", "summary", "left_out"}
    assert list(report["series"]) == ["a", "b"]
    measures = {"wql", "wape", "mase", "pinball95", "coverage80", "coverage90"}
    for result in report["series"].values():
        assert measures | {"fit_seconds", "peers"} <= set(result)
        assert set(result["peers"]) == set(NAIVE)
        assert all(measures <= set(rival) for rival in result["peers"].values())
    figures = {"skill_vs_snaive24", "ratio_vs_best_peer", "worst_ratio_vs_last", "mean_coverage80"}
    assert set(report["summary"]) == figures
    assert seen[-1][1:] == (10, 10)
    assert {what for what, _, _ in seen} >= {"preprov on a", "profile7 on b"}
    assert json.loads(json.dumps(report)) == report


def test_a_second_run_takes_up_what_the_first_has_finished(tmp_path: Path) -> None:
    options = {"days": 2, "peers": ("last", "snaive24"), "resume_dir": tmp_path, "config": CONFIG}
    first = run_forecast_backtest(table(), series=["a"], **options)
    assert len(list(tmp_path.iterdir())) == 3
    (ours,) = tmp_path.glob("a-preprov-*.json")
    ours.write_text(json.dumps({**json.loads(ours.read_text()), "wql": 0.125}))
    both = run_forecast_backtest(table(), **options)
    assert both["series"]["a"]["wql"] == 0.125
    assert both["series"]["b"]["wql"] != 0.125
    ours.write_text("{ torn")
    assert run_forecast_backtest(table(), series=["a"], **options)["series"]["a"]["wql"] == first["series"]["a"]["wql"]


def test_what_peers_said_stands_when_only_we_change(tmp_path: Path) -> None:
    options = {"series": ["a"], "days": 2, "peers": ("last",), "resume_dir": tmp_path}
    run_forecast_backtest(table(), config=CONFIG, **options)
    run_forecast_backtest(table(), config=replace(CONFIG, samples=61), **options)
    assert len(list(tmp_path.glob("a-preprov-*"))) == 2
    assert len(list(tmp_path.glob("a-last-*"))) == 1
    run_forecast_backtest([replace(h, values=h.values + 1) for h in table()], config=CONFIG, **options)
    assert len(list(tmp_path.glob("a-last-*"))) == 2


def test_processes_give_the_same_figures() -> None:
    options = {"days": 2, "peers": ("last", "snaive24"), "config": CONFIG}
    alone, together = (run_forecast_backtest(table(), workers=n, **options) for n in (1, 2))
    assert alone["summary"] == together["summary"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"series": ["zzz"]}, "no series is called"),
        ({"peers": ["oracle"]}, "no peer is called"),
    ],
)
def test_what_cannot_be_run_is_said(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_forecast_backtest(table(), **{"peers": NAIVE, **change})


def test_a_series_too_short_to_judge_is_left_out_and_said() -> None:
    short = replace(history(daily(2)), name="short")
    report = run_forecast_backtest([*table(names=("a",)), short], days=1, peers=("last",), config=CONFIG)
    assert list(report["series"]) == ["a"]
    assert "too few" in report["left_out"]["short"]
    with pytest.raises(ForecastError, match="short: too few whole days for a backtest: 1"):
        run_forecast_backtest([short], peers=("last",))


def test_peers_without_their_library_are_an_error_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("preprov.control.backtest_forecast.missing_libraries", lambda wanted: ["statsforecast"])
    with pytest.raises(ConfigError, match="need statsforecast"):
        run_forecast_backtest(table(), peers=("mstl",))


def test_a_quick_run_spreads_over_short_and_long_series() -> None:
    lengths = {f"s{i}": 100 * i for i in range(1, 14)}
    assert quick_choice(lengths) == ["s1", "s4", "s7", "s10", "s13"]
    assert quick_choice({"x": 5, "a": 5}) == ["a", "x"]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [n for n in PEERS if n not in NAIVE])
def test_every_peer_answers(name: str) -> None:
    for library in ("statsforecast", "skforecast", "lightgbm"):
        pytest.importorskip(library)
    known = history(daily(30))
    fitted = peers((name,))[name].fit(known.window(0, 29 * 24), seed=0)
    said = fitted.predict(known, 24, QUANTILES)
    assert said.shape == (24, len(QUANTILES))
    assert np.isfinite(said).all()
    assert (np.diff(said, axis=1) >= -1e-9).all()
    assert not fitted.state() or name in {"lightgbm", "forest_level", "forest_change"}
