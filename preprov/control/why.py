"""Why is this node up, why did this run wait, why was this done: the story from the audit log, plans and the ledger."""

from dataclasses import dataclass
from datetime import datetime

from preprov.control.context import Context
from preprov.model.errors import ConfigError
from preprov.model.plans import ActionRecord, CapacityPlan
from preprov.model.reservations import Reservation
from preprov.model.work import State, TaskRun


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
    """What happened to a thing, in time order, and the plans behind it."""

    subject: str
    events: tuple[Event, ...]
    plans: tuple[CapacityPlan, ...] = ()


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
            f"ready after {o.seconds:.1f} s from {o.came_from}",
            why=", ".join(f"{k} {v:.1f} s" for k, v in o.stages.items()),
        )
        for o in leads
    ]
    for r in held:
        events.extend(_from_reservation(ctx, r))
    if not events:
        raise ConfigError(f"nothing is known of node {node_id}", hint="preprov pool show lists nodes")
    return Story(f"node {node_id}", _in_order(events), _plans(ctx, records))


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
    for t in ctx.ports.work.task_runs([run.run_id]):
        events.extend(_from_task(t))
    if run.ended_at:
        events.append(Event(run.ended_at, f"run {run.state}", why=run.reason))
    return Story(f"run {run.run_id}", _in_order(events))


def why_action(ctx: Context, action_id: str) -> Story:
    """Who decided an action, on which figures, what else was considered, and what came of it.

    Raises:
        ConfigError: there is no such action.
    """
    records = ctx.ports.audit.records(action_id=action_id)
    if not records:
        raise ConfigError(f"there is no action {action_id}", hint="preprov plan show lists actions")
    return Story(f"action {action_id}", _in_order([_from_record(r) for r in records]), _plans(ctx, records))


def _from_record(r: ActionRecord) -> Event:
    nodes = f" {', '.join(r.node_ids)}" if r.node_ids and r.action.kind != "launch" else ""
    what = f"{r.action.kind} {r.action.count} x {r.action.offering or r.action.group}{nodes}: {r.result}"
    return Event(r.at, f"{what}{f' ({r.detail})' if r.detail else ''}", r.actor, r.action.reason, r.plan_id)


def _from_reservation(ctx: Context, r: Reservation) -> list[Event]:
    run_id, _, rest = r.claimant.partition("/")
    task_id = rest.split("#")[0]
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
