"""What happened in a live play, gathered from every pass, start and report; the bill and the waits made from it."""

import threading
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

from preprov.contracts import Clock, Scheduler, TaskReport
from preprov.control.passes import PassResult
from preprov.figures import Busy, Level, Stretch
from preprov.model.demand import DemandCurve
from preprov.model.nodes import Node, Phase
from preprov.model.offerings import Offering, Standby
from preprov.model.plans import ActionKind, ActionRecord
from preprov.model.pools import Pool
from preprov.model.resources import Resources
from preprov.model.time import epoch
from preprov.model.work import TaskRun, task_of
from preprov.sim.billing import Bill, make_bill
from preprov.sim.billing import Stretch as BilledStretch

_RESTING = {str(Phase.HIBERNATED): Standby.HIBERNATED, str(Phase.STOPPED): Standby.STOPPED}


@dataclass(frozen=True, slots=True)
class Instance:
    """A task instance as it went.

    Attributes:
        ready: its parents had ended and its run was due. placed: it was handed to a node. wait_s: provision wait.
        started, ended: its process, None if not seen.
    """

    claimant: str
    request: Resources
    ready: datetime
    placed: datetime
    wait_s: float
    started: datetime | None = None
    ended: datetime | None = None
    node_id: str = ""
    exit_code: int | None = None


class WatchedScheduler:
    """A Scheduler that tells a recorder what it is asked and what it saw."""

    def __init__(self, inner: Scheduler, recorder: "Recorder", clock: Clock) -> None:
        self.name, self.runs = inner.name, inner.runs
        self._inner, self._recorder, self._clock = inner, recorder, clock

    def start(self, task: TaskRun, instance: int, node: Node) -> None:
        """As the contract says."""
        self._inner.start(task, instance, node)
        self._recorder.placed(task.claimant(instance), task, self._clock.now())

    def poll(self, nodes: Sequence[Node]) -> tuple[TaskReport, ...]:
        """As the contract says."""
        self._recorder.round_began(self._clock.now())
        reports = self._inner.poll(nodes)
        self._recorder.reported(reports)
        return reports

    def cancel(self, claimant: str, node: Node) -> None:
        """As the contract says."""
        self._inner.cancel(claimant, node)

    def logs(self, claimant: str) -> Iterator[str]:
        """As the contract says."""
        return self._inner.logs(claimant)


@dataclass
class _NodeStory:
    group: str
    offering: Offering
    phases: list[tuple[datetime, str]]
    ended: datetime | None = None


