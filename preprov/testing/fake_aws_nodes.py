"""Instances that behave: they take time to boot and to stop, and an agent lives on each and writes notes."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from preprov.model.agent import Health, PreloadStatus, TaskStatus
from preprov.model.errors import PoolError
from preprov.model.notes import DRAIN, PRELOAD, Report, fenced, gather, report_notes
from preprov.model.offerings import Standby
from preprov.testing.fake_machines import Lead

FOREVER = float("inf")
_CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}


@dataclass
class Times:
    """How long things take, in seconds of the fake's clock.

    Attributes:
        pending: from launch or start to running. boot: from there to the agent's first word. stage: from there to ready
            on a new machine; waking from a stop or hibernation only boots. stop: from running to stopped.
    """

    pending: float = 20.0
    boot: float = 30.0
    stage: float = 40.0
    wake: float = 5.0
    stop: float = 15.0


@dataclass
class FakeNode:
    """One instance with its agent.

    Attributes:
        instance: moto's own object of it. until: when its transient state ends.
        tasks: claimants that run there. spoiled: keys whose check fails. mute: its agent says nothing.
        skew_s: its clock is ahead by so much. never_ready: its agent stays warming.
        boot: number of the run that began with empty memory. address: in the private network. notice: see `Vm`.
        lead_s: seconds from a launch or start until its agent speaks, by its id, where it came from, and how many runs
            there were; None = as `times` has it.
    """

    instance: Any
    times: Times
    launched: float
    spoiled: frozenset[str] = frozenset()
    until: float = FOREVER
    started: float = 0.0
    came_from: str = "cold"
    ready_at: float | None = None
    tasks: list[str] = field(default_factory=list)
    mute: bool = False
    never_ready: bool = False
    skew_s: float = 0.0
    boot: int = 0
    address: str = ""
    lead_s: Lead | None = None
    runs: int = 0
    notice: tuple[str, float] | None = None

    @property
    def node_id(self) -> str:
        """The instance's id."""
        return str(self.instance.id)

    @property
    def state(self) -> str:
        """As EC2 names it."""
        return str(self.instance._state.name)

    @property
    def tags(self) -> dict[str, str]:
        """As they are now."""
        return {t["key"]: t["value"] for t in self.instance.get_tags()}

    # ---- what EC2 does

    def enter(self, state: str, at: float, lasts: float = FOREVER) -> None:
        """Change state."""
        self.instance._state.name, self.instance._state.code = state, _CODES[state]
        self.until = at + lasts

    def begin(self, at: float, came_from: str) -> None:
        """It is launched or started."""
        self.started, self.came_from, self.ready_at, self.tasks = at, came_from, None, []
        self.boot += came_from != "hibernated"
        self.runs += 1
        self.instance.launch_time = datetime.fromtimestamp(at, UTC).replace(tzinfo=None)
        self.instance._reason = ""
        self.enter("pending", at, self.times.pending)

    def halt(self, at: float, *, hibernate: bool) -> None:
        """It is being stopped."""
        how = "Client.UserInitiatedHibernate" if hibernate else "Client.UserInitiatedShutdown"
        self.instance.state_reason.code = how
        self.instance.state_reason.message = how
        self.instance._reason = f"User initiated ({datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} GMT)"
        self.tasks = []
        self.enter("stopping", at, self.times.stop)

    @property
    def rests_as(self) -> str:
        """The standby state it sleeps in."""
        return "hibernated" if self.instance.state_reason.code == "Client.UserInitiatedHibernate" else "stopped"

    def advance(self, now: float) -> None:
        """Bring it up to `now`."""
        if now >= self.until:
            at, self.until = self.until, FOREVER
            if self.state == "pending":
                self.enter("running", at)
            elif self.state == "stopping":
                self.enter("stopped", at)
            elif self.state == "shutting-down":
                self.enter("terminated", at)
        if self.state == "running" and not self.mute:
            self._speak(now)

    def power(self, now: float) -> str:
        """Whether a real agent would run ("up"), its memory is kept ("asleep"), or neither ("down")."""
        if self.state == "running" and now >= self._spoke_at:
            return "up"
        wakes = self.state in ("pending", "running") and self.came_from == "hibernated"
        sleeps = self.state in ("stopping", "stopped") and self.rests_as == "hibernated"
        return "asleep" if wakes or sleeps else "down"

    # ---- what its agent does

    @property
    def _spoke_at(self) -> float:
        if self.lead_s is not None:
            return self.started + max(self.lead_s(self.node_id, Standby(self.came_from), self.runs), self.times.pending)
        return self.started + self.times.pending + (self.times.boot if self.came_from == "cold" else self.times.wake)

    def _ready_due(self) -> float:
        if self.never_ready:
            return FOREVER
        return self._spoke_at + (self.times.stage if self.came_from == "cold" else 0.0)

    def _wanted(self) -> dict[str, list[str]]:
        wanted = gather(PRELOAD, self.tags) or {}
        return {k: [str(i["key"]) for i in wanted.get(k, ())] for k in ("images", "datasets")}

    def _speak(self, now: float) -> None:
        if now < self._spoke_at:
            return
        phase, reason = self._phase(now)
        health = Health(
            node_id=self.node_id,
            phase=phase,
            at=now + self.skew_s,
            pid=1,
            started_at=self._spoke_at,
            ready_at=self.ready_at,
            tasks=tuple(TaskStatus(c, 2, now) for c in self.tasks),
            preload=self._preload(done=self.ready_at is not None),
            progress=1.0 if self.ready_at is not None else 0.5,
            stages={"boot": self._spoke_at - self.started, "data": self._ready_due() - self._spoke_at}
            if self.ready_at is not None
            else {},
            reason=reason,
        )
        self.instance.add_tags(report_notes(Report(health, fenced(self.tags, now), self.came_from)))

    def _phase(self, now: float) -> tuple[str, str]:
        due = self._ready_due()
        if now < due:
            return "warming", ""
        keys = {k for some in self._wanted().values() for k in some}
        if keys & self.spoiled:
            return "failed", f"checksum of {', '.join(sorted(keys & self.spoiled))} is wrong"
        if self.ready_at is None:
            self.ready_at = due
        return ("draining" if DRAIN in self.tags else "ready"), ""

    def _preload(self, *, done: bool) -> tuple[PreloadStatus, ...]:
        state = "verified" if done else "staging"
        return tuple(
            PreloadStatus(key, kind.removesuffix("s"), state, digest=key if kind == "images" else "")
            for kind, keys in self._wanted().items()
            for key in keys
        )

    def run(self, claimant: str, now: float) -> None:
        """Begin a task, as whoever hands out tasks asks the agent.

        Raises:
            PoolError: it takes none.
        """
        if self.state != "running" or self.ready_at is None or DRAIN in self.tags or fenced(self.tags, now):
            raise PoolError("the agent takes no task", where=self.node_id)
        self.tasks.append(claimant)
        self._speak(now)
