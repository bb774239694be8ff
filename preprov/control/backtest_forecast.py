"""Backtest of day-ahead demand over a table of series: processes over series and forecasters, resumable."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import numpy as np

from preprov.control.processes import in_processes
from preprov.demand.forecasting import registry
from preprov.demand.forecasting.backtest import Plan, origins, quick_choice, score_peer, score_scaler, summary
from preprov.demand.forecasting.peers import PEERS, missing_libraries
from preprov.demand.forecasting.peers import peers as peers_by_name
from preprov.demand.forecasting.protocol import Forecaster
from preprov.demand.forecasting.scaler import ScalerConfig
from preprov.model.errors import ConfigError, ForecastError
from preprov.model.series import SeriesHistory

# Called when a forecaster has finished a series: (what has been done, how many such pieces are done, and in all).
Progress = Callable[[str, int, int], None]

QUICK_DAYS: Final = 14
_OURS: Final = "preprov"
_LIBRARIES: Final = ("preprov", "numpy", "quantile-forest", "lightgbm", "statsforecast", "skforecast")


def run_forecast_backtest(
    histories: Sequence[SeriesHistory],
    *,
    series: Sequence[str] | None = None,
    days: int | None = None,
    quick: bool = False,
    peers: Sequence[str] | None = None,
    members: Sequence[str] = (),
    workers: int = 1,
    resume_dir: Path | None = None,
    progress: Progress | None = None,
    config: ScalerConfig | None = None,
    horizon: int = 24,
    seed: int = 0,
    skip_days: int = 0,
) -> dict[str, Any]:
    """Score the scaler and its peers, day ahead, on hourly series.

    Args:
        histories: the series, whole.
        series: names to look at, all by default. days: test days, else the last 40 % and at most 60.
        quick: five series spread over the lengths, 14 days.
        peers: names of PEERS, or of installed forecasters (entry points); all of PEERS by default.
        members: installed forecasters that join our own mix.
        workers: processes; each model uses one thread.
        resume_dir: where each finished piece (a forecaster on a series) is kept and taken from.
        horizon: steps ahead. skip_days: days at the end left alone, to compare designs on earlier ones.

    Returns:
        {"series": {name: metrics with "peers"}, "summary": {...}, "left_out": {name: why}}; null where a figure does
        not exist.

    Raises:
        ConfigError: an unknown series, peer or member, or peers whose libraries are not installed.
        ForecastError: no series is long enough, or an installed forecaster cannot be loaded.
    """
    wanted = list(PEERS if peers is None else peers)
    _check_peers(wanted)
    settings = config or ScalerConfig(horizon=horizon)
    settings = replace(settings, members=(*settings.members, *members))
    registry.members(settings.members)
    plan = Plan(QUICK_DAYS if quick and days is None else days, horizon, skip_days, settings, seed)
    chosen, left_out = _chosen(histories, series, quick, plan)
    # The longest first, so that the processes end together.
    pieces = [_Piece(h, who, plan) for h in sorted(chosen, key=len, reverse=True) for who in (_OURS, *wanted)]
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for piece, result in _taken_up(pieces, resume_dir, workers):
        found[piece.history.name, piece.who] = result
        if progress:
            progress(f"{piece.who} on {piece.history.name}", len(found), len(pieces))
    names = [history.name for history in chosen]
    rows = {name: {**found[name, _OURS], "peers": {who: found[name, who] for who in wanted}} for name in names}
    report: dict[str, Any] = _finite({"series": rows, "summary": summary(rows), "left_out": left_out})
    return report


@dataclass(frozen=True, eq=False)
class _Piece:
    """A forecaster on a series: what a process does at a time, and what is kept."""

    history: SeriesHistory
    who: str
    plan: Plan

    def run(self) -> dict[str, Any]:
        if self.who == _OURS:
            return score_scaler(self.history, self.plan)
        return score_peer(self.history, self.plan, _peer(self.who, self.plan.horizon))

    def file(self, folder: Path) -> Path:
        """A name that changes with the data, the plan and the libraries: a stale result is never taken for a fresh one.

        What we are made of is nothing to a peer: its results stand when only we change.
        """
        plan = asdict(self.plan)
        plan["config"] = plan["config"] if self.who == _OURS else self.plan.config.max_days
        about = [plan, self.who, self.history.name, self.history.zone, self.history.start.isoformat(), _versions()]
        key = sha256(json.dumps(about).encode() + _bytes(self.history)).hexdigest()[:16]
        name = f"{self.history.name}-{self.who}"
        return folder / f"{''.join(c if c.isalnum() or c in '-._' else '_' for c in name)}-{key}.json"


def _bytes(history: SeriesHistory) -> bytes:
    quarantined = b"" if history.quarantined is None else history.quarantined.tobytes()
    beside = b"".join(name.encode() + column.tobytes() for name, column in history.exogenous.items())
    return np.nan_to_num(history.values, nan=-1.0).tobytes() + quarantined + beside


def _peer(name: str, horizon: int) -> Forecaster:
    return peers_by_name((name,), horizon=horizon)[name] if name in PEERS else registry.discover()[name]()


def _finite(value: Any) -> Any:
    """With null for what is no number: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _check_peers(wanted: Sequence[str]) -> None:
    others = [name for name in wanted if name not in PEERS]
    installed = registry.discover() if others else {}
    for name in others:
        if name not in installed:
            raise ConfigError(f"no peer is called {name!r}", hint=f"one of {', '.join((*PEERS, *installed))}")
    missing = missing_libraries(wanted)
    if missing:
        raise ConfigError(
            f"the peers need {', '.join(missing)}", hint="pip install 'preprov[bench]', or choose fewer with --peers"
        )


