"""Probe runs: a task is tried on a sample, short and capped, before it is given its room, where that pays.

What was decided, what it cost and what came of it is one action of the audit log, found again by its id: a controller
that takes over goes on with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import structlog

from preprov.contracts import ResourceAdjuster, TaskReport
from preprov.control.allocating.tasks import Tasks
from preprov.control.context import Context
from preprov.control.handover import open_rooms
from preprov.control.instances import Instance
from preprov.control.learnt import Key, signatures_of
from preprov.control.lifecycle import Live
from preprov.control.measuring import usual_runs
from preprov.control.observing import of_tasks
from preprov.control.phased import UNKNOWN_RUNTIME_S
from preprov.model.curved import Probing
from preprov.model.errors import PoolError, ReservationError
from preprov.model.nodes import Node, Phase, PoolObservation
from preprov.model.plans import Action, ActionKind, ActionRecord, stable_id
from preprov.model.pools import Pool
from preprov.model.reservations import Purpose, Reservation, ReservationState, Segment
from preprov.model.resources import Resources
from preprov.model.usage import UsageRun
from preprov.model.work import Probe, State, TaskRun
from preprov.planning.placement import PlacementRequest, first_fit
from preprov.profiles.probing import Expected, told_by, worth
from preprov.profiles.waste import Price

log = structlog.get_logger(__name__)

PROBE: Final = "~probe"
"""Behind the name of the task that it is of."""
_LEASE_S: Final = 60.0
_STEP: Final = 1 / 16
_MARGIN: Final = 1.25
_LATE_S: Final = 60.0
_REMEMBERED: Final = 10_000


@dataclass(frozen=True)
class _Past:
    """Peaks of a task's runs, GiB, and of those that were probed the pair: probe's and task's. hours: of a run."""

    peaks: tuple[float, ...]
    pairs: tuple[tuple[float, float], ...]
    hours: float


def probed(
    ctx: Context,
    pool: Pool,
    live: Live,
    observation: PoolObservation,
    reports: Sequence[TaskReport],
    now: datetime,
) -> tuple[Live, frozenset[str]]:
    """One look at tasks that name a probe; (live work at the size that probes told, claimants that wait for one)."""
    setting = pool.probing
    if setting is None:
        return live, frozenset()
    _end_overdue(ctx, pool, live, observation, reports, now)
    waiting, changed = set(), []
    for task in live.tasks.values():
        if task.spec.probe is None or task.state is not State.READY or not _can_be(task):
            continue
        row = _row(ctx, pool, task)
        if row is None and task.attempt == 1:
            row = _begun(ctx, pool, live, task, observation, setting, now)
        elif row is not None and row.result == "intended":
            row = _followed(ctx, pool, live, task, row, reports, now)
        if row is not None and row.result == "intended":
            waiting.add(task.claimant(0))
        if row is not None and row.result == "done":
            changed.append(_sized(task, row))
    return live.with_tasks(changed), frozenset(waiting)


def _can_be(task: TaskRun) -> bool:
    """One of several instances, and what is under a booking, is not tried beforehand."""
    return task.spec.instances == 1 and not task.spec.under


def _id(pool: Pool, task: TaskRun) -> str:
    return stable_id(pool.name, "probe", replace(task, attempt=1).claimant(0))


def _row(ctx: Context, pool: Pool, task: TaskRun) -> ActionRecord | None:
    """What was decided, and what came of it."""
    memo: dict[str, ActionRecord] = ctx.memo.setdefault((pool.name, "probes"), (ctx.clock.now(), {}))[1]  # type: ignore[assignment]
    name = _id(pool, task)
    if name not in memo:
        rows = ctx.ports.audit.records(action_id=name)
        if not rows:
            return None
        if len(memo) >= _REMEMBERED:
            memo.clear()
        memo[name] = rows[-1]
    return memo[name]


def _sample(task: TaskRun, probe: Probe) -> TaskRun:
    """The probe, as a scheduler starts it."""
    spec = replace(
        task.spec,
        task_id=task.task_id + PROBE,
        command=probe.command or task.spec.command,
        request=probe.cap,
        runtime_hint_s=probe.seconds,
        retries=0,
    )
    return replace(task, task_id=spec.task_id, spec=spec, attempt=1)


