"""The queue at an instant: what runs, what waits, what is due, run by run, and the demand all of it will make."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from preprov.demand.features import RunFeatures, run_features
from preprov.demand.known import Steps, expand_seen
from preprov.demand.live import amounts
from preprov.demand.runtimes import RuntimeModel
from preprov.demand.seen import live
from preprov.model.demand import QUANTILES, DemandCurve
from preprov.model.resources import KINDS, UNITS
from preprov.model.time import epoch, from_epoch
from preprov.model.work import Schedule
from preprov.model.worktable import READY, RUNNING, WorkTable

_SAMPLES = 200


@dataclass(frozen=True)
class Count:
    """So many runs, task instances and what they want together, at an instant."""

    runs: int
    task_instances: int
    wants: Mapping[str, float]

    @property
    def cores(self) -> float:
        """Cores wanted."""
        return self.wants["cpu"]

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        wants = {k: round(v, 6) for k, v in self.wants.items()}
        return {"runs": self.runs, "task_instances": self.task_instances, "cores": wants["cpu"], "wants": wants}


@dataclass(frozen=True)
class Due:
    """A run that a schedule announces within the horizon."""

    dag_id: str
    at: float
    probability: float


@dataclass(frozen=True)
class QueueAnalysis:
    """What is known of a pool's work at an instant.

    Attributes:
        running: tasks that run. queued: tasks that were submitted and do not run yet; ready: those of them that could.
        observed: running and queued as they really were, where the history says so beside the nominal timing.
        due: turns of schedules within the horizon whose run was not submitted yet.
        runs: features per live run. curve: the demand all this makes. notes: what could not be expanded.
    """

    at: datetime
    running: Count
    queued: Count
    ready: Count
    observed: Mapping[str, Count] | None
    due: tuple[Due, ...]
    runs: tuple[RunFeatures, ...]
    curve: DemandCurve
    notes: tuple[str, ...]

    def as_dict(self, kind: str = "cpu") -> dict[str, object]:
        """For JSON: the curve's points are of one resource."""
        return {
            "at": self.at.isoformat(),
            "running": self.running.as_dict(),
            "queued": {**self.queued.as_dict(), "ready": self.ready.as_dict()},
            "observed": None if self.observed is None else {k: c.as_dict() for k, c in self.observed.items()},
            "due": [
                {"dag_id": d.dag_id, "at": from_epoch(d.at).isoformat(), "probability": round(d.probability, 4)}
                for d in self.due
            ],
            "runs": [r.as_dict() for r in self.runs],
            "resource": kind,
            "unit": UNITS[kind],
            "step_seconds": self.curve.step_seconds,
            "quantiles": list(self.curve.quantiles),
            "points": self.curve.points(kind),
            "notes": list(self.notes),
        }


def analyze(
    seen: WorkTable,
    schedules: Sequence[Schedule],
    at: datetime,
    *,
    horizon_s: int,
    step_seconds: int,
    quantiles: Sequence[float] = QUANTILES,
    pool: str = "",
    runtimes: RuntimeModel | None = None,
    templates: WorkTable | None = None,
    n_samples: int = _SAMPLES,
    seed: int = 0,
) -> QueueAnalysis:
    """Analyse what is queued, running and due at an instant, and expand it.

    Args:
        seen: work; what it says of times after `at` is not looked at. schedules: declared.
        at: the instant, where the first step begins. horizon_s, step_seconds: of the expansion.
        quantiles: of the curve. pool: its name in the curve. runtimes: learnt here if None.
        templates: runs that show the shape of DAGs which never ran.

    Raises:
        ForecastError: the horizon holds no whole step.
    """
    known = seen.as_of(at)
    model = runtimes if runtimes is not None else RuntimeModel.learn(known, at)
    steps = Steps.of(at, None, horizon_s, step_seconds, n_samples, seed)
    demand = expand_seen(known, schedules, at, model, steps, templates=templates)
    curve = DemandCurve(
        pool=pool,
        issued_at=at,
        start=at,
        step_seconds=step_seconds,
        samples=demand.samples,
        mean=demand.mean,
        parts=demand.parts,
        quantiles=tuple(quantiles),
        basis={"runtimes": dict(demand.estimated), "notes": list(demand.notes)},
    )
    states = known.states(at)
    alive = live(known, states)
    return QueueAnalysis(
        at=curve.issued_at,
        running=_count(known, states == RUNNING),
        queued=_count(known, alive & (states != RUNNING)),
        ready=_count(known, alive & (states == READY)),
        observed=_observed(known, epoch(at)),
        due=tuple(Due(p.dag_id, p.turn, p.probability) for p in demand.predicted),
        runs=run_features(known, at, model, seed),
        curve=curve,
        notes=demand.notes,
    )


def _count(seen: WorkTable, which: NDArray[np.bool_]) -> Count:
    task = np.flatnonzero(which)
    tasks = seen.tasks.iloc[task]
    wants = amounts(tasks).sum(axis=0)
    return Count(
        runs=int(tasks["run"].nunique()),
        task_instances=int(tasks["instances"].sum()),
        wants=dict(zip(KINDS, wants.tolist(), strict=True)),
    )


def _observed(seen: WorkTable, now: float) -> Mapping[str, Count] | None:
    """What really ran and waited, of runs with nominal timing whose real one is known too."""
    nominal = (seen.runs["timing"] == "nominal").to_numpy()[seen.tasks["run"].to_numpy()]
    started, ended = (seen.tasks[c].to_numpy(np.float64) for c in ("started_at", "ended_at"))
    if not (nominal & np.isfinite(started)).any():
        return None
    ready = seen.tasks["ready_at"].to_numpy(np.float64)
    running = nominal & (started <= now) & ~(ended <= now)
    queued = nominal & (ready <= now) & ~(started <= now)
    return {"running": _count(seen, running), "queued": _count(seen, queued)}
