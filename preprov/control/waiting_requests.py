"""What jobs ask for that people submitted to a pool's cluster and that wait there: as their task is sized, not as told.

Their scheduler is asked, which may refuse; that is put on record as what it is. Of a task of which a job that was given
less did not end well nothing is taken any more, and a time limit is never shortened: both would end work.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from preprov.contracts import AsksAnew, WaitingJob
from preprov.control.context import Context
from preprov.control.measuring import executions
from preprov.control.remembering import remembered
from preprov.control.trust import in_force
from preprov.model.adjusting import Adjusting
from preprov.model.errors import NotFoundError, PoolError
from preprov.model.plans import Action, ActionKind, ActionRecord, stable_id
from preprov.model.pools import Mode, Pool
from preprov.profiles.requests import Need, Room, needs
from preprov.profiles.waste import Price

log = structlog.get_logger(__name__)

_BACK: Final = timedelta(days=30)
_LEARNT_FOR: Final = timedelta(minutes=30)
_NEARLY: Final = 0.9
_LONGER: Final = 1.5
_TRIED: Final = 10_000


@dataclass(frozen=True)
class _Sized:
    """A task: what to ask for, and the longest that it took, seconds."""

    need: Need
    longest_s: float


@dataclass(frozen=True)
class _Wish:
    """What one job is to ask for instead; None = as it does."""

    cpu: float | None = None
    memory: float | None = None
    time_limit_s: float | None = None

    @property
    def is_nothing(self) -> bool:
        return self == _Wish()


def ask_anew(ctx: Context, pool: Pool, now: datetime) -> tuple[ActionRecord, ...]:
    """One look at all that waits, where the pool allows it, and acts in full; returns what was changed or refused."""
    manner = pool.adjusting
    if manner is None or not manner.pending or in_force(ctx, pool) is not Mode.FULL or not ctx.live:
        return ()
    if ctx.ports.intent.halted():
        return ()
    out: list[ActionRecord] = []
    for provider in dict.fromkeys(g.provider for g in pool.groups):
        scheduler: object = ctx.schedulers.get(provider)
        if not isinstance(scheduler, AsksAnew):
            continue
        try:
            out += _of_one(ctx, pool, scheduler, manner, now)
        except PoolError as e:
            log.warning("what waits cannot be seen", pool=pool.name, why=str(e))
    return tuple(out)


def _of_one(ctx: Context, pool: Pool, scheduler: AsksAnew, manner: Adjusting, now: datetime) -> list[ActionRecord]:
    jobs = scheduler.waiting(pool)
    tried = _tried(ctx, pool, now)
    if not jobs:
        return []
    sized = remembered(ctx, (pool.name, "sized-for-waiting"), _LEARNT_FOR, lambda: _sized(ctx, pool, now))
    spared = _spared(ctx, pool, scheduler, now) if manner.decrease else frozenset[str]()
    out = []
    for job in jobs:
        known = sized.get((job.tenant, job.dag, job.task)) or sized.get(("", job.dag, job.task))
        if known is None:
            continue
        wish = _wish(job, known, manner, spare=_key(job.claimant) in spared)
        if wish.is_nothing or tried.get(job.job_id) == wish:
            continue
        if len(tried) >= _TRIED:
            tried.clear()
        tried[job.job_id] = wish
        out.append(_asked(ctx, pool, scheduler, job, known, wish, now))
    return out


def _tried(ctx: Context, pool: Pool, now: datetime) -> dict[int, _Wish]:
    """What was asked for of which job; lost with the process, and then it is asked for once more."""
    held = ctx.memo.setdefault((pool.name, "asked-anew"), (now, {}))
    return held[1]  # type: ignore[return-value]


def _sized(ctx: Context, pool: Pool, now: datetime) -> Mapping[tuple[str, str, str], _Sized]:
    """By tenant, DAG and task; "" = of whichever tenant, where only one has it."""
    ran = executions(ctx, pool, since=now - _BACK, until=now)
    largest = [o.allocatable for g in pool.groups for o in g.offerings]
    room = Room(max(a.cpu for a in largest), max(a.memory for a in largest))
    found = needs(ran, room, Price(failure=pool.failure_price, cap=room.memory), seed=ctx.seed) if len(ran) else []
    longest = ran.frame.groupby(["tenant", "workflow", "process"])["runtime_s"].max().to_dict()
    out = {}
    for n in found:
        name = (n.tenant, n.dag, n.task)
        out[name] = _Sized(n, float(longest.get(name, 0.0)))
    alone = {n[1:]: n for n in out}
    several = {n[1:] for n in out if alone[n[1:]] != n}
    out |= {("", *bare): out[n] for bare, n in alone.items() if bare not in several}
    return out


def _spared(ctx: Context, pool: Pool, scheduler: AsksAnew, now: datetime) -> frozenset[str]:
    """Tasks, by the end of their claimants' names, of which a job that was given less did not end well."""
    rows = ctx.ports.audit.records(pool.name, since=now - _BACK)
    mine = [r.action for r in rows if r.result == "done" and r.action.kind is ActionKind.RESIZE]
    waited = [a for a in mine if not a.node_ids]  # what runs has a node
    less = [a for a in waited if any(a.numbers[f"{k}_after"] < a.numbers[f"{k}_before"] for k in ("cpu", "memory"))]
    jobs = {int(a.task.partition("/")[0]): a.task for a in less}
    return frozenset(_key(jobs[j]) for j in scheduler.failed(pool, frozenset(jobs))) if jobs else frozenset()


