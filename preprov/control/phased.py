"""Reservations that follow curves, and tasks that share a node because their peaks are not expected to meet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from preprov.contracts import TaskReport
from preprov.control.context import Context
from preprov.control.instances import input_bytes
from preprov.control.learnt import Key, in_short, signatures_of
from preprov.control.lifecycle import Live
from preprov.control.measuring import usual_runs
from preprov.control.moving import is_larger
from preprov.control.observing import of_tasks
from preprov.model.curved import CurvePacking
from preprov.model.nodes import Node
from preprov.model.offerings import Offering
from preprov.model.plans import Action, ActionKind, ActionRecord, stable_id
from preprov.model.pools import Pool
from preprov.model.reservations import Purpose, Reservation, ReservationState, Segment, most
from preprov.model.resources import Resources
from preprov.model.room import Claim, claim_of, fits, micros, spans_of
from preprov.model.time import epoch
from preprov.model.usage import UsageRun
from preprov.model.work import TaskRun
from preprov.planning.phasing import DRAWS, INSTANTS, Meeting, meeting
from preprov.planning.placement import NodeRoom, why_nowhere
from preprov.profiles.aligned import features
from preprov.profiles.futures import Future, Learnt, Step

Floats = NDArray[np.float64]

_LOOKS_A_ROUND: Final = 32
"""Pairs of a task and a node whose chance is worked out in one round."""
_BEYOND: Final = 1.3
UNKNOWN_RUNTIME_S: Final = 3600.0
"""Of a task of which nobody says how long it takes."""


@dataclass
class Curves:
    """What tasks of a pool are expected to use, as far as it is trusted; of one round of dispatch.

    What it was too much to learn in this round is taken by its request until the next; so is what needs more than past
    runs say, for it ran out of memory, or had to go elsewhere for more.
    """

    ctx: Context
    pool: Pool
    live: Live
    _found: dict[tuple[str, str, float], tuple[Future, tuple[Step, ...]] | None] = field(default_factory=dict)

    @property
    def packing(self) -> CurvePacking | None:
        """None: reservations are what tasks ask for."""
        setting = self.pool.packing
        return setting if setting is not None and setting.meeting > 0 else None

    @cached_property
    def _raised(self) -> frozenset[str]:
        claims = of_tasks(self.ctx.ports.ledger.reservations(self.pool.name))
        return frozenset(r.claimant for r in claims if is_larger(r))

    def future(self, task: TaskRun) -> Future | None:
        """Ways it may go; None where no curve is trusted, or none of the pool's nodes would hold it."""
        known = self._known(task)
        return None if known is None else known[0]

    def _known(self, task: TaskRun) -> tuple[Future, tuple[Step, ...]] | None:
        """The ways it may go, and what is reserved for them."""
        run = self.live.runs.get(task.run_id)
        packing = self.packing
        if packing is None or run is None or not task.signature or task.claimant(0) in self._raised:
            return None
        size = input_bytes(task)
        key = (run.dag_id, task.signature, size if size == size else -1.0)
        if key not in self._found:
            self._found[key] = self._made(packing, run.dag_id, task, size)
        return self._found[key]

    def _made(
        self, packing: CurvePacking, dag: str, task: TaskRun, size: float
    ) -> tuple[Future, tuple[Step, ...]] | None:
        key = Key(self.pool.name, "futures", dag, task.signature)
        found, _ = signatures_of(self.ctx).ask(key, self.ctx.clock.now(), lambda _: self._learnt(dag, task))
        if found is None:
            return None
        last, learnt = found
        made = learnt.future(features(replace(last, input_bytes=size)))
        steps = made.steps(packing.quantile, packing.memory_quantile, packing.margin, packing.steps)
        top = most(_segments(steps, task, self.ctx.clock.now()))
        return None if why_nowhere(self.pool, top, task.spec.affinity) else (made, steps)

    def _learnt(self, dag: str, task: TaskRun) -> tuple[UsageRun, Learnt] | None:
        same = [u for _, u in usual_runs(self.ctx, self.pool, dag, task)]
        if self.packing is None or len(same) < self.packing.runs:
            return None
        learnt = Learnt.of(same)
        return (in_short(same[-1]), learnt) if learnt.is_trusted else None

    def segments(self, task: TaskRun, start: datetime) -> tuple[Segment, ...] | None:
        """What is reserved from `start` on; None = what it asks for."""
        known = self._known(task)
        return None if known is None else _segments(known[1], task, start)

    def size(self, task: TaskRun) -> Resources:
        """What it is packed by where peaks are added up: its request, or more if it is known to use more."""
        segments = self.segments(task, self.ctx.clock.now())
        return task.spec.request if segments is None else task.spec.request.maximum(most(segments))


