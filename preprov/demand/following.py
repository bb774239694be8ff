"""Runs that follow others: a DAG that begins once certain tasks have ended is expected when these usually do.

A run of such a DAG is foretold from runs that make way for it, live ones and expected ones: how long after the begin of
a run its task ended well is learnt from earlier runs. The updates are played in the order of their medians, for the
DAG begins when all of one alternative came since it last began.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, TypeAlias

import numpy as np
import pandas as pd

from preprov.demand.arrivals import LEVELS, Floats, PredictedRun, Turns, due_runs
from preprov.model.time import epoch
from preprov.model.work import Schedule, Trigger
from preprov.model.worktable import WorkTable

Maker: TypeAlias = tuple[str, str]
"""(DAG, task)."""

_LEARNT: Final = 50
"""Last runs from which it is learnt when a task ends."""
_LAG_LEVELS: Final = 16
_PATIENCE_S: Final = 600.0
"""A run that has not come so long after all it waits for is not expected any more."""


def foreseeable(schedules: Sequence[Schedule]) -> frozenset[str]:
    """DAGs whose runs their schedules foretell: by turns, or by following DAGs of which the same is true."""
    found = {s.dag_id for s in schedules if s.tells_turns}
    left = [s for s in schedules if s.follows and s.dag_id not in found]
    while True:
        more = {s.dag_id for s in left if any(all(dag in found for dag, _ in parts) for parts in s.follows)}
        if more <= found:
            return frozenset(found)
        found |= more


def expected_runs(seen: WorkTable, schedules: Sequence[Schedule], at: datetime, until: datetime) -> Turns:
    """Turns that are due before `until`, as of `arrivals.due_runs`, and runs that follow others, live or expected.

    Args:
        seen: work as it was known at `at`.
    """
    turns = due_runs(seen, schedules, at, until)
    return replace(turns, runs=(*turns.runs, *_following(seen, schedules, turns.runs, at, until)))


def followers(
    seen: WorkTable, schedules: Sequence[Schedule], at: datetime, until: datetime
) -> tuple[PredictedRun, ...]:
    """Of `expected_runs` those that follow others."""
    if not any(s.follows for s in schedules):
        return ()
    return tuple(_following(seen, schedules, due_runs(seen, schedules, at, until).runs, at, until))


def _following(
    seen: WorkTable, schedules: Sequence[Schedule], expected: Iterable[PredictedRun], at: datetime, until: datetime
) -> list[PredictedRun]:
    after = [s for s in schedules if s.follows and not s.paused]
    return _of_all(seen, after, expected, epoch(at), epoch(until)) if after else []


def _of_all(
    seen: WorkTable, after: Sequence[Schedule], expected: Iterable[PredictedRun], now: float, until: float
) -> list[PredictedRun]:
    makers = {m for s in after for parts in s.follows for m in parts}
    known = _known(seen, makers)
    begun = _last_begun(seen)
    runs: dict[str, list[PredictedRun]] = {}
    for run in expected:
        runs.setdefault(run.dag_id, []).append(run)
    left = {s.dag_id: s for s in after}
    out: list[PredictedRun] = []
    while left:
        ready = [d for d, s in left.items() if not (_dags(s) & left.keys())]
        for dag in sorted(ready) or [min(left)]:  # those that are left go round in a circle
            s = left.pop(dag)
            found = _of_one(s, known, runs, begun.get(dag, -np.inf), now, until)
            runs.setdefault(dag, []).extend(found)
            out += found
    return out


def _dags(s: Schedule) -> set[str]:
    return {dag for parts in s.follows for dag, _ in parts} - {s.dag_id}


# --------------------------------------------------------------------------- what is known of the makers


@dataclass
class _Made:
    """What is known of a maker.

    Attributes:
        lags: (N,) seconds from the begin of its runs to where it ended well, ascending.
        last: when it last did. live: begins of runs in which it has not ended yet.
    """

    lags: Floats = field(default_factory=lambda: np.empty(0))
    last: float = -np.inf
    live: tuple[float, ...] = ()


def _known(seen: WorkTable, makers: set[Maker]) -> Mapping[Maker, _Made]:
    """Of each maker; instances of a mapped task have ended when the last of them has."""
    of_dag = seen.runs["dag_id"].isin({dag for dag, _ in makers}).to_numpy()
    run = seen.tasks["run"].to_numpy()
    rows = np.flatnonzero(of_dag[run])
    out = {m: _Made() for m in makers}
    if not len(rows):
        return out
    tasks = seen.tasks.iloc[rows]
    begin = np.fmax(seen.runs["submit"].to_numpy(), seen.runs["due"].to_numpy())
    dags = seen.runs["dag_id"].to_numpy(dtype=object)
    frame = pd.DataFrame(
        {
            "run": run[rows],
            "task": [str(t).split("[")[0] for t in tasks["task_id"].tolist()],
            "end": tasks["ended_at"].to_numpy(),
            "open": np.isnan(tasks["ended_at"].to_numpy()),
            "well": np.isfinite(tasks["runtime_s"].to_numpy()),
        }
    )
    ends = frame.groupby(["task", "run"], sort=False).agg({"end": "max", "open": "any", "well": "all"}).reset_index()
    ends["dag"], ends["begin"] = dags[ends["run"].to_numpy()], begin[ends["run"].to_numpy()]
    for maker, part in ends.sort_values("begin").groupby(["dag", "task"], sort=False):
        if maker in out:
            well = part[part["well"]]
            lags = np.maximum((well["end"] - well["begin"]).to_numpy()[-_LEARNT:], 0.0)
            levels = (np.arange(_LAG_LEVELS) + 0.5) / _LAG_LEVELS
            out[maker] = _Made(
                np.quantile(lags, levels) if len(lags) else lags,
                float(well["end"].max()) if len(well) else -np.inf,
                tuple(part["begin"][part["open"]].tolist()),
            )
    return out


def _last_begun(seen: WorkTable) -> Mapping[str, float]:
    """DAG -> when it last began because of others."""
    runs = seen.runs[seen.runs["trigger"] == Trigger.DATASET.value]
    return {str(dag): float(at) for dag, at in runs.groupby("dag_id")["submit"].max().items()}


# --------------------------------------------------------------------------- what follows


@dataclass(frozen=True)
class _Update:
    """A maker ends well: (LEVELS,) instants, ascending, and how likely it does at all."""

    maker: Maker
    at: Floats
    probability: float


def _of_one(
    s: Schedule,
    known: Mapping[Maker, _Made],
    runs: Mapping[str, Sequence[PredictedRun]],
    begun: float,
    now: float,
    until: float,
) -> list[PredictedRun]:
    """Runs of a DAG that follows, the next first."""
    makers = {m for parts in s.follows for m in parts if m[0] != s.dag_id}
    came = {m: 1.0 for m in makers if begun < known[m].last <= now}
    out: list[PredictedRun] = []
    if (chance := _met(s, came)) is not None:
        if now - max(known[m].last for m in came) < _PATIENCE_S:
            out.append(_run(s, np.full(LEVELS, now), chance))
        came.clear()
    updates = [u for m in sorted(makers) for u in _updates(m, known[m], runs.get(m[0], ()), now)]
    for update in sorted(updates, key=lambda u: (float(u.at[LEVELS // 2]), u.maker)):
        came[update.maker] = update.probability
        if (chance := _met(s, came)) is not None:
            out.append(_run(s, update.at, chance))
            came.clear()
    return [r for r in out if r.turn < until]


def _updates(maker: Maker, made: _Made, expected: Sequence[PredictedRun], now: float) -> list[_Update]:
    if not len(made.lags):
        return []  # it never ended well: nobody knows how long it takes
    out = []
    for begin in made.live:
        left = made.lags[made.lags > now - begin]
        out.append(_Update(maker, _levels(begin + left if len(left) else np.array([now])), 1.0))
    for run in expected:
        sums = (run.turn + run.delays)[:, None] + made.lags[None, :]
        out.append(_Update(maker, np.maximum(_levels(sums.ravel()), now), run.probability))
    return out


def _levels(values: Floats) -> Floats:
    out: Floats = np.quantile(values, (np.arange(LEVELS) + 0.5) / LEVELS)
    return out


def _met(s: Schedule, came: Mapping[Maker, float]) -> float | None:
    """How likely all of an alternative came; None if none did."""
    chances = [min(came[m] for m in parts) for parts in s.follows if parts and all(m in came for m in parts)]
    return max(chances) if chances else None


def _run(s: Schedule, at: Floats, chance: float) -> PredictedRun:
    return PredictedRun(s.dag_id, float(at[0]), chance, at - at[0], max_active=s.max_active_runs)
