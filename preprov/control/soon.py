"""What the next minutes will want, put together from the store: live runs on their courses, turns that are due."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from preprov.control.context import Context
from preprov.control.demanding import inputs
from preprov.demand.arrivals import PredictedRun, due_runs
from preprov.demand.learnt import expected_otherwise
from preprov.demand.runtimes import RuntimeModel
from preprov.demand.soon import START, Course, Moving, Position, courses, rises
from preprov.model.pools import Pool
from preprov.model.time import epoch, floor_to
from preprov.model.worktable import Array, WorkTable

SAMPLES: Final = 48
ALTERNATIVES: Final = 8
"""Last runs of a DAG whose shapes its next one may have."""
_LIVE_FOR: Final = timedelta(hours=6)
AGENDA_S: Final = 1800
"""What is expected is worked out anew this often, for all the time until then and as long again."""
_AHEAD: Final = timedelta(seconds=AGENDA_S + 1800)
_SAME_RUN_S: Final = 1800.0
_MOST_OF_RUNS: Final = 64


def rises_soon(ctx: Context, pool: Pool, offsets: Array) -> Array:
    """(S, W, 5) how much more than now is wanted `offsets` (W,) seconds from now, of work that is known to come."""
    now = ctx.clock.now()
    seen = ctx.ports.work.work(pool.name, since=now - _LIVE_FOR, until=now)
    moving = [*_under_way(ctx, pool, seen, now), *((m, START) for m in _due(ctx, pool, seen, now, float(offsets[-1])))]
    return rises(moving, epoch(now), offsets, SAMPLES)


def _runtimes(ctx: Context, pool: Pool, now: datetime) -> RuntimeModel:
    """The model that demand goes by; learnt now if there is none yet."""
    held = ctx.memo.get((pool.name, "runtimes"))
    if held and isinstance(held[1], RuntimeModel):
        return held[1]
    given = inputs(ctx, pool, now)
    return given.runtimes if given.runtimes is not None else RuntimeModel.learn(given.seen, now)


def _under_way(ctx: Context, pool: Pool, seen: WorkTable, now: datetime) -> list[tuple[Moving, Position]]:
    """Live runs and how far along each is."""
    if not len(seen.runs):
        return []
    at = epoch(now)
    run = seen.tasks["run"].to_numpy()
    begin, end = seen.spans()
    over, lasted_s = _over(ctx, pool, seen, end <= at), at - begin
    last = np.fmax(seen.runs["submit"].to_numpy(), seen.runs["due"].to_numpy())
    np.fmax.at(last, run, np.where(end <= at, end, np.nan))
    quiet_s = at - last
    count = len(seen.runs)
    edge = np.searchsorted(run, np.arange(count + 1)).tolist()
    live = np.flatnonzero(np.bincount(run[over < 1.0], minlength=count))[-_MOST_OF_RUNS:]
    kept = _courses_kept(ctx, pool)
    names = seen.runs["run_id"].to_numpy(dtype=object)
    tasks = np.diff(edge)
    new = [r for r in live.tolist() if (held := kept.get(names[r])) is None or held.tasks != tasks[r]]
    if new:
        chosen = np.zeros(count, dtype=bool)
        chosen[new] = True
        made = courses(seen.select_runs(chosen), _runtimes(ctx, pool, now))
        for r, course in zip(new, made, strict=True):
            kept[names[r]] = Moving((course,), str(names[r]), SAMPLES, ctx.seed)
    for gone in kept.keys() - set(names[live]):
        del kept[gone]
    out = []
    for r in live.tolist():
        moving = kept[names[r]]
        mine = slice(edge[r], edge[r + 1])
        quiet = float(quiet_s[r])
        where = moving.courses[0].position(lasted_s[mine], over[mine], quiet) if quiet >= 0 else Position(quiet)
        out.append((moving, where))
    return out


def _over(ctx: Context, pool: Pool, seen: WorkTable, ended: Array) -> Array:
    """(T,) share of each task's instances that have ended."""
    over = ended.astype(np.float64)
    parts = parts_over(ctx, pool)
    if parts:
        names = seen.runs["run_id"].to_numpy(dtype=object)[seen.tasks["run"].to_numpy()]
        tasks, count = seen.tasks["task_id"].to_numpy(dtype=object), seen.tasks["instances"].to_numpy()
        for t in np.flatnonzero(~ended & (count > 1)).tolist():
            over[t] = min(parts.get((names[t], tasks[t]), 0) / count[t], 1.0)
    return over


def note_parts(ctx: Context, pool: Pool, parts: Mapping[tuple[str, str], int]) -> None:
    """Of which tasks, as (run, task), some instances have ended while others have not, and how many."""
    ctx.memo[(pool.name, "parts")] = (ctx.clock.now(), dict(parts))