def _chosen(
    histories: Sequence[SeriesHistory], series: Sequence[str] | None, quick: bool, plan: Plan
) -> tuple[list[SeriesHistory], dict[str, str]]:
    """The series to look at, and why others cannot be judged."""
    by_name = {history.name: history for history in histories}
    for name in series or ():
        if name not in by_name:
            raise ConfigError(f"no series is called {name!r}", hint=f"one of {', '.join(by_name)}")
    left_out: dict[str, str] = {}
    for name in series or by_name:
        try:
            origins(by_name[name], plan)
        except ForecastError as error:
            left_out[name] = error.what
    names = [name for name in series or by_name if name not in left_out]
    if not names:
        reasons = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        raise ForecastError(f"no series can be judged: {reasons or 'there is none'}", hint="columns series, ts, demand")
    if quick and not series:
        names = quick_choice({name: len(by_name[name]) for name in names})
    return [by_name[name] for name in names], left_out


def _taken_up(pieces: Sequence[_Piece], folder: Path | None, workers: int) -> Iterator[tuple[_Piece, dict[str, Any]]]:
    """Each piece with its result: first those that were finished before, then the others as they finish."""
    todo = []
    for piece in pieces:
        kept = _kept(piece, folder)
        if kept is None:
            todo.append(piece)
        else:
            yield piece, kept
    for piece, result in in_processes(todo, _Piece.run, workers):
        _keep(piece, folder, result)
        yield piece, result


def _versions() -> list[str]:
    found = []
    for library in _LIBRARIES:
        try:
            found.append(f"{library} {version(library)}")
        except PackageNotFoundError:
            found.append(f"no {library}")
    return found


def _kept(piece: _Piece, folder: Path | None) -> dict[str, Any] | None:
    if folder is None:
        return None
    try:
        kept: dict[str, Any] = json.loads(piece.file(folder).read_text())
    except (OSError, ValueError):
        return None
    return kept


def _keep(piece: _Piece, folder: Path | None, result: object) -> None:
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    file = piece.file(folder)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(result))
    part.replace(file)