# ---- whether it pays


def _weighed(
    ctx: Context, pool: Pool, task: TaskRun, past: _Past, setting: Probing, now: datetime
) -> tuple[bool, str, dict[str, float]]:
    """(it pays, in words, in numbers): in USD where prices are known, else in node seconds."""
    probe = _named(task)
    offering = max((o for g in pool.groups for o in g.offerings), key=lambda o: o.allocatable.memory)
    room = offering.allocatable
    price = Price(failure=setting.failure, cap=room.memory)
    found = worth(Expected.of(past.peaks, max(task.spec.request.memory, _STEP)), past.hours, price, past.pairs)
    cost_s = probe.seconds * probe.cap.share_of(room, ("cpu", "memory"))
    gained_s = found.saved / room.memory * 3600
    numbers = {
        "node_seconds": 0.0,
        "gib_hours_wasted_now": found.now,
        "gib_hours_wasted_after": found.after,
        "node_seconds_gained": gained_s,
        "node_seconds_of_probe": cost_s,
        "runs": float(len(past.peaks)),
        "pairs": float(len(past.pairs)),
    }
    usd = ctx.prices.usd_per_hour(offering, now)
    if usd is None:
        pays = gained_s > setting.worth * cost_s
        said = f"{gained_s:.3g} node s are expected to be saved, it takes {cost_s:.3g}"
    else:
        waits = pool.objective.shortage_usd_per_core_hour * task.spec.request.cpu * probe.seconds / 3600
        gained, cost = gained_s / 3600 * usd, cost_s / 3600 * usd + waits
        numbers |= {"usd_gained": gained, "usd_of_probe_and_waiting": cost}
        pays = gained > setting.worth * cost
        said = f"{gained:.3g} USD are expected to be saved, it costs {cost:.3g} with the {probe.seconds:g} s of waiting"
    wasted = f"{found.now:.3g} GiB h are expected to be wasted without it, {found.after:.3g} with it"
    return pays, f"{said} ({wasted}; {len(past.peaks)} runs known)", numbers


def _named(task: TaskRun) -> Probe:
    return task.spec.probe or Probe()


def _past(ctx: Context, pool: Pool, live: Live, task: TaskRun, *, at_once: bool = False) -> _Past | None:
    """None: this round has looked up its share, and of this one it was not its turn."""
    run = live.runs[task.run_id]
    key = Key(pool.name, "probe past", run.dag_id, task.signature)
    past, looked_up = signatures_of(ctx).ask(
        key, ctx.clock.now(), lambda _: _looked_up(ctx, pool, run.dag_id, task), may=True if at_once else None
    )
    return past if past is not None or not looked_up else _nothing(task)


def _nothing(task: TaskRun) -> _Past:
    return _Past((), (), (task.spec.runtime_hint_s or UNKNOWN_RUNTIME_S) / 3600)


def _looked_up(ctx: Context, pool: Pool, dag: str, task: TaskRun) -> _Past | None:
    same = usual_runs(ctx, pool, dag, task, lambda u: bool(np.isfinite(u.memory).any()))
    if not same:
        return None
    probes = ctx.ports.samples.summaries([_probe_of(i) for i, _ in same])
    pairs = [
        (probes[_probe_of(i)].memory_peak, _peak(u))
        for i, u in same
        if _probe_of(i) in probes and probes[_probe_of(i)].memory_peak > 0
    ]
    seconds = float(np.mean([u.duration_s for _, u in same]))
    return _Past(tuple(_peak(u) for _, u in same), tuple(pairs), seconds / 3600)


def _peak(run: UsageRun) -> float:
    return float(np.nanmax(run.memory))


def _probe_of(i: Instance) -> str:
    return f"{i.run_id}/{i.task_id}{PROBE}#0"


# ---- while it runs


