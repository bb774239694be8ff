"""The carrier: on a node of a cloud it goes between the agent and the letter box that the cloud's record of it is.

Each round it reads the controller's notes, has the agent heed them, and posts what the agent says. The agent itself is
the same as on a local node; what differs between clouds is in `clouds`.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import preprov
from preprov.agent import disk
from preprov.agent.asking import ask
from preprov.agent.callback import Callback
from preprov.agent.channel import Channel
from preprov.agent.clouds import CloudError, Letterbox, Machine
from preprov.agent.disk import Json
from preprov.agent.setup import Setup
from preprov.agent.spoken import Spoken
from preprov.model.agent import Health, decode_health
from preprov.model.notes import CONTROLLER, CREATED, DRAIN, NOTICE, PRELOAD, SLURM_NODE, STARTED, Report, fenced, gather

_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"
_GAP_S: Final = 20.0
"""Wall time that passed while the machine's steady clock stood: it slept, its memory was kept."""
_ANSWER_S: Final = 10.0
_HOLD_S: Final = 60.0
READY: Final = "ready"


@dataclass(frozen=True)
class Settings:
    """What the user data wrote down for this node.

    Attributes:
        home: folder of the node's disk. setup: file in which the user data says how far packages and commands are.
        preload: images and datasets that are to be there whatever the notes say.
        port: where tasks are taken from who is introduced by a note; 0 = nowhere.
        join: commands run once the node is verified and handed over, such as those that make it join a cluster.
        cpu, memory: limits of all tasks together, cores and GiB; 0 = the machine's own.
        poll_s: between rounds. heartbeat_s: a report that says nothing new is posted that often.
        limits: "rlimit" leaves cgroups alone.
    """

    home: str = "/var/lib/preprov/node"
    setup: str = ""
    preload: Json = field(default_factory=dict)
    port: int = 0
    join: tuple[tuple[str, ...], ...] = ()
    cpu: float = 0.0
    memory: float = 0.0
    poll_s: float = 5.0
    heartbeat_s: float = 180.0
    limits: str = ""


@dataclass(frozen=True)
class Clocks:
    """The clocks of the machine.

    Attributes:
        wall: epoch seconds. steady: seconds; stands while the machine sleeps. booted: when it booted, by `wall`.
        shown: wall time as the controller's clock shows it.
        boot_id: names this boot; "" = as the kernel names it.
    """

    wall: Callable[[], float] = time.time
    steady: Callable[[], float] = time.monotonic
    booted: float = field(default_factory=lambda: time.time() - time.clock_gettime(time.CLOCK_BOOTTIME))
    shown: Callable[[float], float] = float
    boot_id: str = ""

    def this_boot(self) -> str:
        """Names this boot of the machine."""
        if self.boot_id:
            return self.boot_id
        with open(_BOOT_ID) as f:
            return f.read().strip()


def start_agent(folder: Path) -> str:
    """Start the agent of a node out of a program of its own; "" or what went wrong.

    This process has threads, and one that has threads is not forked.
    """
    root = str(Path(preprov.__file__).parent.parent)  # a folder, or the archive that this program came in
    command = [sys.executable, "-S", "-P", "-m", "preprov.agent", "start", str(folder)]
    env = {**os.environ, "PYTHONPATH": root}
    try:
        done = subprocess.run(command, env=env, capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=True)
        return str(json.loads(done.stdout)[str(folder)].get("error", ""))
    except (OSError, ValueError, KeyError, subprocess.SubprocessError) as e:
        return str(e)


