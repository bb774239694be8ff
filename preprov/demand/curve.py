"""Known and learnt demand joined into one curve, in which nothing is counted twice."""

from dataclasses import replace

import numpy as np

from preprov.demand.inputs import DemandInputs
from preprov.demand.known import KnownDemand, Steps, expand_seen
from preprov.demand.learnt import expected_otherwise, issue_learnt
from preprov.demand.runtimes import RuntimeModel
from preprov.demand.spreading import LearntDemand
from preprov.model.demand import DemandCurve
from preprov.model.time import epoch
from preprov.model.worktable import WorkTable

__all__ = ["DemandInputs", "demand_curve"]

_INNER_STEP = 300
_MOST_INNER_STEPS = 2_100


def demand_curve(given: DemandInputs) -> DemandCurve:
    """The demand of a pool from `given.start` on, as joint samples of all five resources.

    Known work (running, queued, due by schedule or by recurrence) is expanded; what comes unannounced is learnt, and of
    it only what is submitted after `given.at` is added. Steps coarser than five minutes are computed on finer ones, so
    that peaks of parts that never meet are not added up.

    Raises:
        ForecastError: the horizon holds no whole step, or there are no samples.
        ConfigError: a time without a zone.
    """
    seen = given.seen.as_of(given.at)
    step = _inner(given.step_seconds, given.horizon_s)
    asked = Steps.of(given.at, given.start, given.horizon_s, given.step_seconds, given.n_samples, given.seed)
    steps = asked.finer(step)
    runtimes = given.runtimes if given.runtimes is not None else RuntimeModel.learn(seen, given.at)
    asked_of = replace(given, seen=seen)
    covered, recurring = expected_otherwise(asked_of, steps.until(given.at))
    known = expand_seen(
        seen,
        given.schedules,
        given.at,
        runtimes,
        steps,
        predicted=(*given.predicted, *recurring),
        templates=given.templates,
        watched=~covered,
    )
    learnt = issue_learnt(asked_of, covered, step, steps.grid.steps, known.watched)
    curve = DemandCurve(
        pool=given.pool.name,
        issued_at=given.at,
        start=given.start,
        step_seconds=step,
        samples=known.samples + learnt.peak,
        mean=known.mean + learnt.mean,
        parts={**known.parts, "learnt": learnt.mean.mean(axis=0, dtype=np.float64)},
        basis=_basis(seen, given, known, learnt, runtimes),
    )
    return curve.resample(given.step_seconds)


def _inner(step: int, horizon: int) -> int:
    finer = step > _INNER_STEP and step % _INNER_STEP == 0 and horizon / _INNER_STEP <= _MOST_INNER_STEPS
    return _INNER_STEP if finer else step


def _basis(
    seen: WorkTable, given: DemandInputs, known: KnownDemand, learnt: LearntDemand, runtimes: RuntimeModel
) -> dict[str, object]:
    submits = seen.runs["submit"]
    age = epoch(given.at) - float(submits.max()) if len(submits) else None
    return {
        "n_runs": len(submits),
        "newest_run_age_s": age,
        "tasks_learnt_from": runtimes.n_tasks,
        "runtimes": dict(known.estimated),
        "turns_expected": len(known.predicted),
        "notes": list(known.notes),
        **learnt.basis,
    }