def _begun(
    ctx: Context, pool: Pool, live: Live, task: TaskRun, observation: PoolObservation, setting: Probing, now: datetime
) -> ActionRecord | None:
    """Weigh it, and put it on a node.

    None if it would pay but no node has room, or if too many were weighed in this round: the task need not wait for
    that.
    """
    past = _past(ctx, pool, live, task)
    if past is None:
        return None
    pays, why, numbers = _weighed(ctx, pool, task, past, setting, now)
    if not pays:
        return _record(ctx, pool, task, now, "skipped", f"no probe run: {why}", numbers)
    probe, sample = _named(task), _sample(task, _named(task))
    ledger, drained = ctx.ports.ledger, ctx.ports.intent.drains(pool.name)
    rooms = open_rooms(observation, ledger.reservations(pool.name), drained)
    wanted = PlacementRequest(sample.claimant(0), probe.cap, affinity=task.spec.affinity)
    node = {n.node_id: n for n in observation.nodes}.get(
        first_fit([wanted], rooms, pool.binding).placed.get(sample.claimant(0), "")
    )
    scheduler = ctx.schedulers.get(pool.group(node.group).provider) if node is not None else None
    if node is None or scheduler is None:
        return None
    claim = Reservation(
        stable_id(pool.name, sample.claimant(0), now.isoformat()),
        pool.name,
        sample.claimant(0),
        (Segment(now, now + timedelta(seconds=probe.seconds), probe.cap),),
        tenant=task.tenant,
        priority=task.priority,
        expires_at=now + timedelta(seconds=probe.seconds),
        created_at=now,
        purpose=Purpose.TASK,
    )
    try:
        tasks = Tasks(ctx, known={claim.claimant: (sample, 0)})
        reserved = tasks.reserve(pool, claim)
        row = _record(ctx, pool, task, now, "intended", f"probe run: {why}", numbers, (node.node_id,))
        tasks.allocate(pool, reserved, node)
    except (ReservationError, PoolError) as e:
        ledger.release(claim.reservation_id, f"not started: {e.what}")
        return _record(ctx, pool, task, now, "failed", f"no probe run: {e.what}", numbers, (node.node_id,))
    _capped(scheduler, sample, node, probe)
    return row


def _capped(scheduler: object, sample: TaskRun, node: Node, probe: Probe) -> None:
    """Hold it to its cap where that can be done; the memory it is seen to use is looked at anyway."""
    if isinstance(scheduler, ResourceAdjuster):
        try:
            scheduler.resize(sample.claimant(0), node, probe.cap, probe.seconds + _LEASE_S)
        except PoolError as e:
            log.info("probe not capped", claimant=sample.claimant(0), why=str(e))


def _end_overdue(
    ctx: Context,
    pool: Pool,
    live: Live,
    observation: PoolObservation,
    reports: Sequence[TaskReport],
    now: datetime,
) -> None:
    """End probes whose time is over, that use more than their cap, or whose task wants them no more."""
    tasks = {_sample(t, t.spec.probe).claimant(0): t for t in live.tasks.values() if t.spec.probe}
    told, nodes = {r.claimant: r for r in reports}, {n.node_id: n for n in observation.nodes}
    for claim in of_tasks(ctx.ports.ledger.reservations(pool.name)):
        if PROBE not in claim.claimant or claim.state is not ReservationState.COMMITTED:
            continue
        task, report, node = tasks.get(claim.claimant), told.get(claim.claimant), nodes.get(claim.node_id or "")
        over = task is None or task.state is not State.READY or now >= claim.end or _beyond(report, claim.most)
        if over and node is not None and node.phase in (Phase.READY, Phase.DRAINING):
            scheduler = ctx.schedulers.get(pool.group(node.group).provider)
            try:
                if scheduler is not None:
                    scheduler.cancel(claim.claimant, node)
            except PoolError as e:
                log.warning("probe not ended", claimant=claim.claimant, why=str(e))
                continue
        if over and report is None and now >= claim.end + timedelta(seconds=_LATE_S):
            ctx.ports.ledger.release(claim.reservation_id, "its node knows nothing of it")


def _beyond(report: TaskReport | None, cap: Resources) -> bool:
    return report is not None and any((u.memory or 0.0) > cap.memory for u in report.usage)