class Carrier:
    """One node's. Nothing here is remembered that would be missed after a crash: it is on the disk or in the notes."""

    def __init__(
        self,
        box: Letterbox,
        settings: Settings,
        clocks: Clocks | None = None,
        start: Callable[[Path], str] = start_agent,
    ) -> None:
        self._box, self._settings, self._clocks = box, settings, clocks or Clocks()
        self._start = start
        self._node: disk.NodeDir | None = None
        self._machine: Machine | None = None
        self._setup = Setup(settings.setup)
        self._spoken = Spoken(settings.heartbeat_s)
        self._channel: Channel | None = None
        self._slept = (self._clocks.wall(), self._clocks.steady())
        self._noticed: tuple[str, float] | None = None
        self._drained = False
        self._ack = ""
        self._joined = -1
        self._in_service = False
        self._callback = Callback()

    # ---- a round

    def round(self) -> None:
        """Look, heed, report. What the cloud does not answer now is tried again in the next round."""
        try:
            machine = self._machine = self._machine or self._box.machine()
            notes = self._box.orders()
        except CloudError as e:
            say(f"cannot read the notes: {e}")
            notes = None
        else:
            self._node = self._node or disk.NodeDir(os.path.join(self._settings.home, machine.node_id))
        if self._node is None or self._machine is None:
            return
        self._bring_up(self._node, notes)
        if notes is not None:
            self._heed(self._node, notes)
        self._tell(self._node, notes)

    def close(self, *, stopped: bool = True) -> None:
        """The machine goes down: no more tasks; `stopped`: an idle agent ends and the disk says so."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if stopped and self._node is not None:
            self._ask("shutdown", standby=disk.STOPPED)

    def pause(self) -> None:
        """It sleeps: nothing is heard."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    # ---- from booted to an agent that runs

    def _bring_up(self, node: disk.NodeDir, notes: Mapping[str, str] | None) -> None:
        """Have the agent run with the order that fits how this machine came here: cold, stopped or hibernated."""
        if not self._setup.over() or self._setup.failed():
            return
        facts = node.facts()
        came_from = self._came_from(node, facts, notes or {})
        if came_from:
            facts = self._order(node, facts, came_from, notes or {})
        if not node.is_alive():
            problem = self._start(node.path)
            if problem:
                say(f"the agent did not start: {problem}")
        elif came_from:
            self._ask("resume", order=facts["warming"], preload=facts["preload"])

    def _came_from(self, node: disk.NodeDir, facts: Json, notes: Mapping[str, str]) -> str:
        """The state this machine has just come out of; "" = it has been up."""
        wall, steady = self._clocks.wall(), self._clocks.steady()
        gap_s = (wall - self._slept[0]) - (steady - self._slept[1])
        self._slept = (wall, steady)
        if not facts:
            return "cold"
        if facts.get("boot_id") != self._clocks.this_boot() or node.state().get("standby") == disk.STOPPED:
            return disk.STOPPED
        woken = notes.get(STARTED, "")
        if (gap_s > _GAP_S or (woken and woken != facts.get("started"))) and not self._busy():
            return disk.HIBERNATED
        return ""

    def _order(self, node: disk.NodeDir, old: Json, came_from: str, notes: Mapping[str, str]) -> Json:
        serial = int(old["warming"]["serial"]) + 1 if old else 0
        at = self._clocks.booted if came_from != disk.HIBERNATED else self._clocks.wall()
        facts = {
            "node_id": node.node_id,
            "boot_id": self._clocks.this_boot(),
            "started": notes.get(STARTED, ""),
            "warming": {
                "serial": serial,
                "from": came_from,
                "at": at,
                "delay_s": 0.0,
                "read_back": not old and take_over(node),
            },
            "preload": _merged(old.get("preload") or self._settings.preload, gather(PRELOAD, notes) or {}),
            "offering": {"capacity": {"cpu": self._settings.cpu, "memory": self._settings.memory}},
            "limits": self._settings.limits,
        }
        for folder in (node.path, node.disk, node.tasks):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if DRAIN not in notes:
            node.draining_file.unlink(missing_ok=True)
        disk.write_json(node.facts_file, facts)
        self._noticed, self._drained = None, False
        return facts

    # ---- what the notes say

    def _heed(self, node: disk.NodeDir, notes: Mapping[str, str]) -> None:
        now = self._clocks.shown(self._clocks.wall())
        nonce = fenced(notes, now)
        if nonce:
            self._ack = nonce if self._ask("hold", seconds=_HOLD_S).get("ok") else ""
        elif self._ack:
            self._ask("release")
            self._ack = ""
        self._drain(notes)
        self._preload(node, notes)
        self._introduce(node, notes)

    def _drain(self, notes: Mapping[str, str]) -> None:
        try:
            self._noticed = self._noticed or self._box.notice()
            self._in_service = self._box.in_service()
        except CloudError as e:
            say(f"cannot ask for notices: {e}")
        wanted = DRAIN in notes or (self._noticed or ("",))[0] == "interruption"
        if wanted != self._drained and self._ask("drain" if wanted else "undrain").get("ok"):
            self._drained = wanted

    def _preload(self, node: disk.NodeDir, notes: Mapping[str, str]) -> None:
        """What was asked for since the last order is put on the disk while the node goes on."""
        facts = node.facts()
        more = _merged(facts.get("preload") or {}, gather(PRELOAD, notes) or {})
        if not facts or more == facts["preload"]:
            return
        if self._ask("preload", preload=more).get("ok"):
            disk.write_json(node.facts_file, {**facts, "preload": more})

    def _introduce(self, node: disk.NodeDir, notes: Mapping[str, str]) -> None:
        """Whoever may write the machine's notes may hand tasks to it, by the certificate it leaves there."""
        known = gather(CONTROLLER, notes)
        if not self._settings.port or known is None or self._machine is None:
            return
        if self._channel is None:
            try:
                self._channel = Channel.open(
                    node, (self._machine.address, self._settings.port), lambda: self._in_service and not self._drained
                )
            except (OSError, ValueError) as e:
                say(f"no tasks can be taken: {e}")
                return
        self._channel.trust(str(known.get("certificate", "")))

    # ---- what is said

    def _tell(self, node: disk.NodeDir, notes: Mapping[str, str] | None) -> None:
        report = self._report(node, notes or {})
        posted = dict(self._spoken.due(report, self._clocks.wall()))
        if self._noticed is not None and self._noticed[0] in ("interruption", "rebalance"):
            posted |= self._spoken.once(NOTICE, f"{self._noticed[0]}@{self._clocks.shown(self._noticed[1]):.0f}")
        if posted:
            try:
                self._box.post(posted)
            except CloudError as e:
                self._spoken.forget()
                say(f"cannot post the report: {e}")
                return
        called = self._callback.round(report.health, notes or {})
        if called:
            say(called)

    def _report(self, node: disk.NodeDir, notes: Mapping[str, str]) -> Report:
        health = self._health(node)
        facts = node.facts()
        came_from = str(facts.get("warming", {}).get("from", "cold"))
        if health.phase == READY and self._in_service and DRAIN not in notes:
            health = self._join(node, facts, health, notes)
        shown = _as_shown(
            health, float(facts.get("warming", {}).get("at", self._clocks.booted)), _asked(notes), self._clocks
        )
        channel = self._channel.name if self._channel is not None else ""
        return Report(shown, self._ack, came_from, channel)

    def _health(self, node: disk.NodeDir) -> Health:
        """What the agent says of itself; before it can, what is known without it."""
        failed = self._setup.failed()
        answer = {} if failed or not self._setup.over() else self._ask("health")
        if answer.get("protocol"):
            raw = decode_health(json.dumps(answer).encode())
            return replace(raw, preload=(*self._setup.statuses(), *raw.preload))
        return Health(
            node_id=node.node_id,
            phase="failed" if failed else "warming",
            at=self._clocks.wall(),
            pid=os.getpid(),
            started_at=self._clocks.booted,
            preload=self._setup.statuses(),
            reason=failed or self._setup.reason() or "its agent does not answer",
        )

    def _join(self, node: disk.NodeDir, facts: Json, health: Health, notes: Mapping[str, str]) -> Health:
        """Once per run: what makes the node join a cluster, now that it is verified and handed over.

        Where it is launched for a node of Slurm, the commands see which: PREPROV_SLURM_NODE.
        """
        serial = int(facts["warming"]["serial"])
        if not self._settings.join or self._joined == serial:
            return health
        who = {"PREPROV_SLURM_NODE": notes[SLURM_NODE]} if SLURM_NODE in notes else {}
        problem = self._setup.run_all(self._settings.join, node.path, who)
        if problem:
            return replace(health, phase="failed", ready_at=None, reason=problem)
        self._joined = serial
        return health

    # ---- inside

    def _busy(self) -> bool:
        return bool(self._ask("health").get("tasks"))

    def _ask(self, verb: str, **arguments: Any) -> Json:
        """The agent's answer; empty if it gave none."""
        return (ask(self._node.path, verb, _ANSWER_S, **arguments) if self._node is not None else None) or {}


