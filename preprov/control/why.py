"""Why is this node up, why did this run wait, why was this done: the story from the audit log, plans and the ledger."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from preprov.control.ahead import Placed
from preprov.control.context import Context
from preprov.control.outcomes import Foretold, Outcome, foretold, foretold_of_hour, outcome
from preprov.control.passes import order_now
from preprov.model.errors import ConfigError
from preprov.model.plans import ActionRecord, CapacityPlan
from preprov.model.pools import Pool
from preprov.model.reservations import Reservation
from preprov.model.work import DagRun, State, TaskRun, task_of
from preprov.planning.placement import why_nowhere

_ENDED: Final = {
    "ready": "ready",
    "failed": "given up",
    "partial": "had its machine, as far as is on record,",
    "insufficient_capacity": "no machine was to be had",
}
_MOST_NODES: Final = 20


@dataclass(frozen=True)
class Event:
    """One line of a story."""

    at: datetime
    what: str
    who: str = ""
    why: str = ""
    ref: str = ""

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return {"at": self.at.isoformat(), "what": self.what, "who": self.who, "why": self.why, "ref": self.ref}


@dataclass(frozen=True)
class Story:
    """What happened to a thing, in time order, and what was behind it.

    Attributes:
        plans: with their alternatives. foretold: the demand the decisions were taken for, and that came.
        outcomes: what the nodes it is about came to. ahead: of a run that is not over, when it should end.
    """

    subject: str
    events: tuple[Event, ...]
    plans: tuple[CapacityPlan, ...] = ()
    foretold: tuple[Foretold, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    ahead: Placed | None = None


def why_node(ctx: Context, node_id: str) -> Story:
    """From the decision that launched the node to its end, with the tasks it ran.

    Raises:
        ConfigError: nothing is known of such a node.
    """
    records = ctx.ports.audit.records(node_id=node_id)
    held = ctx.ports.ledger.reservations(live=False, node_id=node_id)
    leads = [o for o in ctx.ports.leads.observations() if o.node_id == node_id]
    events = [_from_record(r) for r in records if r.result != "intended"]
    events += [
        Event(
            o.at,
            f"{_ENDED.get(o.outcome, o.outcome)} after {o.seconds:.1f} s from {o.came_from}",
            why=", ".join(f"{k} {v:.1f} s" for k, v in o.stages.items()),
        )
        for o in leads
    ]
    for r in held:
        events.extend(_from_reservation(ctx, r))
    if not events:
        raise ConfigError(f"nothing is known of node {node_id}", hint="preprov pool show lists nodes")
    ups = [r for r in records if r.result == "done" and r.action.kind.raises]
    return Story(
        f"node {node_id}",
        _in_order(events),
        _plans(ctx, records),
        _foretold(ctx, ups),
        _outcomes(ctx, [node_id]),
    )


def why_run(ctx: Context, run_id: str) -> Story:
    """When each task of the run was ready, started and ended, where, and what it waited for.

    Raises:
        ConfigError: there is no such run.
    """
    run = ctx.ports.work.run(run_id)
    if run is None:
        raise ConfigError(f"there is no run {run_id}", hint="preprov run list")
    events = [Event(run.submitted_at, f"run of {run.dag_id} submitted ({run.trigger})", who=run.tenant)]
    if run.due:
        events.append(Event(run.due, "due"))
    tasks = ctx.ports.work.task_runs([run.run_id])
    for t in tasks:
        events.extend(_from_task(t))
    if run.ended_at:
        events.append(Event(run.ended_at, f"run {run.state}", why=run.reason))
    pool = ctx.pools.get(run.pool)
    if pool is not None and not run.state.is_final:
        events.extend(_waits_for(ctx, pool, t) for t in tasks if t.state is State.READY)
    nodes = list(dict.fromkeys(t.node_id for t in tasks if t.node_id))
    launched = [r for node in nodes for r in _brought_up(ctx, node)]
    events += [_from_record(r) for r in launched]
    events += [_from_record(r) for r in _adjusted(ctx, run.pool, run.run_id, run.submitted_at)]
    ahead = None if pool is None or run.state.is_final else _ahead(ctx, pool, run.run_id)
    return Story(
        f"run {run.run_id}",
        _in_order(events),
        _plans(ctx, tuple(launched[:3])),
        _foretold_of_run(ctx, run, tasks, launched),
        _outcomes(ctx, nodes),
        ahead,
    )


def why_action(ctx: Context, action_id: str) -> Story:
    """Who decided an action, on which figures, what else was considered, and what came of it.

    Raises:
        ConfigError: there is no such action.
    """
    records = ctx.ports.audit.records(action_id=action_id)
    if not records:
        raise ConfigError(f"there is no action {action_id}", hint="preprov plan show lists actions")
    nodes = dict.fromkeys(n for r in records if r.result == "done" for n in r.node_ids)
    return Story(
        f"action {action_id}",
        _in_order([_from_record(r) for r in records]),
        _plans(ctx, records),
        _foretold(ctx, records[:1]),
        _outcomes(ctx, list(nodes)),
    )


def _outcomes(ctx: Context, nodes: Sequence[str]) -> tuple[Outcome, ...]:
    """What the first of these nodes came to."""
    found = (outcome(ctx, n) for n in nodes[:_MOST_NODES])
    return tuple(o for o in found if o is not None)


def _foretold_of_run(
    ctx: Context, run: DagRun, tasks: Sequence[TaskRun], launched: Sequence[ActionRecord]
) -> tuple[Foretold, ...]:
    """The hours that its nodes were raised for, and the one in which its work came, if anything is known of that."""
    hours = {f.since: f for f in _foretold(ctx, launched)}
    came = min((t.ready_at for t in tasks if t.ready_at), default=run.submitted_at)
    own = foretold_of_hour(ctx, run.pool, came, run.submitted_at)
    if own.forecast_id or own.came is not None:
        hours.setdefault(own.since, own)
    return tuple(hours[since] for since in sorted(hours))


def _foretold(ctx: Context, records: Sequence[ActionRecord]) -> tuple[Foretold, ...]:
    """The hours that decisions were taken for, each once."""
    found = (foretold(ctx, r.pool, r.action, r.at) for r in records)
    return tuple({f.since: f for f in found}.values())


def _brought_up(ctx: Context, node_id: str) -> list[ActionRecord]:
    """The launch or start that brought a node up, last first."""
    records = [r for r in ctx.ports.audit.records(node_id=node_id) if r.result == "done" and r.action.kind.raises]
    return records[-1:]


def _adjusted(ctx: Context, pool: str, run_id: str, since: datetime) -> list[ActionRecord]:
    """What was changed of its tasks while they ran."""
    return [r for r in ctx.ports.audit.records(pool, since=since) if r.action.task.startswith(f"{run_id}/")]


def _waits_for(ctx: Context, pool: Pool, t: TaskRun) -> Event:
    """Why a ready task does not run."""
    now = ctx.clock.now()
    nowhere = why_nowhere(pool, t.spec.request, t.spec.affinity)
    if nowhere:
        return Event(now, f"task {t.task_id} fits nowhere", why=nowhere)
    plan = ctx.ports.plans.latest(pool.name)
    held = "; ".join(plan.notes) if plan else ""
    return Event(
        now, f"task {t.task_id} waits for room", why=held or "nodes are on their way, or the next pass places it"
    )


def _ahead(ctx: Context, pool: Pool, run_id: str) -> Placed | None:
    """When the run should start and end, and with what probability it lands."""
    found = order_now(ctx, pool)
    placed = found.order if found else ()
    return next((p for p in placed if p.ahead.run.run_id == run_id), None)


def _from_record(r: ActionRecord) -> Event:
    if r.action.task:
        what = f"{r.action.kind} {r.action.task} on {', '.join(r.action.node_ids)}: {r.result}"
        return Event(
            r.at, f"{what}{f' ({r.detail})' if r.detail else ''}", r.actor, r.action.reason, r.action.action_id
        )
    nodes = f" {', '.join(r.node_ids)}" if r.node_ids and r.action.kind != "launch" else ""
    what = f"{r.action.kind} {r.action.count} x {r.action.offering or r.action.group}{nodes}: {r.result}"
    return Event(r.at, f"{what}{f' ({r.detail})' if r.detail else ''}", r.actor, r.action.reason, r.plan_id)


def _from_reservation(ctx: Context, r: Reservation) -> list[Event]:
    run_id, task_id = task_of(r.claimant)
    task = next((t for t in ctx.ports.work.task_runs([run_id]) if t.task_id == task_id), None)
    if task is None or task.started_at is None:
        return [Event(r.start, f"{r.claimant}: {r.state}", why=r.reason, ref=r.reservation_id)]
    return [e for e in _from_task(task) if e.what.startswith(("task", "started"))]


def _from_task(t: TaskRun) -> list[Event]:
    events = []
    if t.ready_at:
        events.append(Event(t.ready_at, f"task {t.task_id} ready"))
    if t.started_at and t.state is not State.SKIPPED:
        events.append(Event(t.started_at, f"task {t.task_id} started on {t.node_id}", why=_waited(t)))
    if t.ended_at:
        events.append(Event(t.ended_at, f"task {t.task_id} {t.state}", why=t.reason, ref=t.run_id))
    return events


def _waited(t: TaskRun) -> str:
    if not t.started_at or not t.ready_at:
        return ""
    waited = max((t.started_at - t.ready_at).total_seconds(), 0.0)
    return f"waited {waited:.1f} s, {t.provision_wait_s or 0.0:.1f} s of it for a node"


def _plans(ctx: Context, records: tuple[ActionRecord, ...]) -> tuple[CapacityPlan, ...]:
    ids = dict.fromkeys(r.plan_id for r in records)
    return tuple(p for p in (ctx.ports.plans.get(i) for i in ids) if p is not None)


def _in_order(events: list[Event]) -> tuple[Event, ...]:
    return tuple(sorted(dict.fromkeys(events), key=lambda e: e.at))
