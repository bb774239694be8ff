"""A machine of a fake cloud: its states over time, and the agent that runs on it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from preprov.model.agent import Health, PreloadStatus, TaskStatus
from preprov.model.errors import PoolError
from preprov.model.notes import DRAIN, PRELOAD, Report, fenced, gather, report_notes
from preprov.model.offerings import Standby
from preprov.model.time import epoch

BOOT_S: Final[Mapping[Standby, float]] = {Standby.COLD: 60.0, Standby.STOPPED: 30.0, Standby.HIBERNATED: 10.0}
"""From the machine running to its agent being ready."""
UP_S: Final[Mapping[Standby, float]] = {Standby.COLD: 30.0, Standby.STOPPED: 15.0, Standby.HIBERNATED: 3.0}
"""From the machine running to a real agent's first round."""
Lead: TypeAlias = Callable[[str, Standby, int], float]
_UP_S: Final = 5.0


@dataclass
class FakeAgent:
    """The agent of one run of a machine: what it would say at any instant follows from when it began.

    Attributes:
        silent_from: it says and hears nothing new from then on. heard: the notes as they were then.
        waits: its machine is kept by the vendor and not handed over: the cloud tells it so, and it takes no task.
        skew_s: its clock is that much ahead.
        fails: why its check fails; "" = it succeeds.
    """

    node_id: str
    began_at: datetime
    came_from: Standby = Standby.COLD
    tasks: list[str] = field(default_factory=list)
    silent_from: datetime | None = None
    heard: dict[str, str] = field(default_factory=dict)
    skew_s: float = 0.0
    fails: str = ""
    waits: bool = False

    def report(self, notes: Mapping[str, str], now: datetime) -> Report | None:
        """What it has said last; None before it is up."""
        if self.silent_from is not None and now >= self.silent_from:
            now, notes = self.silent_from, self.heard
        if now < self.began_at + timedelta(seconds=_UP_S):
            return None
        ready_at = self.began_at + timedelta(seconds=BOOT_S[self.came_from])
        ready = now >= ready_at and not self.fails
        health = Health(
            node_id=self.node_id,
            phase=self._phase(notes, now, ready_at),
            at=epoch(now) + self.skew_s,
            pid=1,
            started_at=epoch(self.began_at),
            ready_at=epoch(ready_at) if ready else None,
            tasks=tuple(TaskStatus(t, 100 + i, epoch(ready_at)) for i, t in enumerate(self.tasks)),
            preload=self._preload(notes, now >= ready_at),
            progress=1.0 if ready else 0.5,
            stages={"boot": _UP_S, "join": BOOT_S[self.came_from] - _UP_S} if ready else {},
            reason=self.fails if now >= ready_at else "",
        )
        return Report(health, fenced(notes, epoch(now)), str(self.came_from))

    def _phase(self, notes: Mapping[str, str], now: datetime, ready_at: datetime) -> str:
        if now < ready_at:
            return "warming"
        if self.fails:
            return "failed"
        return "draining" if DRAIN in notes else "ready"

    def _preload(self, notes: Mapping[str, str], over: bool) -> tuple[PreloadStatus, ...]:
        asked = gather(PRELOAD, notes) or {}
        state = "failed" if self.fails else "verified" if over else "fetching"
        images = [PreloadStatus(i["key"], "image", state, digest=i["digest"]) for i in asked.get("images", ())]
        datasets = [PreloadStatus(d["key"], "dataset", state) for d in asked.get("datasets", ())]
        return (*images, *datasets)

    def take(self, claimant: str, notes: Mapping[str, str], now: datetime) -> None:
        """Begin a task.

        Raises:
            PoolError: it takes none now.
        """
        said = self.report(notes, now)
        asleep = self.waits or (self.silent_from is not None and now >= self.silent_from)
        if asleep or said is None or said.health.phase != "ready" or said.ack:
            raise PoolError("takes no task", where=self.node_id)
        self.tasks.append(claimant)


@dataclass
class FakeMachine:
    """A machine whose states, in its cloud's words, are known for all instants.

    Attributes:
        timeline: from when it is in which state, oldest first. action: what was asked of it last.
        error: why it could not be had; "" = it could.
        notes: of the controller, as its agent reads them. earlier: the agent of the run before.
        generation: goes up with each write of the notes.
        posted: notes of its real agent; None = its agent is the one of this module.
        up_at: when that may do its first round of this run. boot: number of the run that began with empty memory.
        lead_s: seconds until then of a machine's n-th run; None = as `UP_S` says. runs: how many there were.
    """

    name: str
    machine_type: str
    zone: str
    created_at: datetime
    spot: bool = False
    timeline: list[tuple[datetime, str]] = field(default_factory=list)
    action: str = ""
    error: str = ""
    notes: dict[str, str] = field(default_factory=dict)
    agent: FakeAgent | None = None
    earlier: FakeAgent | None = None
    generation: int = 0
    address: str = "10.0.0.9"
    posted: dict[str, str] | None = None
    up_at: datetime | None = None
    boot: int = 0
    lead_s: Lead | None = None
    runs: int = 0
    notice: tuple[str, float] | None = None

    def status(self, at: datetime) -> str:
        """Its state at an instant; "" before it was there."""
        return next((s for t, s in reversed(self.timeline) if t <= at), "")

    @property
    def aim(self) -> str:
        """The state it will end up in."""
        return self.timeline[-1][1] if self.timeline else ""

    def moving(self, now: datetime) -> bool:
        """True while what was asked last is not done."""
        return bool(self.error) or not self.timeline or self.timeline[-1][0] > now

    def follow(self, now: datetime, action: str, steps: Sequence[tuple[float, str]]) -> None:
        """From now on go through these states, each so many seconds from now."""
        self.timeline = [(t, s) for t, s in self.timeline if t <= now]
        self.timeline += [(now + timedelta(seconds=s), state) for s, state in steps]
        self.action = action

    def sleeps(self, now: datetime) -> None:
        """Its agent says no more."""
        if self.agent is not None:
            self.agent.silent_from, self.agent.heard = now, dict(self.notes)

    def said(self, now: datetime) -> Report | None:
        """What its agent said last, of whichever run."""
        found = self.agent.report(self.notes, now) if self.agent else None
        return found or (self.earlier.report(self.notes, now) if self.earlier else None)

    def boots(self, came_from: Standby, after_s: float, now: datetime, fails: str = "") -> None:
        """Its agent begins so many seconds from now; what the one before said stays until then, if memory was kept."""
        self.boot += came_from is not Standby.HIBERNATED
        self.runs += 1
        lead_s = self.lead_s(self.name, came_from, self.runs) if self.lead_s else after_s + UP_S[came_from]
        self.up_at = now + timedelta(seconds=max(lead_s, after_s))
        self.earlier = self.agent if came_from is Standby.HIBERNATED else None
        self.agent = FakeAgent(self.name, now + timedelta(seconds=after_s), came_from, fails=fails)

    # ---- with a real agent

    def noted(self, now: datetime) -> dict[str, str]:
        """What its agent has left for the controller."""
        if self.posted is not None:
            return dict(self.posted)
        said = self.said(now)
        return report_notes(said) if said else {}

    def power(self, now: datetime, running: str) -> str:
        """Whether its agent runs ("up"), its memory is kept ("asleep") or not ("down"); `running`: its cloud's word."""
        state = self.status(now)
        if state == running and self.up_at is not None and now >= self.up_at:
            return "up"
        resumes = self.aim == running and self.agent is not None and self.agent.came_from is Standby.HIBERNATED
        return "asleep" if resumes or self.aim.lower() in ("suspended", "hibernated") else "down"
