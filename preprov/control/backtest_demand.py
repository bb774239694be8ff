"""Backtest of the joined demand curve on a trace: instants over days, peers in the same run, resumable, parallel."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from preprov.control.processes import single_threaded
from preprov.demand.aggregate_peers import AggregatePeers
from preprov.demand.curve import DemandInputs, demand_curve
from preprov.demand.forecasting.naive import COPIES
from preprov.demand.forecasting.peers import PEERS, missing_libraries
from preprov.demand.judging import HORIZONS, MEAN, REACH_S, STEP, WINDOWS, Losses, Truth, instants, judged, judged_days
from preprov.demand.judging import said_by as quantiles_of
from preprov.demand.learnt import fit_learnt
from preprov.demand.learnt_model import LearntModel
from preprov.demand.runtimes import RuntimeModel
from preprov.demand.starts import actual_starts, by_chance, code_of, expected_starts, matched
from preprov.model.errors import ConfigError
from preprov.model.reference import reference_pool
from preprov.model.resources import KINDS
from preprov.model.time import epoch
from preprov.model.work import Schedule, Trigger
from preprov.model.worktable import WorkTable

# Called with (instants done, instants in all).
Progress = Callable[[int, int], None]

ORIGINS: Final = 48
QUICK_ORIGINS: Final = 12
MOST_CORES: Final = 2_000.0
_REFIT: Final = timedelta(days=7)
_OURS: Final = ""  # of the forecasters' names


@dataclass(frozen=True)
class Trace:
    """A log to be judged on.

    Attributes:
        name, digest: what it is called, and what its content is told by. schedules: as declared. zone: IANA, of its
            calendar.
    """

    name: str
    digest: str
    work: WorkTable
    schedules: tuple[Schedule, ...]
    zone: str


@dataclass(frozen=True)
class DemandPlan:
    """How a trace is judged.

    Attributes:
        declared: schedules are known; else they are hidden, as is which runs followed one.
        origins: instants to forecast from. peers: names. kind: resource. most_cores: tasks that want more cores, all
            instances together, are left out everywhere, as are those whose end the log does not say; None = no limit.
        since, days: which part of the log; by default see `judging.judged_days`.
    """

    declared: bool = True
    origins: int = ORIGINS
    peers: tuple[str, ...] = tuple(COPIES)
    kind: str = "cpu"
    most_cores: float | None = MOST_CORES
    since: datetime | None = None
    days: float | None = None
    n_samples: int = 200
    seed: int = 0


@dataclass(frozen=True)
class _Case:
    """A trace made ready: what is too large left out, schedules hidden if so wished."""

    trace: Trace
    plan: DemandPlan
    truth: Truth
    begin: datetime
    until: datetime
    left_out: int
    names: Mapping[str, str]

    @classmethod
    def of(cls, trace: Trace, plan: DemandPlan) -> "_Case":
        work, left_out = _judgeable(trace.work, plan.most_cores)
        begin, until = judged_days(work, trace.zone, at_the_end=bool(trace.schedules), since=plan.since, days=plan.days)
        schedules = trace.schedules if plan.declared else ()
        shown = replace(trace, work=work if plan.declared else _hidden(work), schedules=schedules)
        return cls(shown, plan, Truth.of(work, plan.kind), begin, until, left_out, code_of(work))

    def inputs(self, at: datetime) -> DemandInputs:
        """Everything: the demand room itself looks at nothing later than `at`."""
        return DemandInputs(
            pool=reference_pool(self.trace.name, zone=self.trace.zone),
            at=at,
            seen=self.trace.work,
            schedules=self.trace.schedules,
            series=None,
            start=at,
            horizon_s=REACH_S,
            step_seconds=STEP,
            n_samples=self.plan.n_samples,
            seed=self.plan.seed,
        )

    def key(self) -> str:
        """Changes with the data and the plan, so that what was kept of another run is never taken for this one's."""
        told = json.dumps([self.trace.digest, self.trace.zone, asdict(self.plan)], default=str)
        return sha256(told.encode()).hexdigest()[:12]