def _key(claimant: str) -> str:
    return claimant.partition("/")[2]


def _wish(job: WaitingJob, known: _Sized, manner: Adjusting, *, spare: bool) -> _Wish:
    amounts = {"cpu": known.need.ask_cpu, "memory": known.need.ask_memory} if known.need.said else {}
    wanted: dict[str, float] = {}
    for kind in job.can & amounts.keys():
        has, to = getattr(job.asked, kind), amounts[kind]
        to = min(to, has * manner.most)
        if not has > 0 or to != to:
            continue
        less, more = to < has * (1 - manner.tolerance), to > has
        if (less and manner.decrease and not spare) or (more and manner.increase):
            wanted[kind] = to
    if "cpu" in wanted and -(-wanted["cpu"] // 1) == job.asked.cpu:
        del wanted["cpu"]  # whole cores are asked for
    limit, longer = job.time_limit_s, None
    if limit is not None and manner.increase and known.longest_s > limit * _NEARLY:
        most = min(known.longest_s * _LONGER, limit * manner.most)
        longer = most if most > limit else None
    return _Wish(wanted.get("cpu"), wanted.get("memory"), longer)


def _asked(
    ctx: Context, pool: Pool, scheduler: AsksAnew, job: WaitingJob, known: _Sized, wish: _Wish, now: datetime
) -> ActionRecord:
    result, detail = "done", ""
    try:
        scheduler.ask_anew(pool, job, wish.cpu, wish.memory, wish.time_limit_s)
    except NotFoundError as e:
        result, detail = "skipped", str(e)
    except PoolError as e:
        result, detail = "failed", f"refused: {e}"
    after = {"cpu": wish.cpu or job.asked.cpu, "memory": wish.memory or job.asked.memory}
    numbers = {f"{k}_before": getattr(job.asked, k) for k in after} | {f"{k}_after": v for k, v in after.items()}
    said = _said(job, known, wish)
    name = stable_id(pool.name, "ask", job.claimant, now.isoformat())
    action = Action(name, ActionKind.RESIZE, now, job.group, 1, said, numbers=numbers, task=job.claimant)
    row = ActionRecord(action, pool.name, "", ctx.actor, now, result, detail, ())
    ctx.ports.audit.record(row)
    return row


def _said(job: WaitingJob, known: _Sized, wish: _Wish) -> str:
    """`it waits, and asks for memory 8 -> 1.25 GiB, ...: 12 runs used .9 GiB at p99`."""
    parts = []
    if wish.memory is not None:
        parts.append(f"memory {job.asked.memory:.3g} -> {wish.memory:.3g} GiB")
    if wish.cpu is not None:
        parts.append(f"cpu {job.asked.cpu:.3g} -> {wish.cpu:.3g} cores")
    if wish.time_limit_s is not None and job.time_limit_s is not None:
        parts.append(f"time limit {job.time_limit_s / 60:.0f} -> {wish.time_limit_s / 60:.0f} min")
    n = known.need
    used = f"{n.measured} runs used {n.memory[1]:.3g} GiB and {n.cpu[1]:.3g} cores at p99"
    return f"it waits, and asks for {', '.join(parts)}: {used}, for {known.longest_s / 60:.1f} min at most"
