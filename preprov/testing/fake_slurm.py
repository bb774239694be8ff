"""A Slurm that behaves, behind its commands: nodes with their power states, jobs that really run, JSON of two eras.

`FakeSlurm.run` stands in for the programs on the PATH (`slurm.commands.Runner`). What it does by itself, real Slurm was
seen to do: a node that is asked to power up has its ResumeProgram called, registers once its machine is ready, is
drained and suspended when it is asked to go, and comes back clean. Time is wall time, plus what a test lets pass.
"""

import math
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from preprov.slurm.arrays import elements
from preprov.slurm.errors import SlurmError, Trouble, trouble_of
from preprov.slurm.hostlist import expand
from preprov.testing import fake_slurm_wire as wire

_ENDED: Final = ("COMPLETED", "FAILED", "CANCELLED", "NODE_FAIL", "TIMEOUT")


@dataclass
class FakeNode:
    """One node."""

    name: str
    state: str = "IDLE"
    flags: set[str] = field(default_factory=lambda: {"CLOUD", "POWERED_DOWN"})
    reason: str = ""
    reason_at: float = 0.0
    started_at: float = 0.0
    last_busy: float = 0.0
    extra: str = ""
    weight: int = 1


@dataclass
class FakeJob:
    """One job, or one element of an array.

    Attributes:
        process: it really runs; None = it only says so. memory: MiB. line: by which it was submitted.
        used: cpu_s, peak_mib, disk_mib: in all as the accounting has it, so far as `sstat` does.
    """

    job_id: int
    name: str = "job"
    user: str = "ana"
    state: str = "PENDING"
    reason: str = "None"
    submit: float = 0.0
    start: float = 0.0
    end: float = 0.0
    code: int = 0
    node: str = ""
    wanted: str = ""
    cpus: int = 1
    memory: int = 100
    nodes: int = 1
    comment: str = ""
    partition: str = "batch"
    account: str = "lab"
    array_id: int = 0
    element: int | None = None
    elements: str = ""
    het_id: int = 0
    het_offset: int = 0
    depends: str = ""
    limit_min: int | None = None
    line: str = ""
    features: str = ""
    reservation: str = ""
    script: str = ""
    output: str = ""
    used: Mapping[str, float] = field(default_factory=dict)
    tasks: int = 1
    process: "subprocess.Popen[bytes] | None" = None


@dataclass
class FakePartition:
    """One partition: how many of the cluster's nodes it has, of so many cores each."""

    name: str
    nodes: int
    state: str = "UP"


@dataclass
class FakeReservation:
    """Nodes that are kept for somebody; times in epoch seconds. cores: of all of them, of one thread each."""

    name: str
    nodes: str
    start: float
    end: float
    cores: int
    flags: str = "MAINT,SPEC_NODES"


