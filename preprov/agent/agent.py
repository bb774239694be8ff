"""The agent: one node's state, the verbs it understands, and what is due from time to time."""

import base64
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Final

from preprov.agent import disk, limits, proc
from preprov.agent.disk import Json
from preprov.agent.gpus import Gpus, NoneFreeError
from preprov.agent.items import Item, StageError, where
from preprov.agent.server import Loop
from preprov.agent.slurmjobs import NoRoomError, NotThereError, SlurmJobs
from preprov.agent.staging import Stager
from preprov.agent.suspend import suspend
from preprov.agent.tasks import Tasks
from preprov.model.agent import Health, PreloadStatus

HEARTBEAT_S: Final = 2.0
_REFRESH_S: Final = 0.5
_PIECE: Final = 1 << 20
"""Bytes of output in one answer."""
_ALLOCATE_SHARE: Final = 0.4
"""Share of a cold start's delay that stands for finding a machine; the rest stands for its boot."""
_PASSED_ON: Final = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR")
"""Of the controller's environment a task sees this much; credentials are none of its business."""

WARMING, READY, DRAINING, FAILED = "warming", "ready", "draining", "failed"


@dataclass
class State:
    """What state.json keeps, so that an agent that starts again knows where it was.

    Attributes:
        standby: running, hibernated, stopped, ended. phase: as in Health. since: of the phase, epoch seconds.
        serial: of the warming order in node.json that led here.
        verified: digests of images and keys of datasets on the disk.
        asked_at: when that was ordered. ready_at: when it was done. stages: what it took.
    """

    standby: str = disk.RUNNING
    phase: str = WARMING
    since: float = 0.0
    serial: int = -1
    came_from: str = "cold"
    asked_at: float = 0.0
    delay_s: float = 0.0
    ready_at: float | None = None
    stages: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    limits: str = ""
    verified: list[str] = field(default_factory=list)


class Refused(Exception):
    """A request that cannot be met now: `error` is a word for machines, the text is for people."""

    def __init__(self, error: str, detail: str) -> None:
        super().__init__(detail)
        self.error = error


