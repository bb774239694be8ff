"""Draw a company's runs: any window of time, the same runs for the same seed whatever window is asked for.

Every run has a generator of its own, seeded by (seed, DAG, turn): runs are independent of each other and of the window.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from math import exp, log
from typing import Any, Final
from zlib import crc32
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from preprov.demand.schedules import turns
from preprov.demo.company import Company, DagShape, Habits
from preprov.model.resources import Resources
from preprov.model.signature_sources import task_signature
from preprov.model.time import aware, epoch
from preprov.model.work import DagSpec, Schedule, TaskSpec, Trigger
from preprov.model.worktable import WorkTable, nominal_ready
from preprov.sources.building import labels, runs_frame, tasks_frame

Floats = NDArray[np.float64]

_Z95: Final = 1.6448536269514722
_LATE_S: Final = (3600.0, 0.4)
"""Median and log-sd of a late run's lateness."""
_LATEST: Final = timedelta(hours=6)
_SHORTEST_S: Final = 5.0
_DAILY_OR_RARER: Final = 20 * 3600.0


@dataclass(frozen=True, eq=False)
class PlannedRun:
    """A run as it will happen, told beforehand.

    Attributes:
        scheduled_for: the turn it belongs to; None if somebody started it by hand.
        seconds: (T,) true runtime of each of the DAG's tasks; all copies of a task take the same.
    """

    run_id: str
    shape: DagShape
    trigger: Trigger
    scheduled_for: datetime | None
    submit: datetime
    seconds: Floats

    @property
    def core_seconds(self) -> float:
        """What it takes in all."""
        per_task = [t.cpu * t.copies for t in self.shape.tasks]
        return float(np.dot(per_task, self.seconds))


@dataclass(frozen=True)
class Workload:
    """The work of a company from a first day on.

    Attributes:
        origin: where growth is counted from.
    """

    company: Company
    origin: datetime
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "origin", aware(self.origin, "origin"))

    def runs(self, start: datetime, end: datetime) -> tuple[PlannedRun, ...]:
        """The runs submitted in [start, end), by submit time."""
        found = [r for d in self.company.scheduled for r in self._scheduled(d, start - _LATEST, end)]
        found.extend(self._by_hand(start, end))
        return tuple(sorted((r for r in found if start <= r.submit < end), key=lambda r: (r.submit, r.run_id)))

    def schedules(self, pool: str, since: datetime | None = None) -> tuple[Schedule, ...]:
        """What the company's scheduler declares."""
        zone = self.company.zone
        return tuple(
            Schedule(d.dag_id, pool, d.cron, zone, tenant=d.tenant, priority=d.priority, since=since)
            for d in self.company.scheduled
        )

    # ------------------------------------------------------------------ drawing

    def _scheduled(self, shape: DagShape, start: datetime, end: datetime) -> Iterator[PlannedRun]:
        declared = Schedule(shape.dag_id, "", shape.cron, self.company.zone)
        daily = _is_daily_or_rarer(declared, self.origin)
        for turn in turns(declared, start, end):
            rng = self._rng(shape.dag_id, turn)
            submit = self._submit(turn, rng, daily=daily)
            if submit is not None:
                run_id = f"{shape.dag_id}.{turn:%Y%m%dT%H%M%S}"
                yield PlannedRun(run_id, shape, Trigger.SCHEDULED, turn, submit, self._seconds(shape, turn, rng))

    def _submit(self, turn: datetime, rng: np.random.Generator, *, daily: bool) -> datetime | None:
        """When the run of a turn comes; None if it is skipped. What comes round often is neither skipped nor late."""
        habits = self.company.habits
        luck, z = rng.random(), rng.standard_normal()
        if daily and luck < habits.skipped:
            return None
        if daily and luck < habits.skipped + habits.late:
            return turn + min(timedelta(seconds=_LATE_S[0] * exp(_LATE_S[1] * z)), _LATEST)
        median, p95 = habits.start_lag_s
        return turn + timedelta(seconds=median * exp(log(p95 / median) / _Z95 * z))

    def _by_hand(self, start: datetime, end: datetime) -> Iterator[PlannedRun]:
        """Poisson arrivals hour by hour, on the company's wall clock."""
        habits, zone = self.company.habits, ZoneInfo(self.company.zone)
        hour = start.replace(minute=0, second=0, microsecond=0)
        while hour < end:
            rng = self._rng("by hand", hour)
            local = hour.astimezone(zone)
            for i in range(int(rng.poisson(_adhoc_rate(habits, local)))):
                shape = self.company.adhoc[int(rng.integers(len(self.company.adhoc)))]
                submit = hour + timedelta(seconds=float(rng.uniform(0, 3600)))
                run_id = f"{shape.dag_id}.{hour:%Y%m%dT%H}.{i}"
                yield PlannedRun(run_id, shape, Trigger.MANUAL, None, submit, self._seconds(shape, submit, rng))
            hour += timedelta(hours=1)

    def _seconds(self, shape: DagShape, at: datetime, rng: np.random.Generator) -> Floats:
        """(T,) runtimes: the run's size, shared by its tasks, times the noise of each."""
        habits = self.company.habits
        size = self._calendar_factor(shape, at) * exp(habits.input_sigma * rng.standard_normal())
        noise = np.exp(habits.task_sigma * rng.standard_normal(len(shape.tasks)))
        medians = np.array([t.seconds for t in shape.tasks])
        return np.maximum(medians * size * noise, _SHORTEST_S)

    def _calendar_factor(self, shape: DagShape, at: datetime) -> float:
        """Growth, weekend and month-end."""
        local = at.astimezone(ZoneInfo(self.company.zone))
        weeks = (at - self.origin) / timedelta(weeks=1)
        factor = float((1 + self.company.habits.weekly_growth) ** weeks)
        if local.weekday() >= 5:
            factor *= self.company.habits.weekend_input
        if (local + timedelta(days=1)).month != local.month:
            factor *= shape.month_end
        return factor

    def _rng(self, name: str, at: datetime) -> np.random.Generator:
        return np.random.default_rng([self.seed, crc32(name.encode()), int(epoch(at))])


