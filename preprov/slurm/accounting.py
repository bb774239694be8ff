"""Jobs as the accounting database remembers them, with what they used."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from preprov.slurm.records import ended_with, is_over
from preprov.slurm.shapes import Json, asked, gpus, instant, number, text, tres_list, whole, words

_MIB: float = 1024.0**2


@dataclass(frozen=True, slots=True)
class Used:
    """What a job used over its life; None = nobody measured it.

    Attributes:
        cpu_s: core-seconds. peak_mib: largest resident memory over its nodes, of one task. disk_mib: read and written.
    """

    cpu_s: float | None = None
    peak_mib: float | None = None
    disk_mib: float | None = None


@dataclass(frozen=True, slots=True)
class AccountedJob:
    """One job, array element or het component; times are epoch seconds, None = has not come.

    Attributes:
        eligible_at: when it could have started. time_limit_s: None = none. restarts: times it was requeued.
        cpus, memory_mib, gpus: of all its nodes together. asked: `shapes.asked` of what was requested.
        submit_line: its command, container: its bundle, where Slurm tells.
    """

    job_id: int
    name: str
    user: str
    account: str
    partition: str
    qos: str
    state: str
    reason: str
    submitted_at: float | None
    eligible_at: float | None
    started_at: float | None
    ended_at: float | None
    suspended_s: float
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
    comment: str = ""
    exit_code: int | None = None
    constraints: str = ""
    reservation: str = ""
    restarts: int = 0
    asked: str = ""
    submit_line: str = ""
    container: str = ""
    used: Used = Used()

    @property
    def is_over(self) -> bool:
        """True if it has ended."""
        return is_over(self.state)

    @classmethod
    def of(cls, raw: Json) -> "AccountedJob":
        """Of one element of `jobs` of the accounting database."""
        time, array, het = _map(raw, "time"), _map(raw, "array"), _map(raw, "het")
        said = words(_map(raw, "state").get("current"))
        state = said[0] if said else ""
        tres = _map(raw, "tres")
        wanted = tres_list(tres.get("allocated")) or tres_list(tres.get("requested"))
        nodes = max(whole(wanted.get("node")), whole(raw.get("allocation_nodes")), 1)
        limit, over = number(time.get("limit")), is_over(state)
        started = None if state == "PENDING" else instant(time.get("start"))
        return cls(
            job_id=whole(raw.get("job_id")),
            name=text(raw.get("name")),
            user=text(raw.get("user")),
            account=text(raw.get("account")),
            partition=text(raw.get("partition")),
            qos=text(raw.get("qos")),
            state=state,
            reason=text(_map(raw, "state").get("reason")),
            submitted_at=instant(time.get("submission")),
            eligible_at=instant(time.get("eligible")),
            started_at=started,
            ended_at=instant(time.get("end")) if over else None,
            suspended_s=number(time.get("suspended")) or 0.0,
            time_limit_s=None if limit is None else limit * 60.0,
            nodes=text(raw.get("nodes")),
            node_count=nodes,
            cpus=wanted.get("cpu") or float(whole(_map(raw, "required").get("CPUs"), 1)),
            memory_mib=wanted.get("mem") or 0.0,
            gpus=gpus(wanted),
            array_job_id=whole(array.get("job_id")),
            array_task=_task(array.get("task_id")),
            array_tasks=text(array.get("task")),
            het_job_id=whole(het.get("job_id")),
            het_offset=whole(het.get("job_offset")),
            comment=text(_map(raw, "comment").get("job")),
            exit_code=ended_with(state, raw.get("exit_code")) if over else None,
            constraints=text(raw.get("constraints")),
            reservation=text(_map(raw, "reservation").get("name")),
            restarts=whole(raw.get("restart_cnt")),
            asked=asked(tres_list(tres.get("requested"))),
            submit_line=text(raw.get("submit_line")),
            container=text(raw.get("container")),
            used=_used(raw.get("steps")),
        )


def _map(raw: Json, key: str) -> Mapping[str, Any]:
    found = raw.get(key)
    return found if isinstance(found, Mapping) else {}


def _task(value: object) -> int | None:
    found = number(value)
    return None if found is None else int(found)


def _used(steps: object) -> Used:
    """Over all steps: CPU time and bytes add up, of memory the largest counts (steps may follow each other)."""
    if not isinstance(steps, list) or not steps:
        return Used()
    cpu, peak, disk, seen = 0.0, 0.0, 0.0, False
    for step in (s for s in steps if isinstance(s, Mapping)):
        total = _map(_map(step, "time"), "total")
        cpu += (number(total.get("seconds")) or 0.0) + (number(total.get("microseconds")) or 0.0) / 1e6
        tres = _map(step, "tres")
        read, written = _map(tres, "requested"), _map(tres, "consumed")
        peak = max(peak, tres_list(read.get("max")).get("mem", 0.0) / _MIB)
        disk += (
            tres_list(read.get("total")).get("fs/disk", 0.0) + tres_list(written.get("total")).get("fs/disk", 0.0)
        ) / _MIB
        seen = seen or "mem" in tres_list(read.get("max"))
    return Used(cpu if cpu or seen else None, peak if seen else None, disk if seen else None)
