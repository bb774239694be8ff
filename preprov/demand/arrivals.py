"""Runs that are due: turns of declared schedules, whether and how late they come, learnt from those that came."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from preprov.demand.schedules import turns
from preprov.model.errors import ConfigError
from preprov.model.time import epoch, from_epoch
from preprov.model.work import Schedule
from preprov.model.worktable import WorkTable

Floats = NDArray[np.float64]

LEVELS: Final = 64
"""Points of a distribution of delays."""
_TURNS_LEARNT: Final = 100
_LONGEST_LEARNT: Final = timedelta(days=100)
_SHORTEST_LEARNT: Final = timedelta(days=2)
_DELAY_PRIOR: Final = 10.0  # turns that the pool's delays are worth against a DAG's own
_SKIP_PRIOR: Final = 20.0
_ASSUMED_SKIP: Final = 0.01
_ASSUMED_DELAYS: Final = (0.0, 5.0, 15.0, 30.0, 60.0)
_STOPS: Final = 2e-4  # of schedules that cease without a word, per turn
_LATEST_S: Final = 6 * 3600.0
_SAME_TURN_S: Final = 1.0
_PATIENCE_S: Final = 600.0


@dataclass(frozen=True, eq=False)
class PredictedRun:
    """A run that has not been submitted and is expected.

    Attributes:
        dag_id: whose last seen runs it is shaped like. turn: when it is meant to start, seconds since the epoch.
        probability: that it comes at all, given that it has not come yet.
        delays: (LEVELS,) seconds from `turn` to its start at evenly spaced levels, given that it has not come yet.
        part: "scheduled" or "recurring". max_active: further runs queue behind so many; None = no limit.
    """

    dag_id: str
    turn: float
    probability: float = 1.0
    delays: Floats = field(default_factory=lambda: np.zeros(LEVELS))
    part: str = "scheduled"
    max_active: int | None = None


@dataclass(frozen=True)
class Turns:
    """Predicted runs of schedules, and what stood in the way of predicting."""

    runs: tuple[PredictedRun, ...]
    notes: tuple[str, ...] = ()


def due_runs(seen: WorkTable, schedules: Sequence[Schedule], at: datetime, until: datetime) -> Turns:
    """Turns that are due before `until` and whose run was not submitted by `at`.

    A turn that is past and whose run is not there is late, not gone: it stays as likely as the lateness of earlier
    turns makes it. A run belongs to the turn it was scheduled for, so a turn that was submitted is not predicted again.

    Args:
        seen: work as it was known at `at`.
    """
    now = epoch(at)
    came = _came(seen)
    pooled = _thinned(np.concatenate([c.delay for c in came.values()])) if came else np.empty(0)
    history = {s.dag_id: _history(s, came.get(s.dag_id), seen, at, until) for s in schedules if not s.paused}
    missed = sum(h.missed - h.missed_last for h in history.values())
    judged = sum(h.judged - h.missed_last for h in history.values())
    usual_skip = (missed + _SKIP_PRIOR * _ASSUMED_SKIP) / (judged + _SKIP_PRIOR)
    out: list[PredictedRun | None] = []
    for s in schedules:
        held = history.get(s.dag_id)
        if held is None or not len(held.open):
            continue
        delays, weights = _delays(came.get(s.dag_id), pooled)
        # Misses in a row at the end speak of the schedule's end; the others of how often a turn is skipped.
        settled = held.judged - held.missed_last
        skip = (held.missed - held.missed_last + _SKIP_PRIOR * usual_skip) / (settled + _SKIP_PRIOR)
        alive = skip**held.missed_last / (skip**held.missed_last + _STOPS)
        comes = alive * (1.0 - skip)
        out += [
            expected_run(s.dag_id, float(turn), now, delays, weights, comes, max_active=s.max_active_runs)
            for turn in held.open
        ]
    return Turns(tuple(r for r in out if r is not None), tuple(h.note for h in history.values() if h.note))


def expected_run(
    dag_id: str,
    turn: float,
    now: float,
    delays: Floats,
    weights: Floats,
    comes: float,
    *,
    part: str = "scheduled",
    max_active: int | None = None,
) -> PredictedRun | None:
    """A run that did not come by `now`: how likely it still is, and how late; None if it is too late.

    Args:
        turn: when it was meant. delays, weights: (N,) how late such runs came, ascending, and how often (sum 1).
        comes: probability that such a run comes at all.
    """
    still = delays > now - turn
    left = float(weights[still].sum())
    if left <= 0:
        return None
    probability = comes * left / (comes * left + 1.0 - comes)
    spread = np.cumsum(weights[still]) / left
    position = np.minimum(np.searchsorted(spread, (np.arange(LEVELS) + 0.5) / LEVELS), int(still.sum()) - 1)
    return PredictedRun(dag_id, turn, probability, delays[still][position], part, max_active)


@dataclass(frozen=True)
class _Came:
    """Runs of a DAG that belong to turns: the turns, and how late each run was."""

    turn: Floats
    delay: Floats


def _came(seen: WorkTable) -> Mapping[str, _Came]:
    runs = seen.runs
    turn = runs["scheduled_for"].to_numpy(np.float64)
    known = np.flatnonzero(np.isfinite(turn))
    start = np.fmax(runs["submit"].to_numpy(np.float64), runs["due"].to_numpy(np.float64))
    dag, names = pd.factorize(runs["dag_id"].to_numpy(dtype=object)[known], sort=True)
    order = known[np.lexsort((turn[known], dag))]
    delay = np.clip(start[order] - turn[order], 0.0, _LATEST_S)
    bounds = np.cumsum(np.bincount(dag, minlength=len(names))).tolist()
    return {
        str(name): _Came(turn[order[a:b]], delay[a:b]) for name, a, b in zip(names, [0, *bounds], bounds, strict=False)
    }


@dataclass(frozen=True)
class _History:
    """What became of a schedule's turns: how many were judged, missed, missed lately in a row; and which are open."""

    judged: int = 0
    missed: int = 0
    missed_last: int = 0
    open: Floats = field(default_factory=lambda: np.empty(0))
    note: str = ""