def parts_over(ctx: Context, pool: Pool) -> Mapping[tuple[str, str], int]:
    """What was noted last."""
    held = ctx.memo.get((pool.name, "parts"))
    return held[1] if held and isinstance(held[1], dict) else {}


def _courses_kept(ctx: Context, pool: Pool) -> dict[str, Moving]:
    key = (pool.name, "courses")
    held = ctx.memo.get(key)
    if held is None:
        ctx.memo[key] = held = (ctx.clock.now(), {})
    return held[1]  # type: ignore[return-value]


def _due(ctx: Context, pool: Pool, seen: WorkTable, now: datetime, ahead_s: float) -> list[Moving]:
    """Expected runs that may begin soon and have not come."""
    at = epoch(now)
    half = floor_to(now, AGENDA_S)
    agenda = expected_turns(ctx, pool, half)
    near = [p for p in agenda if at + ahead_s > p.turn + float(p.delays[0]) and p.turn + float(p.delays[-1]) > at]
    if not near:
        return []
    since = epoch(half)
    dag, submit = seen.runs["dag_id"].to_numpy(dtype=object), seen.runs["submit"].to_numpy()
    turn = seen.runs["scheduled_for"].to_numpy()
    late = submit > since
    came: dict[str, list[float]] = {}
    for d, t, s in zip(dag[late], turn[late], submit[late], strict=True):
        came.setdefault(d, []).append(float(t if np.isfinite(t) else s))
    shapes = _shapes(ctx, pool, half, agenda)
    out = []
    for p in near:
        if any(abs(t - p.turn) < (1.0 if p.part == "scheduled" else _SAME_RUN_S) for t in came.get(p.dag_id, ())):
            continue
        if p.dag_id in shapes:
            out.append(_moving(ctx, pool, shapes[p.dag_id], p))
    return out


def _moving(ctx: Context, pool: Pool, shapes: tuple[Course, ...], p: PredictedRun) -> Moving:
    kept = ctx.memo.setdefault((pool.name, "due"), (ctx.clock.now(), {}))[1]
    turns: dict[str, Moving] = kept if isinstance(kept, dict) else {}
    name = f"{p.dag_id}@{p.turn:.0f}"
    held = turns.get(name)
    if held is None or held.due is not p:
        held = turns[name] = Moving(shapes, name, SAMPLES, ctx.seed, p)
    return held


def expected_turns(ctx: Context, pool: Pool, half: datetime) -> tuple[PredictedRun, ...]:
    """Runs expected within the half hour from `half` and a little more, by what was submitted by then."""
    key = (pool.name, "agenda")
    held = ctx.memo.get(key)
    if held is not None and held[0] == half:
        return held[1]  # type: ignore[return-value]
    given = inputs(ctx, pool, half)
    until = half + _AHEAD
    _, recurring = expected_otherwise(given, until)
    scheduled = due_runs(given.seen, given.schedules, half, until).runs
    known = {p.dag_id for p in scheduled}
    found = (*scheduled, *(p for p in recurring if p.dag_id not in known))
    ctx.memo.pop((pool.name, "due"), None)
    ctx.memo[key] = (half, found)
    return found


def _shapes(
    ctx: Context, pool: Pool, half: datetime, agenda: tuple[PredictedRun, ...]
) -> Mapping[str, tuple[Course, ...]]:
    """The courses of the last runs of each expected DAG."""
    key = (pool.name, "shapes")
    held = ctx.memo.get(key)
    if held is not None and held[0] == half:
        return held[1]  # type: ignore[return-value]
    found = _last_courses(ctx, pool, half, {p.dag_id for p in agenda})
    ctx.memo[key] = (half, found)
    return found


def _last_courses(ctx: Context, pool: Pool, half: datetime, dags: Collection[str]) -> Mapping[str, tuple[Course, ...]]:
    given = inputs(ctx, pool, half)
    model = given.runtimes if given.runtimes is not None else RuntimeModel.learn(given.seen, half)
    last: dict[str, list[int]] = {}
    for r, d in enumerate(given.seen.runs["dag_id"].to_numpy(dtype=object)):
        if d in dags:
            last.setdefault(d, []).append(r)
    chosen = np.zeros(len(given.seen.runs), dtype=bool)
    for runs in last.values():
        chosen[runs[-ALTERNATIVES:]] = True
    out: dict[str, list[Course]] = {}
    for work in (given.seen.select_runs(chosen), given.templates):
        if work is not None:
            fresh = [d not in last or work is not given.templates for d in work.runs["dag_id"]]
            for d, course, good in zip(work.runs["dag_id"], courses(work, model), fresh, strict=True):
                if good:
                    out.setdefault(d, []).append(course)
    return {d: tuple(c) for d, c in out.items()}