class FakeSlurm:
    """The cluster.

    Args:
        names: of its nodes. folder: for scripts. newer: speak as 24.05 does, else as 22.05.

    Attributes:
        most: jobs that its accounting tells in one answer; asked for a time with more, it does not answer in time.
    """

    def __init__(self, names: Sequence[str], folder: Path, *, newer: bool = False, cpus: int = 2) -> None:
        self.nodes = {n: FakeNode(n) for n in names}
        self.jobs: dict[int, FakeJob] = {}
        self.forgotten: set[int] = set()
        self.newer, self.cpus, self.memory = newer, cpus, 4000
        self.resume: Callable[[str], object] | None = None
        self.suspend: Callable[[str], object] | None = None
        self.answers: int | None = None
        self.offset = 0.0
        self.most: int | None = None
        self.calls: list[Sequence[str]] = []
        self.events: list[tuple[str, str, float, float | None]] = []
        self.reservations: list[FakeReservation] = []
        self.partitions = [FakePartition("batch", len(names))]
        self.conf = {"SLURM_VERSION": "24.05.1" if newer else "22.05.8", "SuspendTime": "300 sec"}
        self.config_more: dict[str, str] = {"ResumeTimeout": "60 sec"}
        self.admin_level = "None"
        self.next_id = 1
        self._folder = folder
        self._inside = False

    def now(self) -> float:
        """Epoch seconds."""
        return time.time() + self.offset

    # ---- the commands

    def run(self, argv: Sequence[str], stdin: str | None = None) -> str:
        """What the command prints.

        Raises:
            SlurmError: it refuses, or does not answer any more (`answers`).
        """
        self.calls.append(tuple(argv))
        if self.answers is not None:
            if self.answers <= 0:
                raise SlurmError(Trouble.UNREACHABLE, "Unable to contact slurm controller (connect failure)", argv[0])
            self.answers -= 1
        self.settle()
        verbs: Mapping[str, Callable[[Sequence[str], str], str]] = {
            "sinfo": self._sinfo,
            "scontrol": self._scontrol,
            "squeue": self._squeue,
            "sacct": self._sacct,
            "sacctmgr": self._sacctmgr,
            "sstat": self._sstat,
            "sdiag": self._sdiag,
            "sbatch": self._sbatch,
            "scancel": self._scancel,
        }
        return verbs[argv[0]](argv[1:], stdin or "")

    def _refuse(self, said: str) -> SlurmError:
        return SlurmError(trouble_of(said), said)

    def _sinfo(self, words: Sequence[str], _: str) -> str:
        return wire.document("sinfo" if self.newer else "nodes", [] if self.newer else wire.nodes(self))

    def _scontrol(self, words: Sequence[str], _: str) -> str:
        if "--json" in words and not self.newer:
            raise self._refuse("scontrol: unrecognized option '--json'")
        if words[:2] == ["show", "nodes"]:
            return wire.document("nodes", wire.nodes(self))
        if words[:2] == ["show", "config"]:
            return "\n".join(f"{k:<24}= {v}" for k, v in {**self.conf, **self.config_more}.items())
        if words[:2] == ["show", "hostnames"]:
            return "\n".join(expand(words[2]))
        if words[0] == "update":
            fields = dict(w.split("=", 1) for w in words[1:])
            if "JobId" in fields:
                self._update_job(fields)
            else:
                self._update(fields)
            return ""
        if "partition" in words:
            rows = [wire.partition(p, self.cpus) for p in self.partitions]
            lines = [wire.partition_line(p, self.cpus) for p in self.partitions]
        else:
            rows = [wire.reservation(r) for r in self.reservations]
            lines = [wire.reservation_line(r) for r in self.reservations]
        return wire.document(f"{words[1]}s", rows) if self.newer else "\n".join(lines)

    def _update_job(self, fields: dict[str, str]) -> None:
        job = self.jobs.get(int(fields.pop("JobId")))
        if job is None:
            raise self._refuse("slurm_update error: Invalid job id specified")
        if job.state in _ENDED:
            raise self._refuse("slurm_update error: Job/step already completing or completed")
        if fields.keys() - {"TimeLimit"} and job.state != "PENDING":
            raise self._refuse(f"Job is no longer pending execution for job {job.job_id}")
        job.cpus = int(fields.get("CPUsPerTask", job.cpus))
        job.memory = int(fields.get("MinMemoryNode", job.memory))
        job.limit_min = int(fields["TimeLimit"]) if "TimeLimit" in fields else job.limit_min

    def _update(self, fields: dict[str, str]) -> None:
        names = expand(fields.pop("nodename"))
        missing = [n for n in names if n not in self.nodes]
        if missing:
            raise self._refuse("slurm_update error: Invalid node name specified")
        for name in names:
            node = self.nodes[name]
            node.extra = fields.get("extra", node.extra)
            node.weight = int(fields.get("weight", node.weight))
            if "reason" in fields:
                node.reason, node.reason_at = fields["reason"], self.now()
            self._to(node, fields.get("state", ""))

    def _to(self, node: FakeNode, state: str) -> None:
        flags = node.flags
        if state == "power_up" and "POWERED_DOWN" in flags:
            flags -= {"POWERED_DOWN"}
            flags |= {"POWERING_UP", "NOT_RESPONDING", "_resume"}
        elif state == "power_down_asap":
            flags |= {"DRAIN", "POWER_DOWN"}
        elif state == "power_down_force":
            self._requeue(node)
            flags -= {"POWERING_UP", "NOT_RESPONDING", "_resume"}
            flags |= {"DRAIN", "POWER_DOWN"}
        elif state == "drain":
            flags |= {"DRAIN"}
        elif state in ("undrain", "resume"):
            flags -= {"DRAIN"}
            node.last_busy = self.now() if "POWERED_DOWN" not in flags else 0.0
            if state == "resume":
                node.state = "IDLE"
                self._clear(node, "POWERING_UP", "NOT_RESPONDING", gone="POWERING_UP" in flags)
        elif state == "down":
            self._requeue(node)
            node.state = "DOWN"
            flags -= {"_resume"}
        elif state and state != "power_up":
            raise self._refuse("slurm_update error: Invalid node state specified")

    def _clear(self, node: FakeNode, *names: str, gone: bool) -> None:
        node.flags -= set(names)
        if gone:
            node.flags |= {"POWERED_DOWN"}

    def _requeue(self, node: FakeNode) -> None:
        for job in self.jobs.values():
            if job.node == node.name and job.state == "RUNNING":
                job.state, job.node, job.start = "PENDING", "", 0.0

    # ---- what happens by itself

    def settle(self) -> None:
        """Let everything happen that is due."""
        if self._inside:
            return
        self._inside = True
        try:
            self._end_jobs()
            for node in self.nodes.values():
                self._power(node)
            self._start_jobs()
        finally:
            self._inside = False

    def _power(self, node: FakeNode) -> None:
        if "_resume" in node.flags and self.resume is not None:
            node.flags -= {"_resume"}
            self.resume(node.name)
        busy = self.held(node)
        if "POWER_DOWN" in node.flags and not busy and "POWERING_UP" not in node.flags:
            node.flags -= {"POWER_DOWN"}
            node.flags |= {"POWERING_DOWN"}
            if self.suspend is not None:
                self.suspend(node.name)
        elif "POWERING_DOWN" in node.flags:
            node.flags = {"CLOUD", "POWERED_DOWN"}
            node.state, node.last_busy = "IDLE", 0.0

    def register(self, name: str) -> None:
        """Its slurmd has reported."""
        node = self.nodes[name]
        if "POWERING_UP" in node.flags:
            node.flags -= {"POWERING_UP", "NOT_RESPONDING"}
            node.started_at = node.last_busy = self.now()

    def count(self, state: str) -> int:
        """Jobs in that state, each element of an array that waits for one."""
        there = [j for j in self.jobs.values() if j.state == state and j.job_id not in self.forgotten]
        return sum(len(elements(j.elements)) if j.elements and j.element is None else 1 for j in there)

    def held(self, node: FakeNode) -> list[FakeJob]:
        """Jobs that run there."""
        return [j for j in self.jobs.values() if j.node == node.name and j.state == "RUNNING"]

    def _start_jobs(self) -> None:
        for job in self.jobs.values():
            node = self.nodes.get(job.wanted)
            if job.state != "PENDING" or node is None or job.depends:
                continue
            off = {"POWERED_DOWN", "POWERING_UP", "POWERING_DOWN", "DRAIN"} & node.flags
            if not off and node.state != "DOWN" and sum(j.cpus for j in self.held(node)) + job.cpus <= self.cpus:
                job.state, job.node, job.start = "RUNNING", node.name, self.now()
                if job.script:
                    self._execute(job)

    def _execute(self, job: FakeJob) -> None:
        file = self._folder / f"job-{job.job_id}.sh"
        file.write_text(job.script)
        with Path(job.output).open("ab") as out:
            job.process = subprocess.Popen(["sh", str(file)], stdout=out, stderr=out, start_new_session=True)

    def _end_jobs(self) -> None:
        for job in self.jobs.values():
            code = job.process.poll() if job.process is not None and job.state == "RUNNING" else None
            if code is not None:
                self.end(job, "COMPLETED" if code == 0 else "FAILED", code)

    def end(self, job: FakeJob, state: str, code: int = 0) -> None:
        """It ends."""
        job.state, job.code, job.end = state, code, self.now()
        job.start = job.start or job.end
        if job.node in self.nodes:
            self.nodes[job.node].last_busy = self.now()

    def stop(self) -> None:
        """End what still runs."""
        for job in self.jobs.values():
            if job.process is not None and job.process.poll() is None:
                job.process.send_signal(signal.SIGKILL)
                job.process.wait()

    # ---- jobs

    def add(self, **fields: Any) -> FakeJob:
        """Another job."""
        job = FakeJob(self.next_id, **{"submit": self.now(), **fields})
        self.next_id += 1
        self.jobs[job.job_id] = job
        return job

    def _sbatch(self, words: Sequence[str], stdin: str) -> str:
        given = {k.lstrip("-"): v for k, _, v in (w.partition("=") for w in words)}
        if given["nodelist"] not in self.nodes:
            raise self._refuse("sbatch: error: Invalid node name specified")
        job = self.add(
            name=given["job-name"],
            user="root",
            wanted=given["nodelist"],
            cpus=int(given["cpus-per-task"]),
            memory=int(given["mem"].rstrip("M")),
            comment=given["comment"],
            script=stdin,
            output=given["output"].replace("%%", "%"),
        )
        return f"{job.job_id}\n"

    def _scancel(self, words: Sequence[str], _: str) -> str:
        job = self.jobs.get(int(words[-1]))
        if job is None:
            raise self._refuse("scancel: error: Kill job error: Invalid job id specified")
        if words[0].startswith("--signal="):
            if job.process is not None:
                os.killpg(job.process.pid, signal.Signals[f"SIG{words[0].partition('=')[2]}"])
        elif job.state not in _ENDED:
            if job.process is not None:
                job.process.send_signal(signal.SIGKILL)
                job.process.wait()
            self.end(job, "CANCELLED", 0)
        return ""

    def _sdiag(self, words: Sequence[str], _: str) -> str:
        line = "*" * 55
        told = f"sdiag output at {datetime.fromtimestamp(self.now()):%c} ({int(self.now())})"  # noqa: DTZ006
        return f"{line}\n{told}\n{line}\nServer thread count:  1\n"

    def _sstat(self, words: Sequence[str], _: str) -> str:
        wanted = {int(w) for w in words[-1].split(",")}
        return "\n".join(wire.stepped(self.jobs[j]) for j in sorted(wanted) if self._runs(j))

    def _runs(self, job_id: int) -> bool:
        job = self.jobs.get(job_id)
        return job is not None and job.state == "RUNNING"

    def _squeue(self, words: Sequence[str], _: str) -> str:
        rows = [wire.job(j, self.newer) for j in self.jobs.values() if j.job_id not in self.forgotten]
        return wire.document("jobs", rows)

    def _sacctmgr(self, words: Sequence[str], _: str) -> str:
        """Times for which nodes were in a state; `events`: (node, state, from, to). What a user may: `admin_level`."""
        if "user" in words:
            return f"{self.admin_level}\n"

        def shown(at: float | None) -> str:
            return "Unknown" if at is None else datetime.fromtimestamp(at).strftime("%Y-%m-%dT%H:%M:%S")  # noqa: DTZ006

        return "\n".join(f"{n}|{state}|{shown(a)}|{shown(b)}" for n, state, a, b in self.events)

    def _sacct(self, words: Sequence[str], _: str) -> str:
        given = dict(w.lstrip("-").split("=", 1) for w in words if "=" in w)
        if "-o" in words:
            asked = {int(j) for j in given["jobs"].split(",")}
            return "\n".join(f"{j}|{self.jobs[j].line}" for j in sorted(asked & self.jobs.keys()))
        wanted = {int(j) for j in given["jobs"].split(",")} if "jobs" in given else None
        states = set(given["state"].split(",")) if "state" in given else None
        found = [
            j
            for j in self.jobs.values()
            if (wanted is None or {j.job_id, j.array_id, j.het_id} & wanted)
            and (states is None or j.state in states)
            and (
                wanted is not None
                or wire.was(j.end if states else j.submit, j.end if states else j.end or math.inf, given)
            )
            and not (j.array_id and j.element is None)
        ]
        if wanted is None and self.most is not None and len(found) > self.most:
            self.offset += 60.0
            raise SlurmError(Trouble.TOO_MUCH, "sacct did not end within 60 s", "sacct --json")
        return wire.document("jobs", [wire.accounted(j, self.newer) for j in found])