def as_asked(curves: Curves, reservations: Sequence[Reservation]) -> Sequence[Reservation]:
    """Reservations as they count where peaks are added up: what a task asked for stays its own until it is weighed.

    A claim by a curve is a quantile: less than what was asked for is given to others only where the chance allows it.
    Where running tasks are adjusted, the node holds them to their claims.
    """
    if curves.packing is None or curves.pool.adjusting is not None:
        return reservations
    tasks = curves.live.by_claimant()
    out = []
    for r in reservations:
        request = tasks[r.claimant].spec.request if r.claimant in tasks else None
        if request is None or r.under or r.state is not ReservationState.COMMITTED or request.fits_in(r.most):
            out.append(r)
        else:
            out.append(replace(r, segments=(Segment(r.start, r.end, r.most.maximum(request)),)))
    return out


_NOTED: Final = ("cpu", "memory", "disk")


def note(
    ctx: Context,
    pool: Pool,
    claimant: str,
    node: Node,
    action: tuple[ActionKind, str],
    **amounts: Mapping[str, float],
) -> ActionRecord:
    """Put on record what became of an instance's claim, and why.

    Args:
        action: its kind and reason. amounts: by when and by name; those of `_NOTED` are the numbers behind it.
    """
    kind, why = action
    now = ctx.clock.now()
    done = Action(
        stable_id(pool.name, str(kind), claimant, now.isoformat()),
        kind,
        now,
        node.group,
        1,
        why,
        offering=node.offering.key,
        node_ids=(node.node_id,),
        numbers={f"{k}_{when}": a[k] for when, a in amounts.items() for k in _NOTED if k in a},
        task=claimant,
    )
    row = ActionRecord(done, pool.name, "", ctx.actor, now, "done", "", (node.node_id,))
    ctx.ports.audit.record(row)
    return row


def seen_in(report: TaskReport) -> Mapping[str, float]:
    """What a running instance was last seen to use: of cores the mean, of memory the most."""
    cpu = [u.cpu for u in report.usage if u.cpu is not None]
    memory = [u.memory for u in report.usage if u.memory is not None]
    out = {"cpu": float(np.mean(cpu))} if cpu else {}
    return out | ({"memory": max(memory)} if memory else {})


@dataclass(frozen=True, slots=True)
class Shared:
    """Where an instance goes beside others. why: for people."""

    node_id: str
    segments: tuple[Segment, ...]
    why: str


def share_nodes(
    curves: Curves,
    rooms: Sequence[NodeRoom],
    offerings: Mapping[str, Offering],
    unplaced: Sequence[tuple[TaskRun, int]],
    reports: Sequence[TaskReport],
    now: datetime,
) -> dict[str, Shared]:
    """Instances that found no room by their peaks, onto nodes whose tasks' peaks they are not expected to meet.

    One of which no curve is trusted counts as what it asks for, all the time.

    No node with a booking or a window on it takes part, nor what is a gang or under a booking.

    Args:
        curves: what tasks are expected to use. rooms: nodes that may take work, in the order in which they are filled.
        offerings: by node. unplaced: in launch order. reports: what runs.
        now: the present instant.
    """
    wanting = [(t, i) for t, i in unplaced if not t.spec.under and not (t.spec.gang and t.spec.instances > 1)]
    if curves.packing is None or not wanting:
        return {}
    board = _Board(curves, reports, now)
    for r in curves.ctx.ports.ledger.reservations(curves.pool.name):
        if r.state is ReservationState.COMMITTED and r.node_id:
            board.claims.setdefault(r.node_id, []).append(r)
    out: dict[str, Shared] = {}
    nowhere: set[object] = set()
    for task, instance in wanting:
        kind = (task.signature, task.spec.request, tuple(sorted(task.spec.affinity.items())))
        for room in rooms if kind not in nowhere else ():
            if board.looks <= 0:
                return out
            labels = task.spec.affinity.items()
            if all(room.labels.get(k) == v for k, v in labels):
                whole = curves.pool.claimable(offerings[room.node_id]).minus_clamped(room.foreign)
                found = board.shared(task, instance, room.node_id, whole)
                if found is not None:
                    out[task.claimant(instance)] = found
                    break
        else:
            nowhere.add(kind)  # what is placed meanwhile leaves no more room
    return out


