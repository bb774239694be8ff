"""Nodes, jobs, partitions and reservations as Slurm reports them now."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from preprov.slurm.shapes import (
    BASE_STATES,
    Json,
    asked,
    exit_code,
    gpus,
    instant,
    names,
    number,
    text,
    tres,
    whole,
    words,
)

OUT_OF_MEMORY: Final = "OUT_OF_MEMORY"
ENDED: Final = (
    *("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"),
    *("PREEMPTED", "BOOT_FAIL", "DEADLINE", OUT_OF_MEMORY),
)
"""States in which a job has ended."""
_SIGTERM: Final = 15
_KILLED: Final = {"CANCELLED": -_SIGTERM, "PREEMPTED": -_SIGTERM, OUT_OF_MEMORY: -9}
_MIB_PER_GIB: Final = 1024.0


@dataclass(frozen=True, slots=True)
class SlurmNode:
    """One node of a cluster.

    Attributes:
        state: one of `BASE_STATES`. flags: CLOUD, POWERED_DOWN, POWERING_UP, DRAIN… without it.
        memory_mib, alloc_memory_mib: MiB. last_busy, started_at: epoch seconds; started_at = when its slurmd began.
        extra: text that anybody may put there. threads: of each core; `cpus` counts them.
    """

    name: str
    state: str
    flags: frozenset[str]
    cpus: int
    memory_mib: float
    alloc_cpus: int
    alloc_memory_mib: float
    partitions: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    gpus: float = 0.0
    reason: str = ""
    reason_at: float | None = None
    started_at: float | None = None
    last_busy: float | None = None
    extra: str = ""
    weight: int = 1
    threads: int = 1

    @property
    def is_gone(self) -> bool:
        """True if there is no machine: powered down."""
        return "POWERED_DOWN" in self.flags

    @property
    def is_going(self) -> bool:
        """True if it is about to power down, or does."""
        return bool(self.flags & {"POWERING_DOWN", "POWER_DOWN", "POWER_DRAIN"})

    @property
    def is_coming(self) -> bool:
        """True if it powers up, or is about to."""
        return bool(self.flags & {"POWERING_UP", "POWER_UP"})

    @property
    def is_drained(self) -> bool:
        """True if it takes no new job."""
        return "DRAIN" in self.flags

    @property
    def is_down(self) -> bool:
        """True if Slurm has given it up."""
        return self.state in ("DOWN", "ERROR")

    @property
    def is_used(self) -> bool:
        """True if a job holds some of it, or is just ending there."""
        return self.state in ("ALLOCATED", "MIXED") or "COMPLETING" in self.flags or self.alloc_cpus > 0

    @classmethod
    def of(cls, raw: Json) -> "SlurmNode":
        """Of one element of `nodes`."""
        said = (*words(raw.get("state")), *words(raw.get("state_flags")))
        state = next((s for s in BASE_STATES if s in said), "UNKNOWN")
        return cls(
            name=str(raw.get("name", "")),
            state=state,
            flags=frozenset(said) - {state},
            cpus=whole(raw.get("cpus")),
            memory_mib=number(raw.get("real_memory")) or 0.0,
            alloc_cpus=whole(raw.get("alloc_cpus")),
            alloc_memory_mib=number(raw.get("alloc_memory")) or 0.0,
            partitions=names(raw.get("partitions")),
            features=names(raw.get("active_features") or raw.get("features")),
            gpus=gpus(tres(text(raw.get("tres")))),
            reason=text(raw.get("reason")),
            reason_at=instant(raw.get("reason_changed_at")),
            started_at=instant(raw.get("slurmd_start_time")),
            last_busy=instant(raw.get("last_busy")),
            extra=text(raw.get("extra")),
            weight=whole(raw.get("weight"), 1),
            threads=max(whole(raw.get("threads"), 1), 1),
        )


@dataclass(frozen=True, slots=True)
class SlurmJob:
    """One job, array element or het component as the controller knows it.

    Attributes:
        state: PENDING, RUNNING, COMPLETED… flags: CONFIGURING, COMPLETING… reason: why it is pending.
        submitted_at… ended_at: epoch seconds; None = has not come. eligible_at: when it may start, dependencies aside.
        time_limit_s: None = none. nodes: host list; cpus, memory_mib, gpus: of all its nodes together, as requested.
        wanted_nodes: host list it insists on.
        array_job_id: 0 = no array; array_task: None of those not split off yet; array_tasks: they, as `0-9%2`.
        het_job_id: 0 = not heterogeneous. dependency: as `afterok:5(unfulfilled)`.
        exit_code: None until it ended; negative = ended by that signal.
        tasks: that it starts on its nodes; 0 = not told.
        asked: `shapes.asked` of what was requested. submit_line, container: "" where Slurm does not tell.
    """

    job_id: int
    name: str
    user: str
    account: str
    partition: str
    qos: str
    state: str
    flags: frozenset[str]
    reason: str
    submitted_at: float | None
    eligible_at: float | None
    started_at: float | None
    ended_at: float | None
    time_limit_s: float | None
    nodes: str
    node_count: int
    cpus: float
    memory_mib: float
    gpus: float
    array_job_id: int = 0
    array_task: int | None = None
    array_tasks: str = ""
    het_job_id: int = 0
    het_offset: int = 0
    dependency: str = ""
    comment: str = ""
    priority: float | None = None
    reservation: str = ""
    features: str = ""
    cron: bool = False
    restarts: int = 0
    wanted_nodes: str = ""
    exit_code: int | None = None
    asked: str = ""
    submit_line: str = ""
    container: str = ""
    tasks: int = 0

    @property
    def is_over(self) -> bool:
        """True if it has ended for good."""
        return self.state in ENDED and not self.flags & {"REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT"}

    @property
    def runs(self) -> bool:
        """True if its script runs: a job whose nodes still boot does not."""
        return self.state in ("RUNNING", "SUSPENDED") and "CONFIGURING" not in self.flags

    @property
    def holds_nodes(self) -> bool:
        """True if nodes are given to it."""
        return bool(self.nodes) and (self.state in ("RUNNING", "SUSPENDED") or "COMPLETING" in self.flags)

    @classmethod
    def of(cls, raw: Json) -> "SlurmJob":
        """Of one element of `jobs` of the controller."""
        said = words(raw.get("job_state"))
        state = said[0] if said else ""
        flags = frozenset((*said[1:], *words(raw.get("job_state_flags")), *words(raw.get("flags"))))
        if state in ("CONFIGURING", "COMPLETING"):  # the word that is printed hides the one below it
            flags, state = flags | {state}, "RUNNING" if state == "CONFIGURING" else (said[1:] or ("COMPLETED",))[0]
        started = instant(raw.get("start_time"))
        wanted = tres(text(raw.get("tres_alloc_str")) or text(raw.get("tres_req_str")))
        nodes = max(whole(wanted.get("node")), whole(raw.get("node_count")), 1)
        limit = number(raw.get("time_limit"))
        return cls(
            job_id=whole(raw.get("job_id")),
            name=text(raw.get("name")),
            user=text(raw.get("user_name")),
            account=text(raw.get("account")),
            partition=text(raw.get("partition")),
            qos=text(raw.get("qos")),
            state=state,
            flags=flags,
            reason=text(raw.get("state_reason")),
            submitted_at=instant(raw.get("submit_time")),
            eligible_at=instant(raw.get("eligible_time")),
            started_at=None if state == "PENDING" else started,
            ended_at=instant(raw.get("end_time")) if state in ENDED else None,
            time_limit_s=None if limit is None else limit * 60.0,
            nodes=_node_text(raw),
            node_count=nodes,
            cpus=wanted.get("cpu") or float(whole(raw.get("cpus"), 1)),
            memory_mib=wanted.get("mem") or 0.0,
            gpus=gpus(wanted),
            array_job_id=whole(raw.get("array_job_id")),
            array_task=_task(raw.get("array_task_id")),
            array_tasks=text(raw.get("array_task_string")),
            het_job_id=whole(raw.get("het_job_id")),
            het_offset=whole(raw.get("het_job_offset")),
            dependency=text(raw.get("dependency")),
            comment=text(raw.get("comment")),
            priority=number(raw.get("priority")),
            reservation=text(raw.get("resv_name")),
            features=text(raw.get("features")),
            cron=bool(text(raw.get("cron"))) or "CRON_JOB" in flags,
            restarts=whole(raw.get("restart_cnt")),
            wanted_nodes=text(raw.get("required_nodes")),
            exit_code=ended_with(state, raw.get("exit_code")) if state in ENDED else None,
            asked=asked(tres(text(raw.get("tres_req_str")))),
            submit_line=text(raw.get("submit_line")),
            container=text(raw.get("container")),
            tasks=whole(raw.get("tasks")),
        )


def ended_with(state: str, code: object) -> int:
    """Exit code of a job that ended in that state: never 0 unless it completed."""
    found = exit_code(code) or 0
    return found if found or state == "COMPLETED" else _KILLED.get(state, 1)


def is_over(state: str) -> bool:
    """True for the states in which a job has ended."""
    return state in ENDED


def _task(value: object) -> int | None:
    found = number(value)
    return None if found is None else int(found)


def _node_text(raw: Json) -> str:
    nodes: Any = raw.get("nodes")
    return text(nodes.get("list")) if isinstance(nodes, Mapping) else text(nodes)


@dataclass(frozen=True, slots=True)
class Reservation:
    """A reservation of Slurm's own: nobody else's job starts there while it holds.

    Attributes:
        start, end: epoch seconds. nodes: host list. cores, node_count: how much; cpus: the same in threads, as
            partitions count, 0 = not told. flags: such as MAINT, DAILY.
    """

    name: str
    start: float
    end: float
    nodes: str
    node_count: int
    cores: int
    partition: str = ""
    users: str = ""
    flags: frozenset[str] = frozenset()
    cpus: float = 0.0

    @classmethod
    def of(cls, raw: Json) -> "Reservation":
        """Of one element of `reservations`."""
        return cls(
            name=text(raw.get("name")),
            start=instant(raw.get("start_time")) or 0.0,
            end=instant(raw.get("end_time")) or 0.0,
            nodes=text(raw.get("node_list")),
            node_count=whole(raw.get("node_count")),
            cores=whole(raw.get("core_count")),
            partition=text(raw.get("partition")),
            users=text(raw.get("users")),
            flags=frozenset(words(raw.get("flags"))),
            cpus=tres(text(raw.get("tres"))).get("cpu", 0.0),
        )


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition.

    Attributes:
        state: UP, DOWN, DRAIN (no new jobs, but those it has may start) or INACTIVE.
        total_nodes, total_cpus: of all its nodes, those that are powered down counted. nodes: their host list.
    """

    name: str
    state: str
    total_nodes: int
    total_cpus: int
    nodes: str = ""

    @property
    def starts_jobs(self) -> bool:
        """False if no job may start there."""
        return not {"DOWN", "INACTIVE"} & {*self.state.split("+")}

    @classmethod
    def of(cls, raw: Json) -> "Partition":
        """Of one element of `partitions`."""
        state = raw.get("state") or _part(raw, "partition").get("state")
        nodes = _part(raw, "nodes").get("total", raw.get("total_nodes"))
        cpus = _part(raw, "cpus").get("total", raw.get("total_cpus"))
        listed = _part(raw, "nodes").get("configured", raw.get("nodes"))
        return cls(text(raw.get("name")), "+".join(words(state)), whole(nodes), whole(cpus), text(listed))


def _part(raw: Json, key: str) -> Json:
    found: Any = raw.get(key)
    return found if isinstance(found, Mapping) else {}


def gib(mib: float) -> float:
    """MiB in GiB."""
    return mib / _MIB_PER_GIB
