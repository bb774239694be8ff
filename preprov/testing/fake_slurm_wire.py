"""How `FakeSlurm` writes what it knows: JSON as Slurm 22.05 does, or as 24.05."""

import json
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from preprov.testing.fake_slurm import FakeJob, FakePartition, FakeReservation, FakeSlurm


def document(key: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """An answer."""
    return json.dumps({"meta": {}, "errors": [], key: list(rows)})


def number(value: float | None, newer: bool) -> Any:
    """A number that may not be set."""
    return {"set": value is not None, "infinite": False, "number": value or 0} if newer else value


def nodes(fake: "FakeSlurm") -> list[dict[str, Any]]:
    """All nodes, as `sinfo` of 22.05 and `scontrol show nodes` of newer ones write them."""
    out = []
    for n in fake.nodes.values():
        used = sum(j.cpus for j in fake.held(n))
        state = n.state if not used else "MIXED" if used < fake.cpus else "ALLOCATED"
        flags = sorted(f for f in n.flags if not f.startswith("_"))
        states = {"state": [state, *flags]} if fake.newer else {"state": state.lower(), "state_flags": flags}
        times = {"last_busy": n.last_busy, "slurmd_start_time": n.started_at, "reason_changed_at": n.reason_at}
        out.append(
            {
                "name": n.name,
                **states,
                **{k: number(v, fake.newer) for k, v in times.items()},
                "cpus": fake.cpus,
                "real_memory": fake.memory,
                "alloc_cpus": used,
                "alloc_memory": 0,
                "partitions": ["batch"],
                "features": [] if fake.newer else "",
                "reason": n.reason,
                "extra": n.extra,
                "weight": n.weight,
                "tres": f"cpu={fake.cpus},mem={fake.memory}M,billing={fake.cpus}",
            }
        )
    return out


def reservation(r: "FakeReservation") -> dict[str, Any]:
    """As `scontrol` of 23.02 and newer writes it."""
    return {
        "name": r.name,
        "start_time": number(r.start, True),
        "end_time": number(r.end, True),
        "node_list": r.nodes,
        "core_count": r.cores,
        "tres": f"cpu={r.cores}",
        "flags": r.flags.split(","),
    }


def reservation_line(r: "FakeReservation") -> str:
    """As an older `scontrol -o` prints it."""
    start, end = (datetime.fromtimestamp(t).strftime("%Y-%m-%dT%H:%M:%S") for t in (r.start, r.end))  # noqa: DTZ006
    what = f"Nodes={r.nodes} CoreCnt={r.cores} Features=(null) PartitionName=(null) Flags={r.flags} TRES=cpu={r.cores}"
    return f"ReservationName={r.name} StartTime={start} EndTime={end} Duration=01:00:00 {what} State=ACTIVE"


def partition(p: "FakePartition", cpus: int, *, newer: bool = True) -> dict[str, Any]:
    """As `scontrol` of 23.02 and newer writes it, and slurmrestd of all."""
    if not newer:
        size = {"nodes": f"cn[1-{p.nodes}]", "total_nodes": p.nodes, "total_cpus": p.nodes * cpus}
        return {"name": p.name, "state": p.state, **size}
    return {
        "name": p.name,
        "nodes": {"configured": f"cn[1-{p.nodes}]", "total": p.nodes},
        "cpus": {"total": p.nodes * cpus, "task_binding": 0},
        "partition": {"state": [p.state]},
    }


def partition_line(p: "FakePartition", cpus: int) -> str:
    """As an older `scontrol -o` prints it."""
    size = f"State={p.state} TotalCPUs={p.nodes * cpus} TotalNodes={p.nodes} SelectTypeParameters=NONE"
    return f"PartitionName={p.name} AllowGroups=ALL MaxTime=UNLIMITED Nodes=cn[1-{p.nodes}] {size}"


def job(j: "FakeJob", newer: bool) -> dict[str, Any]:
    """As `squeue` writes it."""
    ready = 0.0 if j.depends else j.submit
    times = {"submit_time": j.submit, "eligible_time": ready, "start_time": j.start, "end_time": j.end}
    code: Any = j.code << 8
    if newer:
        code = {"status": ["SUCCESS"], "return_code": number(j.code, newer), "signal": {"id": number(None, newer)}}
    tres = f"cpu={j.cpus},mem={j.memory}M,node={j.nodes},billing={j.cpus}"
    return {
        "job_id": j.job_id,
        "name": j.name,
        "user_name": j.user,
        "account": j.account,
        "partition": j.partition,
        "qos": "normal",
        "job_state": [j.state] if newer else j.state,
        "state_reason": "Dependency" if j.depends else j.reason,
        **{k: number(v, newer) for k, v in times.items()},
        "time_limit": number(j.limit_min, newer),
        "nodes": j.node,
        "required_nodes": j.wanted,
        "node_count": number(j.nodes, newer),
        "cpus": number(j.cpus, newer),
        "tasks": number(j.tasks, newer),
        "tres_req_str": tres,
        "tres_alloc_str": tres if j.node else "",
        "array_job_id": number(j.array_id, newer),
        "array_task_id": number(j.element, newer),
        "array_task_string": j.elements,
        "het_job_id": number(j.het_id, newer),
        "het_job_offset": number(j.het_offset, newer),
        "dependency": j.depends,
        "features": j.features,
        "resv_name": j.reservation,
        "comment": j.comment,
        "priority": number(4294901700, newer),
        "exit_code": code,
        "flags": [],
    }


def accounted(j: "FakeJob", newer: bool) -> dict[str, Any]:
    """As `sacct` writes it."""
    tres = [{"type": "cpu", "name": "", "count": j.cpus}, {"type": "mem", "name": "", "count": j.memory}]
    tres.append({"type": "node", "name": "", "count": j.nodes})
    code: dict[str, Any] = {"status": ["SUCCESS"], "return_code": number(j.code, newer)}
    return {
        "job_id": j.job_id,
        "name": j.name,
        "user": j.user,
        "account": j.account,
        "partition": j.partition,
        "qos": "normal",
        "state": {
            "current": [j.state] if newer else j.state,
            "reason": "Dependency" if "--dependency" in j.line else j.reason,
        },
        **({"submit_line": j.line} if newer else {}),
        "time": {
            "submission": j.submit,
            "eligible": j.submit,
            "start": j.start,
            "end": j.end,
            "suspended": 0,
            "limit": number(j.limit_min, newer),
        },
        "nodes": j.node or "None assigned",
        "allocation_nodes": j.nodes,
        "array": {"job_id": j.array_id, "task_id": number(j.element, newer), "task": j.elements},
        "het": {"job_id": j.het_id, "job_offset": number(j.het_offset, newer)},
        "comment": {"job": j.comment or None},
        "exit_code": code,
        "constraints": j.features,
        "reservation": {"id": 1 if j.reservation else 0, "name": j.reservation or 0},
        "required": {"CPUs": j.cpus},
        "tres": {"allocated": tres, "requested": tres},
        "steps": [_step(j)] if j.used else [],
    }


def stepped(j: "FakeJob") -> str:
    """As `sstat` writes it of a running job."""
    cpu = int(j.used.get("cpu_s", 1.0))
    clock = f"{cpu // 3600:02}:{cpu % 3600 // 60:02}:{cpu % 60:02}"
    memory, disk = (int(j.used.get(k, d) * 2**20) for k, d in (("peak_mib", 64.0), ("disk_mib", 0.002)))
    return f"{j.job_id}.batch|1|{clock}|{memory}|{disk // 2}|{disk // 2}"


def _step(j: "FakeJob") -> dict[str, Any]:
    return {
        "time": {"total": {"seconds": j.used.get("cpu_s", 0.0), "microseconds": 0}},
        "tres": {
            "requested": {
                "max": [{"type": "mem", "name": "", "count": j.used.get("peak_mib", 0.0) * 2**20}],
                "total": [{"type": "fs", "name": "disk", "count": j.used.get("disk_mib", 0.0) * 2**20}],
            }
        },
    }


def was(first: float, last: float, given: Mapping[str, str]) -> bool:
    """True if some of [first, last], to whole seconds, is in the window that was asked for."""
    begin, end = (
        time.mktime(time.strptime(given[k], "%Y-%m-%dT%H:%M:%S")) if k in given else None
        for k in ("starttime", "endtime")
    )
    return (begin is None or last >= begin) and (end is None or first < end + 1)