def _history(s: Schedule, came: _Came | None, seen: WorkTable, at: datetime, until: datetime) -> _History:
    now = epoch(at)
    try:
        all_turns = _turns_around(s, at, until)
    except ConfigError as error:
        return _History(note=f"schedule of {s.dag_id} left out: {error.what}")
    submitted = came.turn if came is not None else np.empty(0)
    slowest = float(np.quantile(came.delay, 0.99)) if came is not None else 0.0
    near = np.searchsorted(submitted, all_turns - _SAME_TURN_S)
    found = near < len(submitted)
    found[found] = submitted[near[found]] <= all_turns[found] + _SAME_TURN_S
    open_turns = all_turns[~found & (all_turns > now - _LATEST_S) & (all_turns < epoch(until))]
    if not len(submitted):
        return _History(open=open_turns)
    # Judged are turns between the first that came and the last time that anything at all was submitted here: a source
    # that fell silent says nothing about its schedules.
    heard = float(seen.runs["submit"].max()) - _PATIENCE_S
    settled = (all_turns >= submitted[0]) & (all_turns <= min(heard, now - _PATIENCE_S - slowest))
    missed = ~found[settled]
    in_a_row = int(np.argmin(missed[::-1])) if missed.any() and not missed.all() else int(missed.sum())
    return _History(int(settled.sum()), int(missed.sum()), in_a_row, open_turns)


def _turns_around(s: Schedule, at: datetime, until: datetime) -> Floats:
    """Turns of the learnt past and of the horizon and a little more, oldest first, seconds since the epoch."""
    # Bounds on the hour: what was worked out serves until the next one.
    day = from_epoch(epoch(at) // 3600 * 3600)
    return _turns_by_hour(s, day, from_epoch(-(-epoch(max(until, day)) // 3600) * 3600 + 7200))


@lru_cache(maxsize=4096)
def _turns_by_hour(s: Schedule, day: datetime, until: datetime) -> Floats:
    ahead = turns(s, day, until)
    probe = turns(s, day, day + timedelta(days=2)) or turns(s, day, day + timedelta(days=35))
    gap = (probe[-1] - probe[0]) / (len(probe) - 1) if len(probe) > 1 else _LONGEST_LEARNT
    back = min(max(_TURNS_LEARNT * gap, _SHORTEST_LEARNT), _LONGEST_LEARNT)
    back = timedelta(seconds=back.total_seconds() // 3600 * 3600)
    out = np.array([t.timestamp() for t in (*turns(s, day - back, day), *ahead)], dtype=np.float64)
    out.flags.writeable = False
    return out


def _thinned(values: Floats, most: int = 400) -> Floats:
    if len(values) <= most:
        return values
    out: Floats = np.quantile(values, (np.arange(most) + 0.5) / most)
    return out


def _delays(came: _Came | None, pooled: Floats) -> tuple[Floats, Floats]:
    """Delays, ascending, and their weights (sum 1): the DAG's own and the pool's."""
    rest = pooled if len(pooled) >= len(_ASSUMED_DELAYS) else np.array(_ASSUMED_DELAYS)
    own = came.delay[-200:] if came is not None else np.empty(0)
    trust = len(own) / (len(own) + _DELAY_PRIOR)
    value = np.concatenate([own, rest])
    weight = np.concatenate([np.full(len(own), trust / max(len(own), 1)), np.full(len(rest), (1 - trust) / len(rest))])
    order = np.argsort(value, kind="stable")
    return value[order], weight[order]
