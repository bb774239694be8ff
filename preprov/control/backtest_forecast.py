"""Backtest of day-ahead demand over a table of series: processes over series, resumable, one thread a model."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from preprov.demand.forecasting.backtest import Plan, backtest_series, quick_choice, summary
from preprov.demand.forecasting.peers import PEERS, missing_libraries
from preprov.demand.forecasting.peers import peers as peers_by_name
from preprov.demand.forecasting.scaler import ScalerConfig
from preprov.model.errors import ConfigError, ForecastError
from preprov.model.series import SeriesHistory

if TYPE_CHECKING:
    import pandas as pd

# Called with (series, days done, days in all); from worker processes only when a series is finished.
Progress = Callable[[str, int, int], None]

QUICK_DAYS: Final = 14
_THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def run_forecast_backtest(
    frame: "pd.DataFrame",
    *,
    series: Sequence[str] | None = None,
    days: int | None = None,
    quick: bool = False,
    peers: Sequence[str] | None = None,
    workers: int = 1,
    resume_dir: Path | None = None,
    progress: Progress | None = None,
    config: ScalerConfig | None = None,
    horizon: int = 24,
    zone: str = "UTC",
    seed: int = 0,
    skip_days: int = 0,
) -> dict[str, Any]:
    """Score the scaler and its peers, day ahead, on hourly series.

    Args:
        frame: long table with columns series, ts (wall clock of `zone`, or aware) and demand.
        series: names to look at, all by default. days: test days, else the last 40 % and at most 60.
        quick: five series spread over the lengths, 14 days. peers: names, all of PEERS by default.
        workers: processes; each model uses one thread. resume_dir: where finished series are kept and taken from.
        horizon: steps ahead. skip_days: days at the end left alone, to compare designs on earlier ones.

    Returns:
        {"series": {name: metrics with "peers"}, "summary": {...}}; null where a figure does not exist.

    Raises:
        ConfigError: an unknown series or peer, a missing column, or peers whose libraries are not installed.
        ForecastError: no series is long enough.
    """
    wanted = list(PEERS if peers is None else peers)
    _check_peers(wanted)
    settings = config or ScalerConfig(horizon=horizon)
    plan = Plan(QUICK_DAYS if quick and days is None else days, horizon, skip_days, settings, seed)
    histories = _histories(frame, series, zone, quick)
    found: dict[str, dict[str, Any]] = {}
    todo: list[SeriesHistory] = []
    for history in histories:
        kept = _kept(resume_dir, history, plan, wanted)
        if kept is None:
            todo.append(history)
        else:
            found[history.name] = kept
            _tell(progress, history.name, kept)
    for history, result in _results(todo, plan, wanted, workers, progress):
        found[history.name] = result
        _keep(resume_dir, history, plan, wanted, result)
    if not found:
        raise ForecastError("no series to look at", hint="columns series, ts, demand")
    ordered = {history.name: found[history.name] for history in histories}
    report: dict[str, Any] = _finite({"series": ordered, "summary": summary(ordered)})
    return report


def _finite(value: Any) -> Any:
    """With null for what is no number: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _check_peers(wanted: Sequence[str]) -> None:
    unknown = [name for name in wanted if name not in PEERS]
    if unknown:
        raise ConfigError(f"no peer is called {unknown[0]!r}", hint=f"one of {', '.join(PEERS)}")
    missing = missing_libraries(wanted)
    if missing:
        raise ConfigError(
            f"the peers need {', '.join(missing)}", hint="pip install 'preprov[bench]', or choose fewer with --peers"
        )


def _histories(frame: "pd.DataFrame", series: Sequence[str] | None, zone: str, quick: bool) -> list[SeriesHistory]:
    for column in ("series", "ts", "demand"):
        if column not in frame.columns:
            raise ConfigError(f"the table has no column {column!r}", hint="columns series, ts, demand")
    groups = {str(name): rows for name, rows in frame.groupby("series", sort=False)}
    names = list(series) if series else list(groups)
    for name in names:
        if name not in groups:
            raise ConfigError(f"no series is called {name!r}", hint=f"one of {', '.join(groups)}")
    if quick and not series:
        names = quick_choice({name: len(groups[name]) for name in names})
    return [SeriesHistory.from_wall_clock(groups[name], name=name, zone=zone) for name in names]


def _results(
    todo: list[SeriesHistory], plan: Plan, wanted: Sequence[str], workers: int, progress: Progress | None
) -> Iterator[tuple[SeriesHistory, dict[str, Any]]]:
    """Each series with its result, as they finish."""
    with _single_threaded():
        if workers <= 1:
            for history in todo:
                yield history, _one(history, plan, tuple(wanted), progress)
            return
        with ProcessPoolExecutor(min(workers, max(1, len(todo)))) as pool:
            longest_first = sorted(todo, key=len, reverse=True)
            waiting = {pool.submit(_one, history, plan, tuple(wanted), None): history for history in longest_first}
            for future in as_completed(waiting):
                result = future.result()
                _tell(progress, waiting[future].name, result)
                yield waiting[future], result


def _one(history: SeriesHistory, plan: Plan, wanted: tuple[str, ...], progress: Progress | None) -> dict[str, Any]:
    def step(done: int, total: int) -> None:
        if progress:
            progress(history.name, done, total)

    return backtest_series(history, plan, peers_by_name(wanted, horizon=plan.horizon), step)


@contextmanager
def _single_threaded() -> Iterator[None]:
    """One thread a model, in this process (where libraries are not loaded yet) and in the workers it starts."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _tell(progress: Progress | None, name: str, result: Mapping[str, Any]) -> None:
    if progress:
        progress(name, int(result["days"]), int(result["days"]))


def _cache_file(folder: Path, history: SeriesHistory, plan: Plan, wanted: Sequence[str]) -> Path:
    """A file name that changes with the data, the plan and the peers: stale results are never taken for fresh ones."""
    settings = json.dumps([asdict(plan), list(wanted), history.name, history.zone, history.start.isoformat()])
    key = sha256(settings.encode() + np.nan_to_num(history.values, nan=-1.0).tobytes()).hexdigest()[:16]
    safe = "".join(c if c.isalnum() or c in "-._" else "_" for c in history.name)
    return folder / f"{safe}-{key}.json"


def _kept(folder: Path | None, history: SeriesHistory, plan: Plan, wanted: Sequence[str]) -> dict[str, Any] | None:
    if folder is None:
        return None
    try:
        kept: dict[str, Any] = json.loads(_cache_file(folder, history, plan, wanted).read_text())
    except (OSError, ValueError):
        return None
    return kept


def _keep(folder: Path | None, history: SeriesHistory, plan: Plan, wanted: Sequence[str], result: object) -> None:
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    file = _cache_file(folder, history, plan, wanted)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(result))
    part.replace(file)