@lru_cache(maxsize=256)
def _is_daily_or_rarer(schedule: Schedule, origin: datetime) -> bool:
    found = turns(schedule, origin, origin + timedelta(days=4))  # long enough to see a workday behind a weekend
    return len(found) < 2 or min(b - a for a, b in pairwise(found)).total_seconds() > _DAILY_OR_RARER


def _adhoc_rate(habits: Habits, local: datetime) -> float:
    """Runs an hour that people start by hand."""
    day = habits.adhoc_per_workday * (habits.adhoc_weekend if local.weekday() >= 5 else 1.0)
    return day * habits.adhoc_hours[local.hour] / sum(habits.adhoc_hours)


def build_specs(company: Company, task: "TaskMaker") -> dict[str, DagSpec]:
    """Each DAG as it is submitted: dag_id -> spec."""
    return {
        d.dag_id: DagSpec(
            dag_id=d.dag_id,
            tasks=tuple(task(d, i) for i in range(len(d.tasks))),
            tenant=d.tenant,
            priority=d.priority,
            schedule=d.cron or None,
            zone=company.zone,
        )
        for d in (*company.scheduled, *company.adhoc)
    }


class TaskMaker:
    """Makes the spec of a DAG's i-th task; what it runs is set by `command`, what it needs on the disk by `extra`."""

    def __init__(self, extra: Mapping[str, Any] | None = None) -> None:
        self._extra = dict(extra or {})

    def command(self, dag: DagShape, name: str) -> tuple[str, ...]:
        """What the task runs."""
        return (name, dag.dag_id)

    def __call__(self, dag: DagShape, i: int) -> TaskSpec:
        """The spec."""
        t = dag.tasks[i]
        return TaskSpec(
            task_id=t.name,
            command=self.command(dag, t.name),
            parents=t.parents,
            request=Resources(cpu=t.cpu, memory=t.cpu * t.gib_per_core),
            instances=t.copies,
            runtime_hint_s=t.seconds,
            operator=t.name,
            **self._extra,
        )