class Agent:
    """Runs a node. One thread: a request is done whole before the next is looked at."""

    def __init__(self, node: disk.NodeDir, bounds: limits.Limits) -> None:
        self._node = node
        self._bounds = bounds
        self._facts = node.facts()
        self._began = time.time()
        self._loop = Loop(node.socket_file, self._answer, self._tick)
        self._stager = Stager(node, self._loop)
        self._gpus = Gpus.of(node)
        self._tasks = Tasks(node, bounds, self._gpus)
        self._slurm = SlurmJobs(node, bounds)
        self._preload: Json = self._facts.get("preload", {})
        self._booting = False
        self._staging_since = 0.0
        self._held_until = 0.0
        self._sample_s = float(self._facts.get("sample_s", 1.0))
        self._next = {"heartbeat": 0.0, "sample": 0.0}
        self._state = State(**node.state())
        self._state.limits = bounds.kind
        init = proc.identity(os.getppid())
        disk.write_json(node.processes_file, {"init": init, "agent": proc.identity(os.getpid())})
        self._begin()

    def run(self) -> int:
        """Serve until told to end; 0 = told to."""
        try:
            self._loop.run()
        finally:
            self._loop.close()
        return 0

    # ---- from launched to ready

    def _begin(self) -> None:
        order = self._facts["warming"]
        if self._state.serial != order["serial"]:
            self._order(order)
        elif self._state.phase == WARMING:
            self._booting = True
        elif self._state.phase in (READY, DRAINING):  # we crashed; the disk did not
            self._stager.stage(self._preload, read_back=False, again=False, done=self._checked)
        elif self._state.standby in (disk.STOPPED, disk.ENDED):  # we died between noting the end and ending
            self._loop.stopped = True
        self._save()

    def _order(self, order: Json) -> None:
        """Begin to warm."""
        s = self._state
        s.standby, s.serial, s.came_from = disk.RUNNING, int(order["serial"]), str(order["from"])
        s.asked_at, s.delay_s, s.ready_at = float(order["at"]), float(order["delay_s"]), None
        s.stages = {}
        self._enter(WARMING)
        self._booting = True

    def _boot_over(self) -> None:
        """The delay is over: now the disk."""
        s = self._state
        self._booting = False
        allocate = s.delay_s * _ALLOCATE_SHARE if s.came_from == "cold" else 0.0
        s.stages = {"allocate": allocate, "boot": max(time.time() - s.asked_at - allocate, 0.0)}
        self._staging_since = time.time()
        self._save()
        unread = s.came_from == disk.STOPPED or bool(self._facts["warming"].get("read_back"))
        self._stager.stage(self._preload, read_back=unread, again=True, done=self._checked)

    def _checked(self) -> None:
        """Everything wanted has been verified or has failed."""
        s = self._state
        problems = self._stager.problems(self._preload)
        if problems:
            self._enter(FAILED, problems)
            return
        if s.ready_at is None:
            s.ready_at = time.time()
            s.stages |= {"image": self._stager.seconds("image"), "data": self._stager.seconds("dataset")}
            s.stages["join"] = max(s.ready_at - s.asked_at - sum(s.stages.values()), 0.0)
        s.verified = self._stager.verified()
        draining = self._node.draining_file.exists()
        if s.phase != (DRAINING if draining else READY):
            self._enter(DRAINING if draining else READY)

    def _enter(self, phase: str, reason: str = "") -> None:
        self._state.phase, self._state.since, self._state.reason = phase, time.time(), reason
        self._save()

    def _save(self) -> None:
        disk.write_json(self._node.state_file, asdict(self._state))

    # ---- what is due

    def _tick(self) -> float:
        now = time.monotonic()
        if now >= self._next["heartbeat"]:
            self._next["heartbeat"] = now + HEARTBEAT_S
            self._beat()
            self._slurm.refresh()
        due = self._next["heartbeat"]
        if self._booting:
            left = self._state.asked_at + self._state.delay_s - time.time()
            if left <= 0:
                self._boot_over()
            else:
                due = min(due, now + left)
        self._tasks.refresh()
        if self._tasks.busy:
            if now >= self._next["sample"]:
                if self._next["sample"]:
                    self._tasks.measure()
                self._next["sample"] = now + self._sample_s
            due = min(due, self._next["sample"], now + _REFRESH_S)
        else:
            self._next["sample"] = 0.0
        return due

    def _beat(self) -> None:
        try:
            self._node.heartbeat_file.touch()
        except FileNotFoundError:  # somebody removed the node's directory: there is nothing left to serve
            self._loop.stopped = not self._tasks.busy

    # ---- requests

    def _answer(self, request: Json) -> Json:
        verbs: dict[str, Callable[..., Json]] = {
            "health": self._health,
            "tasks": self._report,
            "log": self._log,
            "start": self._start,
            "cancel": self._cancel,
            "limit": self._limit,
            "slurm-jobs": self._slurm_jobs,
            "slurm-limit": self._slurm_limit,
            "checkpoint": self._checkpoint,
            "drain": self._drain,
            "undrain": self._undrain,
            "preload": self._more,
            "hold": self._hold,
            "release": self._release,
            "suspend": self._suspend,
            "resume": self._resume,
            "shutdown": self._shutdown,
        }
        arguments = dict(request)
        verb = str(arguments.pop("verb"))
        if verb not in verbs:
            return {"ok": False, "error": "unknown-verb", "detail": f"{verb}; known: {', '.join(verbs)}"}
        self._tasks.refresh()
        try:
            return verbs[verb](**arguments)
        except Refused as e:
            return {"ok": False, "error": e.error, "detail": str(e)}
        except OSError as e:
            sys.stderr.write(f"{verb}: {e}\n")
            return {"ok": False, "error": "failed", "detail": str(e)}

    def _health(self) -> Json:
        s = self._state
        delay = 1.0 if not self._booting or s.delay_s <= 0 else min((time.time() - s.asked_at) / s.delay_s, 1.0)
        progress = delay if not self._preload.get("images") and not self._preload.get("datasets") else None
        return asdict(
            Health(
                node_id=self._node.node_id,
                phase=s.phase,
                at=time.time(),
                pid=os.getpid(),
                started_at=self._began,
                ready_at=s.ready_at,
                tasks=self._tasks.running(),
                preload=tuple(self._stager.statuses.values()),
                progress=progress if progress is not None else (delay + self._stager.share()) / 2,
                limits=self._bounds.kind,
                stages=s.stages,
                reason=s.reason,
                gpus=self._gpus.listed(),
            )
        )

    def _report(self, since: int | None = None) -> Json:
        seq, tasks = self._tasks.report(since)
        return {"ok": True, "seq": seq, "tasks": [asdict(t) for t in tasks]}

    def _log(self, claimant: str, offset: int = 0) -> Json:
        """A piece of a task's output from that byte on, and where the next begins."""
        try:
            with (self._node.task_dir(claimant) / "stdout.log").open("rb") as f:
                f.seek(offset)
                piece = f.read(_PIECE)
        except FileNotFoundError:
            piece = b""
        return {"ok": True, "text": base64.b64encode(piece).decode(), "next": offset + len(piece)}

    def _start(self, claimant: str, argv: list[str], env: dict[str, str], wanted: Json) -> Json:
        if self._tasks.knows(claimant):
            return {"ok": True, "already": True}
        if self._state.phase != READY:
            raise Refused("not-ready", f"the node is {self._state.phase} {self._state.reason}".rstrip())
        if time.monotonic() < self._held_until:
            raise Refused("not-ready", "the node is about to be stopped or suspended")
        items = Item.all_of(wanted)
        folder = str(self._node.path)
        passed = {*_PASSED_ON, *self._facts.get("pass_env", ())}
        own = {k: v for k, v in os.environ.items() if k in passed or k.startswith("LC_")}
        spec = {"claimant": claimant, "argv": argv, "env": {**own, **env, "PREPROV_NODE_DIR": folder}}
        devices = math.ceil(float(wanted.get("gpu", 0.0)))
        try:
            self._tasks.start(spec, lambda: _prepare(self._node, items), devices)
        except NoneFreeError as e:
            raise Refused("not-ready", str(e)) from e
        self._next["sample"] = time.monotonic() + self._sample_s
        return {"ok": True, "already": False}

    def _cancel(self, claimant: str, grace_s: float = 5.0) -> Json:
        self._tasks.cancel(claimant, grace_s)
        return {"ok": True}

    def _limit(
        self, claimant: str, cpu: float | None = None, memory: float | None = None, lease_s: float = 60.0
    ) -> Json:
        """What one task may use from now on; without amounts its limits are lifted."""
        if self._bounds.kind == "rlimit":
            raise Refused("cannot", "limits of a running task need cgroups, and this node has none")
        found = self._tasks.limit(claimant, cpu, memory, lease_s)
        if found is None:
            raise Refused("absent", f"{claimant} does not run here")
        return {"ok": True, "bounds": asdict(found)}

    def _slurm_jobs(self) -> Json:
        return {"ok": True, "jobs": {job: asdict(b) for job, b in self._slurm.read().items()}}

    def _slurm_limit(
        self, job: str, cpu: float | None = None, memory: float | None = None, lease_s: float = 60.0
    ) -> Json:
        """What a job of a Slurm may use here from now on; without amounts it has again what Slurm gave it."""
        try:
            return {"ok": True, "bounds": asdict(self._slurm.limit(job, cpu, memory, lease_s))}
        except NotThereError as e:
            raise Refused("cannot", str(e)) from e
        except NoRoomError as e:
            raise Refused("no-room", str(e)) from e

    def _checkpoint(self, claimant: str, number: str, grace_s: float) -> Json:
        """Signal a task to keep what it has done; it is ended after the grace."""
        if not self._tasks.checkpoint(claimant, signal.Signals[number], grace_s):
            raise Refused("absent", f"{claimant} does not run here")
        return {"ok": True}

    def _drain(self) -> Json:
        self._node.draining_file.touch()
        if self._state.phase == READY:
            self._enter(DRAINING)
        return {"ok": True}

    def _undrain(self) -> Json:
        self._node.draining_file.unlink(missing_ok=True)
        if self._state.phase == DRAINING:
            self._enter(READY)
        return {"ok": True}

    def _more(self, preload: Json) -> Json:
        """Put more on the disk of a node that stays ready meanwhile; a failure there does not make the node fail."""
        self._stager.stage(preload, read_back=False, again=False, done=self._noted)
        return {"ok": True}

    def _noted(self) -> None:
        self._state.verified = self._stager.verified()
        self._save()

    # ---- the end, or a rest: only ever of an idle node, decided here and at once

    def _must_be_idle(self) -> None:
        running = self._tasks.running()
        if running:
            raise Refused("busy", ", ".join(t.claimant for t in running))

    def _hold(self, seconds: float) -> Json:
        """Take no task for a moment, so that several nodes can be asked before anything is done to one of them."""
        self._must_be_idle()
        self._held_until = time.monotonic() + seconds
        return {"ok": True}

    def _release(self) -> Json:
        self._held_until = 0.0
        return {"ok": True}

    def _shutdown(self, standby: str) -> Json:
        self._must_be_idle()
        self._stager.stop()
        self._state.standby = standby
        self._enter(standby)
        self._loop.after_reply(self._stop)
        return {"ok": True}

    def _stop(self) -> None:
        self._loop.stopped = True

    def _suspend(self) -> Json:
        self._must_be_idle()
        if self._state.standby == disk.HIBERNATED:
            return {"ok": True}
        if self._state.phase not in (READY, DRAINING):
            raise Refused("not-ready", f"the node is {self._state.phase}")
        self._state.standby = disk.HIBERNATED
        self._enter(disk.HIBERNATED)
        self._loop.after_reply(lambda: suspend(self._bounds))
        return {"ok": True}

    def _resume(self, order: Json, preload: Json) -> Json:
        """Awake again: warm anew. Repeating it does nothing.

        A machine that a cloud put to sleep was not asked to suspend: there it is the number of the order that tells.
        """
        if self._state.standby == disk.HIBERNATED or int(order["serial"]) > self._state.serial:
            self._preload = preload
            self._held_until = 0.0
            self._order(order)
        return {"ok": True}


def _prepare(node: disk.NodeDir, items: list[Item]) -> dict[str, str]:
    """Make sure, in the task's supervisor, of what the task needs; returns where it is, as environment variables."""
    from preprov.agent.preload import stage  # not needed by the agent itself

    places: dict[str, dict[str, str]] = {"image": {}, "dataset": {}}
    for item in items:
        status = stage(node, item, _ignore, read_back=False)
        if status.state != "verified":
            raise StageError(status.error)
        places[item.kind][item.uri if item.kind == "image" else item.key] = str(where(node, item))
    env = {"PREPROV_IMAGES": json.dumps(places["image"]), "PREPROV_DATASETS": json.dumps(places["dataset"])}
    for kind, found in places.items():
        if found:
            env[f"PREPROV_{kind.upper()}"] = next(iter(found.values()))
    return env


def _ignore(_: PreloadStatus) -> None:
    """Progress of a task's own preparation is told to nobody; the log says if it fails."""
