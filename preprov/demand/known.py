"""Known demand: what runs, what is queued, what is due, expanded into joint samples of resources per step."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from preprov.demand.arrivals import PredictedRun
from preprov.demand.draws import key_of
from preprov.demand.expansion import expand_units
from preprov.demand.following import expected_runs
from preprov.demand.live import live_units
from preprov.demand.occupancy import Grid
from preprov.demand.queueing import behind_limits
from preprov.demand.runtime_tables import Floats, Ints, RuntimeTables, Singles
from preprov.demand.runtimes import RuntimeModel
from preprov.demand.templates import predicted_units
from preprov.demand.units import Units
from preprov.model.demand import PARTS
from preprov.model.errors import ForecastError
from preprov.model.time import epoch, from_epoch
from preprov.model.work import Schedule
from preprov.model.worktable import WorkTable


@dataclass(frozen=True)
class KnownDemand:
    """Demand of the work that is known to come.

    Attributes:
        samples: (S, T, 5) largest demand within each step, joint. mean: (S, T, 5) mean within each step.
        parts: part of PARTS -> (T, 5) mean demand: in_flight = tasks that run, queued = tasks of submitted runs that do
            not run yet, scheduled and recurring = runs that are expected.
        predicted: the expected runs that were expanded. notes: what could not be expanded, and why.
        estimated: share of the tasks whose runtime rests on their own history, on a coarser signature, on a hint, on
            the pool.
        watched: (S, T, 5) mean demand of the live runs that were to be watched; None if nobody asked, or they are too
            many to be told apart.
    """

    samples: Singles
    mean: Singles
    parts: Mapping[str, Floats]
    predicted: tuple[PredictedRun, ...] = ()
    notes: tuple[str, ...] = ()
    estimated: Mapping[str, float] = field(default_factory=dict)
    watched: Singles | None = None


def expand(
    seen: WorkTable,
    schedules: Sequence[Schedule],
    at: datetime,
    runtimes: RuntimeModel | None = None,
    *,
    start: datetime | None = None,
    horizon_s: int,
    step_seconds: int,
    n_samples: int,
    seed: int,
    predicted: Sequence[PredictedRun] = (),
    templates: WorkTable | None = None,
) -> KnownDemand:
    """Expand everything queued, running or due into demand, by Monte Carlo through the DAGs.

    Demand is nominal: a task wants its resources from when its parents have ended, whether or not there is room. What a
    run draws depends on its id and `seed` alone, so one more run never makes any sample smaller.

    Args:
        seen: work; what it says of times after `at` is not looked at.
        schedules: declared; their turns up to the horizon's end are added unless their run was submitted already.
        at: the instant of knowledge. start: where the first step begins, `at` if not given.
        runtimes: learnt at or before `at`; learnt here if None.
        predicted: further expected runs (recurrences). A run expected twice, by schedule and otherwise, counts once.
        templates: runs that show the shape of DAGs which never ran yet.

    Raises:
        ForecastError: the horizon holds no whole step, or there are no samples.
    """
    known = seen.as_of(at)
    return expand_seen(
        known,
        schedules,
        at,
        runtimes if runtimes is not None else RuntimeModel.learn(known, at),
        Steps.of(at, start, horizon_s, step_seconds, n_samples, seed),
        predicted=predicted,
        templates=templates,
    )


@dataclass(frozen=True, slots=True)
class Steps:
    """What is asked for: the grid, where it begins after the instant of knowledge, how many samples, which seed."""

    grid: Grid
    begins_s: float
    samples: int
    seed: int

    @classmethod
    def of(
        cls, at: datetime, start: datetime | None, horizon_s: int, step_seconds: int, n_samples: int, seed: int
    ) -> "Steps":
        """Check and keep.

        Raises:
            ForecastError: the horizon holds no whole step, or there are no samples.
        """
        if step_seconds <= 0 or horizon_s < step_seconds:
            raise ForecastError(f"a horizon of {horizon_s} s holds no step of {step_seconds} s")
        if n_samples < 1:
            raise ForecastError(f"{n_samples} samples are too few", hint="one at least, 200 for quantiles")
        begins = 0.0 if start is None else epoch(start) - epoch(at)
        return cls(Grid(float(step_seconds), horizon_s // step_seconds), begins, n_samples, seed)

    def finer(self, step_seconds: int) -> "Steps":
        """The same stretch of time in steps that divide these."""
        grid = Grid(float(step_seconds), int(self.grid.length // step_seconds))
        return replace(self, grid=grid)

    def until(self, at: datetime) -> datetime:
        """End of the last step."""
        return from_epoch(epoch(at) + self.begins_s + self.grid.length)


@dataclass(frozen=True)
class Gathered:
    """Everything known to come, ready to be realised.

    Attributes:
        units: tasks that run, will run, or are expected. tables: their runtimes. signatures: of the tables' tasks.
        live: positions of the live runs among those seen.
        predicted: the expected runs. notes: what could not be expanded, and why.
        estimated: what the runtimes rest on, as in KnownDemand.
    """

    units: Units
    tables: RuntimeTables
    signatures: NDArray[np.object_]
    live: Ints
    predicted: tuple[PredictedRun, ...]
    notes: tuple[str, ...]
    estimated: Mapping[str, float]


def gather(
    seen: WorkTable,
    schedules: Sequence[Schedule],
    at: datetime,
    runtimes: RuntimeModel,
    until: datetime,
    seed: int,
    *,
    predicted: Sequence[PredictedRun] = (),
    templates: WorkTable | None = None,
) -> Gathered:
    """Tasks of live runs and of those expected before `until`, of work that was already seen `as_of(at)`."""
    turns = expected_runs(seen, schedules, at, until)
    expected = _once(turns.runs, predicted)
    shapes = seen if templates is None else WorkTable.concat([seen, templates])
    living = live_units(seen, at, runtimes, seed)
    limits = {s.dag_id: s.max_active_runs for s in schedules if s.max_active_runs is not None}
    tight = _tight(limits, (*living.work.runs["dag_id"], *(p.dag_id for p in expected)))
    coming = predicted_units(shapes, expected, at, runtimes, seed, first_task=len(living.work), single=tight.keys())
    tables = living.names.tables(runtimes, coming.names)
    units = Units.concat([living.units, coming.units])
    origins = _origins(tables.origin[units.task])
    if tight:
        dags = (*living.work.runs["dag_id"], *coming.dags)
        units, tables = behind_limits(units, dags, tight, len(tables.row)), tables.with_nothing()
    return Gathered(
        units,
        tables,
        np.concatenate([living.names.signature, coming.names.signature]),
        living.runs,
        tuple(expected),
        (*turns.notes, *coming.notes),
        origins,
    )


def expand_seen(
    seen: WorkTable,
    schedules: Sequence[Schedule],
    at: datetime,
    runtimes: RuntimeModel,
    steps: Steps,
    *,
    predicted: Sequence[PredictedRun] = (),
    templates: WorkTable | None = None,
    watched: NDArray[np.bool_] | None = None,
) -> KnownDemand:
    """As `expand`, of work that was already seen `as_of(at)`; `watched`: (R,) runs to be told apart, or None."""
    until = steps.until(at)
    known = gather(seen, schedules, at, runtimes, until, steps.seed, predicted=predicted, templates=templates)
    keys = None
    if watched is not None:
        told_apart = known.live[watched[known.live]]
        keys = key_of(seen.runs["run_id"].to_numpy(dtype=object)[told_apart], steps.seed)
    out = expand_units(known.units, known.tables, -steps.begins_s, steps.grid, steps.samples, keys)
    return KnownDemand(
        samples=out.peak,
        mean=out.mean,
        parts={p: out.parts[i] for i, p in enumerate(PARTS) if p != "learnt"},
        predicted=known.predicted,
        notes=known.notes,
        estimated=known.estimated,
        watched=out.watched,
    )


def _tight(limits: Mapping[str, int], dags: Sequence[str]) -> dict[str, int]:
    """Limits that could bind: of DAGs with more runs, live and expected, than may be active."""
    count = Counter(dags)
    return {dag: limit for dag, limit in limits.items() if count[dag] > limit}


def _once(scheduled: Sequence[PredictedRun], others: Sequence[PredictedRun]) -> list[PredictedRun]:
    """Scheduled runs, and of the others those whose DAG has no scheduled turn close by."""
    out = list(scheduled)
    dags = {r.dag_id for r in scheduled}
    out += [r for r in others if r.dag_id not in dags]
    return out


def _origins(origin: NDArray[np.int8]) -> Mapping[str, float]:
    names = ("own", "coarser", "hint", "pool")
    if not len(origin):
        return {}
    share = np.bincount(origin, minlength=len(names)) / len(origin)
    return {n: round(float(v), 4) for n, v in zip(names, share, strict=True)}