@dataclass
class Recorder:
    """Fed by the thread that plays, read by the one that shows.

    Attributes:
        latest: the last pass. records: audit rows of all passes, oldest first. first_demand: as the first plan knew it.
    """

    latest: PassResult | None = None
    first_demand: DemandCurve | None = None
    records: list[ActionRecord] = field(default_factory=list)
    _nodes: dict[str, _NodeStory] = field(default_factory=dict)
    _rounds: list[datetime] = field(default_factory=list)
    _placed: dict[str, tuple[TaskRun, datetime]] = field(default_factory=dict)
    _reports: dict[str, TaskReport] = field(default_factory=dict)
    _told: dict[tuple[str, str], int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    # ------------------------------------------------------------------ taking notes

    def take(self, result: PassResult) -> None:
        """Note a pass: nodes that changed their phase, nodes that are gone, actions."""
        with self._lock:
            self.latest = result
            self.first_demand = self.first_demand or result.demand
            self.records.extend(r for r in result.records if r.result == "done")
            seen = {n.node_id: n for n in result.observation.nodes}
            for n in seen.values():
                self._note(n, result.observation.at)
            if result.observation.complete:
                for node_id, story in self._nodes.items():
                    if node_id not in seen and story.ended is None:
                        story.ended = self._end_of(node_id, result.observation.at)

    def _note(self, n: Node, at: datetime) -> None:
        story = self._nodes.get(n.node_id)
        if story is None:
            born = [(n.created_at, str(Phase.WARMING))]
            story = self._nodes[n.node_id] = _NodeStory(n.group, n.offering, born)
        last_at, last = story.phases[-1]
        if str(n.phase) != last:
            story.phases.append((min(max(n.since, last_at), at), str(n.phase)))

    def _end_of(self, node_id: str, at: datetime) -> datetime:
        """When it was ended: as the audit says, else when it was missed."""
        ends = [r.at for r in self.records if r.action.kind is ActionKind.TERMINATE and node_id in r.node_ids]
        return min(ends[-1], at) if ends else at

    def round_began(self, at: datetime) -> None:
        """A round of dispatch looks at what is ready."""
        with self._lock:
            self._rounds.append(at)

    def placed(self, claimant: str, task: TaskRun, at: datetime) -> None:
        """An instance was handed to a node."""
        with self._lock:
            self._placed.setdefault(claimant, (task, at))

    def reported(self, reports: Sequence[TaskReport]) -> None:
        """What the nodes say of their tasks, to the round that has begun."""
        with self._lock:
            for r in reports:
                if r.ended_at is not None and self._end_is_news(r):
                    self._told[task_of(r.claimant)] = len(self._rounds) - 1
            self._reports.update({r.claimant: r for r in reports})

    def _end_is_news(self, report: TaskReport) -> bool:
        before = self._reports.get(report.claimant)
        return before is None or before.ended_at is None

    # ------------------------------------------------------------------ what came of it

    def instances(self) -> list[Instance]:
        """All instances handed to nodes, in that order."""
        with self._lock:
            return [self._instance(c, task, at) for c, (task, at) in self._placed.items()]

    def _instance(self, claimant: str, task: TaskRun, placed: datetime) -> Instance:
        ready = task.ready_at or placed
        report = self._reports.get(claimant)
        return Instance(
            claimant=claimant,
            request=task.spec.request,
            ready=ready,
            placed=placed,
            wait_s=self._wait_s(task, ready, placed),
            started=report.started_at if report else None,
            ended=report.ended_at if report else None,
            node_id=report.node_id if report else "",
            exit_code=report.exit_code if report else None,
        )

    def _wait_s(self, task: TaskRun, ready: datetime, placed: datetime) -> float:
        """Seconds it was ready but had no node.

        One that was placed by the first round that could see it never waited for a node: what passes until the
        controller looks again, and until it is told that a parent has ended, is not provision wait.
        """
        told = [self._told.get((task.run_id, parent), 0) for parent in task.spec.parents]
        first = max([bisect_left(self._rounds, ready), *told])
        if first + 1 >= len(self._rounds) or placed < self._rounds[first + 1]:
            return 0.0
        return max((placed - ready).total_seconds(), 0.0)

    def stretches(self, until: datetime) -> list[Stretch]:
        """Every node's phases up to an instant."""
        with self._lock:
            out: list[Stretch] = []
            for node_id, story in self._nodes.items():
                end = min(story.ended or until, until)
                edges = [*(at for at, _ in story.phases[1:]), end]
                out.extend(
                    Stretch(node_id, phase, at, min(after, end))
                    for (at, phase), after in zip(story.phases, edges, strict=True)
                    if at < min(after, end)
                )
            return out

    def busy(self, until: datetime) -> list[Busy]:
        """What ran where."""
        return [
            Busy(i.node_id, i.claimant, i.started, min(i.ended or until, until))
            for i in self.instances()
            if i.started is not None and i.started < until
        ]

    def demand(self, kind: str = "cpu") -> Level:
        """What was wanted at each instant: instances from when they were ready until they ended."""
        changes: list[tuple[datetime, float]] = []
        for i in self.instances():
            if i.ended is not None:
                amount = float(getattr(i.request, kind))
                changes += [(i.ready, amount), (max(i.ended, i.ready), -amount)]
        changes.sort(key=lambda c: c[0])
        times, values, level = [], [], 0.0
        for at, change in changes:
            level += change
            times.append(at)
            values.append(max(level, 0.0))
        return Level(times, values)

    def bill(self, pool: Pool, since: datetime, until: datetime) -> Bill:
        """What it cost, by the same rules as the simulated cloud: per second from launch, at least the minimum."""
        return make_bill(self._billed(pool, until), epoch(since), epoch(until))

    def _billed(self, pool: Pool, until: datetime) -> Iterator[BilledStretch]:
        by_node: dict[str, list[Stretch]] = {}
        for s in self.stretches(until):
            by_node.setdefault(s.node_id, []).append(s)
        for node_id, phases in by_node.items():
            story = self._nodes[node_id]
            group = pool.group(story.group)
            for state, start, end in _merged(phases):
                if state is Standby.RUNNING:
                    usd = story.offering.usd_per_hour
                    end = max(end, start + story.offering.minimum_billing_s)
                else:
                    usd = group.standby_usd_per_hour.get(state)
                yield BilledStretch(node_id, story.group, state, start, end, usd)

    def used_worth(self, pool: Pool, since: datetime, until: datetime) -> tuple[float, float]:
        """(node-hours' worth, USD) that tasks made use of: the used share of ready nodes, by price."""
        hours = usd = 0.0
        for node_id, spans in self._by_node(since, until).items():
            story = self._nodes.get(node_id)
            if story is not None:
                h = _share_hours(spans, story.offering.allocatable, pool.binding)
                hours += h
                usd += h * (story.offering.usd_per_hour or 0.0)
        return hours, usd

    def _by_node(self, since: datetime, until: datetime) -> Mapping[str, list[tuple[float, float, Resources]]]:
        out: dict[str, list[tuple[float, float, Resources]]] = {}
        for i in self.instances():
            if i.started is not None:
                span = (epoch(max(i.started, since)), epoch(min(i.ended or until, until)), i.request)
                if span[1] > span[0]:
                    out.setdefault(i.node_id, []).append(span)
        return out


def _merged(phases: Sequence[Stretch]) -> Iterator[tuple[Standby, float, float]]:
    """(billed state, start, end) with phases that are billed alike joined."""
    state, start, end = _billed_as(phases[0]), epoch(phases[0].start), epoch(phases[0].end)
    for p in phases[1:]:
        if _billed_as(p) is not state:
            yield state, start, end
            state, start = _billed_as(p), epoch(p.start)
        end = epoch(p.end)
    yield state, start, end


def _billed_as(phase: Stretch) -> Standby:
    return _RESTING.get(phase.phase, Standby.RUNNING)


def _share_hours(spans: Sequence[tuple[float, float, Resources]], room: Resources, binding: Sequence[str]) -> float:
    """Hours times the used share of the node: the larger of its cpu and memory share, summed over time."""
    edges = sorted({t for start, end, _ in spans for t in (start, end)})
    total = 0.0
    for a, b in pairwise(edges):
        used = Resources()
        for start, end, amount in spans:
            if start <= a and end >= b:
                used = used + amount
        total += min(used.share_of(room, [k for k in binding if k in ("cpu", "memory")]), 1.0) * (b - a) / 3600
    return total