class _Board:
    """Who is on which node in this round."""

    def __init__(self, curves: Curves, reports: Sequence[TaskReport], now: datetime) -> None:
        self.curves, self.now = curves, now
        self.reports = {r.claimant: r for r in reports if r.ended_at is None}
        self.tasks = curves.live.by_claimant()
        self.claims: dict[str, list[Reservation]] = {}
        self.looks = _LOOKS_A_ROUND
        self.rng = np.random.default_rng([curves.ctx.seed, int(epoch(now))])
        self._no: set[tuple[str, str, Resources]] = set()

    def shared(self, task: TaskRun, instance: int, node: str, room: Resources) -> Shared | None:
        """Put it there, if the chance allows it."""
        kind, others = (node, task.signature, task.spec.request), self.claims.get(node, [])
        if kind in self._no or not others or any(r.purpose is not Purpose.TASK or r.under for r in others):
            return None
        future = self.curves.future(task)
        segments = self.curves.segments(task, self.now) or flat_segments(task, self.now)
        new = Reservation("new", self.curves.pool.name, task.claimant(instance), segments, purpose=Purpose.TASK)
        if not self._fits(others, new, room):
            self._no.add(kind)
            return None
        self.looks -= 1
        found = self._chance(others, new, future, room)
        if not found.within(self.curves.packing or CurvePacking(meeting=0.0)):
            self._no.add(kind)
            return None
        self._no = {k for k in self._no if k[0] != node}
        bound = replace(new, state=ReservationState.COMMITTED, node_id=node, reservation_id=new.claimant)
        self.claims[node] = [*others, bound]
        names = ", ".join(r.claimant for r in others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
        return Shared(node, segments, f"shares {node} with {names}: {found.words()}")

    def _fits(self, others: Sequence[Reservation], new: Reservation, room: Resources) -> bool:
        claims: list[Claim] = [claim_of(r).late(micros(self.now)) for r in others]
        return fits([*claims, claim_of(new)], micros(new.start), micros(new.end), room) is None

    def _chance(
        self, others: Sequence[Reservation], new: Reservation, future: Future | None, room: Resources
    ) -> Meeting:
        p = self.curves.pool.packing or CurvePacking()
        longest = (new.end - new.start).total_seconds() if future is None else future.longest_s
        times = np.linspace(0.0, longest * _BEYOND + 3 * p.late_s, INSTANTS)
        drawn = [self._drawn(r, times) for r in others]
        if future is None:
            drawn.append(_as_claimed(new, times, self.now))
        else:
            drawn.append(future.draw(times, DRAWS, self.rng, late_s=p.late_s))
        return meeting(drawn, room.cpu, room.memory)

    def _drawn(self, claim: Reservation, times: Floats) -> tuple[Floats, Floats]:
        task, report = self.tasks.get(claim.claimant), self.reports.get(claim.claimant)
        future = self.curves.future(task) if task is not None else None
        if future is None:
            return _as_claimed(claim, times, self.now)
        began = report.started_at if report is not None else claim.start
        elapsed = max((self.now - began).total_seconds(), 0.0)
        late = self.curves.pool.packing.late_s if self.curves.pool.packing and report is None else 0.0
        return future.draw(
            times, DRAWS, self.rng, elapsed_s=elapsed, late_s=late, seen=seen_in(report) if report else None
        )


def _segments(steps: Sequence[Step], task: TaskRun, start: datetime) -> tuple[Segment, ...]:
    return tuple(
        Segment(
            start + timedelta(seconds=s.start_s),
            start + timedelta(seconds=s.end_s),
            replace(task.spec.request, cpu=s.cpu, memory=s.memory),
        )
        for s in steps
    )


def flat_segments(task: TaskRun, start: datetime) -> tuple[Segment, ...]:
    """What it asks for, for as long as it is said to run."""
    length = timedelta(seconds=task.spec.runtime_hint_s or UNKNOWN_RUNTIME_S)
    return (Segment(start, start + length, task.spec.request),)


def _as_claimed(claim: Reservation, times: Floats, now: datetime) -> tuple[Floats, Floats]:
    """(1, T) of a task that no curve is trusted of: what it claims, and what it claimed last for as long as it runs."""
    spans = spans_of(claim)
    at = micros(now) + times * 1e6
    place = np.clip(np.searchsorted([s[0] for s in spans], at, side="right") - 1, 0, len(spans) - 1)
    amounts = np.array([s[2:4] for s in spans])[place]
    return amounts[None, :, 0], amounts[None, :, 1]