def run_demand_backtest(
    trace: Trace,
    plan: DemandPlan | None = None,
    *,
    workers: int = 1,
    resume_dir: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Score the joined curve, and peers that see the aggregate demand alone, at instants spread over the judged days.

    Known and recurring work is expanded and the rest learnt exactly as in production; the learnt model and the peers
    are fitted every seven days, runtimes at each instant. Nothing after an instant is seen.

    Args:
        workers: processes; each model uses one thread. resume_dir: where what is done is kept and taken up.

    Returns:
        {"horizons": {seconds: {wql, wape, pinball95, coverage80, coverage90, peers: {name: ...}, max_window:
        {seconds: {...}}, best_peer, ratio_vs_best_peer}}, "starts": {precision, recall, chance, ...}, and what was
        judged}; NaN or None where a figure does not exist.

    Raises:
        ConfigError: an unknown resource or peer, or libraries of the peers are not installed.
        ForecastError: the trace is too short.
    """
    plan = plan or DemandPlan()
    _check(plan)
    case = _Case.of(trace, plan)
    every = instants(case.begin, case.until, plan.origins)
    weeks = [list(g) for _, g in groupby(every, key=lambda at: (at - case.begin) // _REFIT)]
    rows: list[dict[str, Any]] = []
    for done in _results(case, weeks, workers, resume_dir):
        rows.append(done)
        if progress:
            progress(len(rows), len(every))
    rows.sort(key=lambda row: str(row["at"]))
    return _report(case, rows)


def peers_at_hand(wanted: Sequence[str] | None = None) -> tuple[str, ...]:
    """The peers asked for; by default all whose libraries are installed."""
    return tuple(wanted) if wanted else tuple(n for n in PEERS if not missing_libraries([n]))


def _check(plan: DemandPlan) -> None:
    if plan.kind not in KINDS:
        raise ConfigError(f"unknown resource {plan.kind!r}", hint=f"one of {', '.join(KINDS)}")
    unknown = [name for name in plan.peers if name not in PEERS]
    if unknown:
        raise ConfigError(f"no peer is called {unknown[0]!r}", hint=f"one of {', '.join(PEERS)}")
    missing = missing_libraries(plan.peers)
    if missing:
        what = f"the peers need {', '.join(missing)}"
        raise ConfigError(what, hint="pip install 'preprov[bench]', or choose fewer with --peer")


def _judgeable(work: WorkTable, most_cores: float | None) -> tuple[WorkTable, int]:
    """The work in which tasks that want too much, or whose end nobody knows, want nothing; and how many these are."""
    start, end = work.spans()
    out = np.isfinite(start) & ~np.isfinite(end)
    if most_cores is not None:
        out |= (work.tasks["cpu"] * work.tasks["instances"] > most_cores).to_numpy()
    if not out.any():
        return work, 0
    tasks = work.tasks.copy()
    tasks.loc[out | ~np.isfinite(end), list(KINDS)] = 0.0
    return replace(work, tasks=tasks), int(out.sum())


def _hidden(work: WorkTable) -> WorkTable:
    """The work of which nobody says that it was scheduled."""
    scheduled = (work.runs["trigger"] == Trigger.SCHEDULED.value).to_numpy()
    trigger = np.where(scheduled, Trigger.MANUAL.value, work.runs["trigger"].to_numpy(dtype=object))
    return replace(
        work, runs=work.runs.assign(schedule="", scheduled_for=np.nan, trigger=pd.Series(trigger, dtype=object))
    )


# --------------------------------------------------------------------------- instants, in processes

_shared: dict[str, _Case] = {}


def _share(case: _Case) -> None:
    _shared["case"] = case


def _results(case: _Case, weeks: list[list[datetime]], workers: int, folder: Path | None) -> Iterator[dict[str, Any]]:
    """What each instant came to, week by week or as the weeks are done."""
    jobs = [(week[0], tuple(week), folder) for week in weeks]
    with ExitStack() as stack:
        stack.enter_context(single_threaded())
        if workers <= 1 or len(jobs) <= 1:
            for first, week, where in jobs:
                yield from _week(case, first, week, where)
            return
        pool = stack.enter_context(ProcessPoolExecutor(min(workers, len(jobs)), initializer=_share, initargs=(case,)))
        for rows in [pool.submit(_shared_week, *job) for job in jobs]:
            yield from rows.result()


def _shared_week(first: datetime, week: tuple[datetime, ...], folder: Path | None) -> list[dict[str, Any]]:
    return list(_week(_shared["case"], first, week, folder))


def _week(case: _Case, first: datetime, week: Sequence[datetime], folder: Path | None) -> Iterator[dict[str, Any]]:
    """The instants between two fits: those that are kept, then the others, for which everybody is fitted first."""
    kept = {at: _kept(folder, case, at) for at in week}
    yield from (row for row in kept.values() if row is not None)
    todo = [at for at in week if kept[at] is None]
    if not todo:
        return
    fitted_at = case.begin + (first - case.begin) // _REFIT * _REFIT
    learnt = _learnt(case, fitted_at, folder)
    peers = AggregatePeers(case.plan.peers, case.trace.zone, case.plan.seed)
    peers.fit(case.truth, _on_step(fitted_at))
    for at in todo:
        row = _judge(case, at, learnt, peers)
        _keep(folder, case, at, row)
        yield row


def _on_step(at: datetime) -> datetime:
    return at - timedelta(seconds=epoch(at) % STEP)


def _learnt(case: _Case, at: datetime, folder: Path | None) -> LearntModel:
    file = None if folder is None else folder / f"learnt-{case.key()}-{epoch(at):.0f}.bin"
    if file is not None and file.exists():
        return LearntModel.from_bytes(file.read_bytes())
    model = fit_learnt(case.inputs(at))
    if file is not None:
        _written(file, model.to_bytes())
    return model


def _judge(case: _Case, at: datetime, learnt: LearntModel, peers: AggregatePeers) -> dict[str, Any]:
    """Losses of our curve and of the peers over what came after one instant, and the starts of the hour after it."""
    seen = case.trace.work.as_of(at)
    given = replace(case.inputs(at), seen=seen, runtimes=RuntimeModel.learn(seen, at), learnt=learnt)
    curve = demand_curve(given)
    actual = case.truth.after(at)
    said = {_OURS: quantiles_of(curve, case.plan.kind), **peers.said(case.truth, at)}
    losses = {name: judged(actual, values) for name, values in said.items()}
    return {
        "at": at.isoformat(),
        "losses": {n: {h: {m: asdict(x) for m, x in ms.items()} for h, ms in hs.items()} for n, hs in losses.items()},
        "starts": _hour_after(case, given),
    }


def _hour_after(case: _Case, given: DemandInputs) -> dict[str, dict[str, float]]:
    """Starts foretold, real and matched: by what the tasks run, and by their signatures, which tell tasks by id too."""
    drawn, out = expected_starts(given), {}
    for way, names in (("by_code", case.names), ("by_signature", None)):
        expected = drawn.items(names).likely()
        real = actual_starts(case.trace.work, given.at, names=names)
        out[way] = {
            "expected": len(expected),
            "actual": len(real),
            "matched": matched(expected, real),
            "by_chance": by_chance(expected, given.seen, given.at, names),
        }
    return out


def _kept(folder: Path | None, case: _Case, at: datetime) -> dict[str, Any] | None:
    if folder is None:
        return None
    try:
        kept: dict[str, Any] = json.loads(_file(folder, case, at).read_text())
    except (OSError, ValueError):
        return None
    return kept


def _keep(folder: Path | None, case: _Case, at: datetime, row: Mapping[str, Any]) -> None:
    if folder is not None:
        _written(_file(folder, case, at), json.dumps(row).encode())


def _file(folder: Path, case: _Case, at: datetime) -> Path:
    return folder / f"demand-{case.key()}-{epoch(at):.0f}.json"


def _written(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_bytes(content)
    part.replace(file)


# --------------------------------------------------------------------------- the report


def _report(case: _Case, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = sorted({name for row in rows for name in row["losses"] if name != _OURS})
    plan = case.plan
    return {
        "trace": case.trace.name,
        "schedules": "declared" if plan.declared else "hidden",
        "judged": {"from": case.begin.isoformat(), "to": case.until.isoformat(), "zone": case.trace.zone},
        "origins": len(rows),
        "step_seconds": STEP,
        "resource": plan.kind,
        "most_cores": plan.most_cores,
        "tasks_left_out": case.left_out,
        "peers_silent": [p for p in plan.peers if p not in names],
        "horizons": {str(h): _horizon(rows, str(h), names) for h in HORIZONS},
        "starts": _starts(rows),
    }


def _horizon(rows: Sequence[Mapping[str, Any]], horizon: str, names: Sequence[str]) -> dict[str, Any]:
    ours = _pooled(rows, _OURS, horizon, MEAN)
    theirs = {n: p for n in names if (p := _pooled(rows, n, horizon, MEAN)) is not None}
    best = min(theirs, key=lambda n: theirs[n]["wql"], default=None)
    return {
        **(ours or {}),
        "best_peer": best,
        "ratio_vs_best_peer": ours["wql"] / theirs[best]["wql"] if ours and best and theirs[best]["wql"] else None,
        "peers": theirs,
        "max_window": {str(w): _window(rows, horizon, str(w), names) for w in WINDOWS},
    }


def _window(rows: Sequence[Mapping[str, Any]], horizon: str, window: str, names: Sequence[str]) -> dict[str, Any]:
    ours = _pooled(rows, _OURS, horizon, window) or {}
    theirs = {n: p for n in names if (p := _pooled(rows, n, horizon, window)) is not None}
    return {**ours, "peers": theirs}


def _pooled(rows: Sequence[Mapping[str, Any]], name: str, horizon: str, measure: str) -> dict[str, float] | None:
    """Metrics over all instants; None if the forecaster said nothing at one of them."""
    total: Losses | None = None
    for row in rows:
        sums = row["losses"].get(name, {}).get(horizon, {}).get(measure)
        if sums is None:
            return None
        mine = Losses(**{**sums, "pinball": tuple(sums["pinball"])})
        total = mine if total is None else total + mine
    return None if total is None else total.metrics()


def _starts(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {**_matches(rows, "by_signature"), "by_code": _matches(rows, "by_code")}


def _matches(rows: Sequence[Mapping[str, Any]], way: str) -> dict[str, Any]:
    total = {k: sum(row["starts"][way][k] for row in rows) for k in ("expected", "actual", "matched", "by_chance")}
    return {
        "precision": total["matched"] / total["expected"] if total["expected"] else None,
        "recall": total["matched"] / total["actual"] if total["actual"] else None,
        "chance": total["by_chance"] / total["expected"] if total["expected"] else None,
        "expected": total["expected"],
        "actual": total["actual"],
        "matched": total["matched"],
    }