def _followed(
    ctx: Context,
    pool: Pool,
    live: Live,
    task: TaskRun,
    row: ActionRecord,
    reports: Sequence[TaskReport],
    now: datetime,
) -> ActionRecord:
    """What has become of a probe that was started; recorded when it is over."""
    claimant = _sample(task, _named(task)).claimant(0)
    report = next((r for r in reports if r.claimant == claimant), None)
    if report is not None and report.ended_at is not None:
        ran_s = max((report.ended_at - report.started_at).total_seconds(), 0.0)
        return _told(ctx, pool, live, task, row, ran_s, now)
    held = any(r.claimant == claimant for r in of_tasks(ctx.ports.ledger.reservations(pool.name)))
    if held:
        return row
    return _record(ctx, pool, task, now, "failed", "the probe run was lost", row.action.numbers, row.node_ids)


def _told(
    ctx: Context, pool: Pool, live: Live, task: TaskRun, row: ActionRecord, ran_s: float, now: datetime
) -> ActionRecord:
    """What it cost and what it says."""
    probe, before = _named(task), task.spec.request.memory
    past = _past(ctx, pool, live, task, at_once=True) or _nothing(task)
    peak = ctx.ports.samples.summaries([_sample(task, probe).claimant(0)])
    seen = next((s.memory_peak for s in peak.values()), float("nan"))
    offering = max((o for g in pool.groups for o in g.offerings), key=lambda o: o.allocatable.memory)
    node_s = ran_s * probe.cap.share_of(offering.allocatable, ("cpu", "memory"))
    usd = ctx.prices.usd_per_hour(offering, now)
    after, said = before, "nothing was seen of it"
    if seen == seen:
        after, said = _asks(pool, seen, before, past, offering.allocatable.memory)
    numbers = dict(row.action.numbers) | {
        "node_seconds": node_s,
        "memory_probe": 0.0 if seen != seen else seen,
        "memory_before": before,
        "memory_after": after,
    }
    money = "" if usd is None else f", {node_s / 3600 * usd:.3g} USD"
    if usd is not None:
        numbers["usd"] = node_s / 3600 * usd
    why = f"a probe run of {ran_s:.0f} s ({node_s:.3g} node s{money}): {said}"
    return _record(ctx, pool, task, now, "done", why, numbers, row.node_ids)


def _asks(pool: Pool, seen: float, before: float, past: _Past, cap: float) -> tuple[float, str]:
    """GiB to ask for, and why."""
    setting = pool.probing or Probing()
    expected = told_by(seen, past.pairs)
    if expected is None:
        least = min(_up(seen * _MARGIN), cap)
        said = f"it used {seen:.3g} GiB; {len(past.pairs)} pairs of probe and run are known, so that says no more yet"
        return max(before, least), said
    asked, _ = expected.least_waste(past.hours, Price(failure=setting.failure, cap=cap))
    after = min(max(_up(asked), _up(seen)), cap)
    times = f"runs use {expected.middle / seen:.3g} times that by {len(past.pairs)} pairs"
    return after, f"it used {seen:.3g} GiB, {times}: memory {before:.3g} -> {after:.3g} GiB"


def _up(value: float) -> float:
    return float(np.ceil(value / _STEP - 1e-9) * _STEP)


def _sized(task: TaskRun, row: ActionRecord) -> TaskRun:
    """With the memory that the probe told; one that failed since asks for no less than it did at first."""
    told = row.action.numbers
    memory = told.get("memory_after", task.spec.request.memory)
    if task.attempt > 1:
        memory = max(memory, told.get("memory_before", memory))
    return replace(task, spec=replace(task.spec, request=replace(task.spec.request, memory=memory)))


def _record(
    ctx: Context,
    pool: Pool,
    task: TaskRun,
    now: datetime,
    result: str,
    why: str,
    numbers: Mapping[str, float],
    ids: tuple[str, ...] = (),
) -> ActionRecord:
    group = pool.groups[0].name
    claimant = replace(task, attempt=1).claimant(0)
    action = Action(
        _id(pool, task), ActionKind.PROBE, now, group, 1, why, node_ids=ids, numbers=dict(numbers), task=claimant
    )
    row = ActionRecord(action, pool.name, "", ctx.actor, now, result, "", ids)
    ctx.ports.audit.record(row)
    memo: dict[str, ActionRecord] = ctx.memo.setdefault((pool.name, "probes"), (now, {}))[1]  # type: ignore[assignment]
    memo[_id(pool, task)] = row
    return row