def take_over(node: disk.NodeDir) -> bool:
    """Make what the machine's image brought this node's own; True if it brought something.

    An image is made of a node that was verified, whose name was another.
    """
    if node.path.exists() or not node.path.parent.is_dir():
        return False
    for other in sorted(p for p in node.path.parent.iterdir() if (p / "disk").is_dir()):
        node.path.mkdir(mode=0o700)
        (other / "disk").rename(node.disk)
        shutil.rmtree(other, ignore_errors=True)
        return True
    return False


def _asked(notes: Mapping[str, str]) -> float | None:
    """When the controller asked for this run, on its own clock, if it says."""
    try:
        text = notes.get(STARTED) or notes.get(CREATED, "")
        return datetime.fromisoformat(text).timestamp() if text else None
    except ValueError:
        return None


def _as_shown(health: Health, began: float, asked: float | None, clocks: Clocks) -> Health:
    """The same in times of the controller's clock; the wait for a machine is a stage of its own, where it is known."""
    shown, at, stages = clocks.shown, began, {}
    for name, seconds in health.stages.items():
        stages[name] = max(shown(at + seconds) - shown(at), 0.0)
        at += seconds
    if stages and asked is not None:
        stages["allocate"] = max(shown(began) - asked, 0.0)
    return replace(
        health,
        at=shown(clocks.wall()),
        started_at=shown(health.started_at),
        ready_at=shown(health.ready_at) if health.ready_at is not None else None,
        tasks=tuple(
            replace(t, started_at=shown(t.started_at), ended_at=shown(t.ended_at) if t.ended_at else t.ended_at)
            for t in health.tasks
        ),
        stages=stages,
    )


def _merged(first: Json, second: Json) -> Json:
    """Union of two preloads, order kept."""
    out: Json = {}
    for kind in ("images", "datasets"):
        have = list(first.get(kind, ()))
        out[kind] = [*have, *(i for i in second.get(kind, ()) if i not in have)]
    return {**{k: v for k, v in first.items() if k not in out}, **out}


def settings_of(raw: Json) -> Settings:
    """Settings as they are written in JSON.

    Raises:
        TypeError: one is unknown.
    """
    join = tuple(tuple(str(w) for w in command) for command in raw.get("join", ()))
    return Settings(**{**raw, "join": join})


def say(text: str) -> None:
    """A line for the log."""
    sys.stderr.write(f"[preprov] {text}\n")
    sys.stderr.flush()