def work_table(runs: Sequence[PlannedRun], specs: Mapping[str, DagSpec], zone: str) -> WorkTable:
    """The runs in columns, nominal timing: every task starts when its parents have ended.

    Args:
        runs: by submit time. specs: of their DAGs. zone: of their crons.
    """
    if not runs:
        return WorkTable.empty()
    per_dag = {dag_id: _Columns.of(spec) for dag_id, spec in specs.items()}
    parts = [per_dag[r.shape.dag_id] for r in runs]
    counts = np.array([p.n for p in parts])
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    run = np.repeat(np.arange(len(runs)), counts)
    parents = np.concatenate([p.parents + o for p, o in zip(parts, first, strict=True)]).astype(np.int64)
    children = np.concatenate([p.children + o for p, o in zip(parts, first, strict=True)]).astype(np.int64)
    seconds = np.concatenate([r.seconds for r in runs])
    submit = np.array([epoch(r.submit) for r in runs])
    columns = {name: np.concatenate([p.values[name] for p in parts]) for name in parts[0].values}
    tasks = {
        "run": run.astype(np.int64),
        "runtime_s": seconds,
        "ready_at": nominal_ready(submit, seconds, run, parents, children),
        **columns,
    }
    return WorkTable(_runs_frame(runs, submit, zone), tasks_frame(len(run), tasks), parents, children)


def finished(work: WorkTable, by: float) -> WorkTable:
    """The runs that had ended by then (epoch seconds): what still ran belongs to the cluster before ours."""
    _, end = work.spans()
    last = np.full(len(work.runs), -np.inf)
    np.maximum.at(last, work.tasks["run"].to_numpy(), end)
    return work.select_runs(last <= by)


def _runs_frame(runs: Sequence[PlannedRun], submit: Floats, zone: str) -> Any:
    return runs_frame(
        len(runs),
        {
            "run_id": labels([r.run_id for r in runs]),
            "dag_id": labels([r.shape.dag_id for r in runs]),
            "tenant": labels([r.shape.tenant for r in runs]),
            "priority": np.array([r.shape.priority for r in runs], dtype=np.int64),
            "schedule": labels([r.shape.cron for r in runs]),
            "zone": zone,
            "trigger": labels([r.trigger.value for r in runs]),
            "scheduled_for": np.array([epoch(r.scheduled_for) if r.scheduled_for else np.nan for r in runs]),
            "submit": submit,
        },
    )


@dataclass(frozen=True)
class _Columns:
    """What all runs of one DAG share."""

    n: int
    parents: NDArray[np.int64]
    children: NDArray[np.int64]
    values: Mapping[str, Any]

    @classmethod
    def of(cls, spec: DagSpec) -> "_Columns":
        position = {t.task_id: i for i, t in enumerate(spec.tasks)}
        edges = [(position[p], i) for i, t in enumerate(spec.tasks) for p in t.parents]
        ends = np.array(edges, dtype=np.int64).reshape(-1, 2)
        values = {
            "task_id": labels([t.task_id for t in spec.tasks]),
            "signature": labels([task_signature(t, spec.dag_id, spec.tenant) for t in spec.tasks]),
            "operator": labels([t.operator for t in spec.tasks]),
            "instances": np.array([t.instances for t in spec.tasks], dtype=np.int64),
            "cpu": np.array([t.request.cpu for t in spec.tasks]),
            "memory": np.array([t.request.memory for t in spec.tasks]),
            "hint_s": np.array([t.runtime_hint_s for t in spec.tasks], dtype=np.float64),
        }
        return cls(len(spec.tasks), ends[:, 0], ends[:, 1], values)


def instant(local: datetime, zone: str) -> datetime:
    """The instant a wall clock of that zone shows `local` (naive), in UTC."""
    return local.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
