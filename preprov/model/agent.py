"""Messages between a node's agent and the controller. Standard library only: the agent runs on any node."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Protocol

PROTOCOL: Final = 1
LONGEST_LINE: Final = 64 * 1024 * 1024
"""Bytes of the longest message; a longer one is a fault of the speaker."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one task used at an instant. None = not observed, never 0.

    Attributes:
        at: epoch seconds. cpu: cores. memory: GiB. disk_io, network: MB/s.
        gpu: devices, the share of the time in which each computed, summed. gpu_memory: GiB, of all devices together.
        working_set: GiB that cannot be taken away without taking what it works with.
        page_faults: pages a second that were not in memory and had to be fetched (major ones).
        read_ops, write_ops: calls a second that read or wrote; what the page cache answered is among them.
        disk_ops: operations a second of the disks themselves.
    """

    at: float
    cpu: float | None = None
    memory: float | None = None
    disk_io: float | None = None
    network: float | None = None
    gpu: float | None = None
    gpu_memory: float | None = None
    working_set: float | None = None
    page_faults: float | None = None
    read_ops: float | None = None
    write_ops: float | None = None
    disk_ops: float | None = None


@dataclass(frozen=True, slots=True)
class Underway:
    """A change of what a task may use that was asked for and is not in force.

    Attributes:
        cpu, memory: as asked, in cores and GiB; None = nothing was asked.
        why: why it is not made; "" = it is being made.
        stands: it will be made as soon as it can be; False = it will not, and is better taken back.
    """

    cpu: float | None = None
    memory: float | None = None
    why: str = ""
    stands: bool = True


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one running task is limited to beside its node's limits, and how it fares.

    Attributes:
        cpu: cores. memory: GiB. None = no limit of its own.
        working_set: GiB that cannot be taken from it; None = not observed.
        throttled_s: processor seconds it was held back since it began. stalled: it waits for memory.
        can: the resources whose limit can be changed while it runs.
        time_limit_s: it is ended when it has run for so long; None = it is not.
        free: none of it is less than the task would have without us.
        underway: what is asked of it and is not in force; None = nothing.
    """

    cpu: float | None = None
    memory: float | None = None
    working_set: float | None = None
    throttled_s: float = 0.0
    stalled: bool = False
    can: tuple[str, ...] = ()
    time_limit_s: float | None = None
    free: bool = False
    underway: Underway | None = None


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """A task instance on this node.

    Attributes:
        claimant: as `TaskRun.claimant` names it.
        exit_code: None while it runs, and if nobody saw it end; negative = ended by that signal.
        bounds: while it runs; None = nobody can say. gpus: devices that are its own, while it runs or while it ran.
        out_of_memory: it has ended, and the kernel ended a process of it for want of memory; False if nobody can say.
    """

    claimant: str
    pid: int
    started_at: float
    ended_at: float | None = None
    exit_code: int | None = None
    log: str = ""
    usage: tuple[Usage, ...] = ()
    limits: str = ""
    bounds: Bounds | None = None
    gpus: tuple[str, ...] = ()
    out_of_memory: bool = False


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU of the machine that a node is on.

    Attributes:
        memory: GiB; None = not told.
        state: "ok", "lost" (fallen off the bus), "mig" (cut into instances; no task is given it).
        claimant: the task that has it, of this node or another of the machine; "" = none.
    """

    uuid: str
    name: str
    memory: float | None = None
    state: str = "ok"
    claimant: str = ""


@dataclass(frozen=True, slots=True)
class PreloadStatus:
    """One image or dataset on its way onto the disk; on a node of a cloud also a package or a command.

    Attributes:
        read_mb_s: how fast it was read back from the disk, MB/s; None = it was not, or is too small to tell.
    """

    key: str
    kind: str
    state: str
    done_bytes: int = 0
    total_bytes: int | None = None
    digest: str = ""
    error: str = ""
    seconds: float = 0.0
    read_mb_s: float | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """The agent's answer on its health socket.

    Attributes:
        phase: warming, ready, draining, failed (as model.nodes.Phase).
        limits: how limits are kept: "cgroup1", "cgroup2" or "rlimit".
        stages: seconds spent per stage of warming (allocate, boot, image, data, join).
        gpus: of its machine; None = nobody can tell.
    """

    node_id: str
    phase: str
    at: float
    pid: int
    started_at: float
    ready_at: float | None = None
    tasks: tuple[TaskStatus, ...] = ()
    preload: tuple[PreloadStatus, ...] = ()
    progress: float = 0.0
    limits: str = ""
    stages: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    gpus: tuple[Gpu, ...] | None = None
    protocol: int = PROTOCOL


def encode(message: Any) -> bytes:
    """One JSON line."""
    return json.dumps(asdict(message), separators=(",", ":")).encode() + b"\n"


def decode_health(line: bytes) -> Health:
    """Parse what `encode` wrote.

    Raises:
        ValueError: not a health message of this protocol.
    """
    raw = json.loads(line)
    if raw.get("protocol") != PROTOCOL:
        raise ValueError(f"agent speaks protocol {raw.get('protocol')}, this controller {PROTOCOL}")
    raw["tasks"] = tuple(task_status(t) for t in raw.get("tasks", ()))
    raw["preload"] = tuple(PreloadStatus(**_known(PreloadStatus, p)) for p in raw.get("preload", ()))
    if raw.get("gpus") is not None:
        raw["gpus"] = tuple(Gpu(**_known(Gpu, g)) for g in raw["gpus"])
    return Health(**_known(Health, raw))


def task_status(raw: dict[str, Any]) -> TaskStatus:
    """Parse one task instance as it stands in a message."""
    told = raw.get("bounds")
    bounds = bounds_of(told) if told else None
    usage = tuple(Usage(**_known(Usage, u)) for u in raw.get("usage", ()))
    gpus = tuple(raw.get("gpus", ()))
    return TaskStatus(**{**_known(TaskStatus, raw), "usage": usage, "bounds": bounds, "gpus": gpus})


def bounds_of(raw: dict[str, Any]) -> Bounds:
    """Parse limits as they stand in a message."""
    return Bounds(**{**_known(Bounds, raw), "can": tuple(raw.get("can", ()))})


def _known(of: type, raw: dict[str, Any]) -> dict[str, Any]:
    """Without what only a newer agent of this protocol tells: nodes outlive the controller that launched them."""
    names = {f.name for f in fields(of)}
    return {k: v for k, v in raw.items() if k in names}


class Stream(Protocol):
    """A connected byte stream, such as `socket.makefile("rwb")`."""

    def write(self, data: bytes, /) -> int | None:
        """Send bytes."""
        ...

    def flush(self) -> None:
        """Send what is kept back."""
        ...

    def readline(self, limit: int = -1, /) -> bytes:
        """Receive up to and with the next newline."""
        ...


def exchange(stream: Stream, verb: str, **arguments: Any) -> bytes:
    """Send one request, return the line that answers it.

    A request is one JSON line `{"verb": …, arguments}`, an answer one JSON line; then the agent closes the stream.

    Raises:
        ConnectionError: the agent hung up before it had answered whole.
    """
    stream.write(json.dumps({"verb": verb, **arguments}, separators=(",", ":")).encode() + b"\n")
    stream.flush()
    line = stream.readline(LONGEST_LINE)
    if not line.endswith(b"\n"):
        raise ConnectionError(f"the agent hung up without an answer to {verb}")
    return line


def task_folder(claimant: str) -> str:
    """Name of the folder a task instance has under `tasks/` on its node: readable, safe and distinct."""
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "_", claimant).strip("._")[:80]
    return f"{readable}-{hashlib.sha256(claimant.encode()).hexdigest()[:12]}"
