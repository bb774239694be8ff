"""What Prefect says of flow runs, task runs and deployments, in the few words that are needed here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

from preprov.model.work import Schedule
from preprov.sources.instants import NAN, seconds
from preprov.sources.quantities import cores, gib
from preprov.sources.text import clean

Json: TypeAlias = Mapping[str, Any]
OVER: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED", "CRASHED"})
_SUSPENDED: Final = "Suspended"
"""What a state of type PAUSED is called whose process ends until it is resumed; a pause keeps it."""
_TOLD: Final = ("parameters", "tags", "deployment_version", "flow_version")
_CPU: Final = ("cpu", "cpu_request", "cpu_requests", "request_cpu", "cpus")
_MEMORY: Final = ("memory", "memory_request", "memory_requests", "request_memory", "mem_limit", "memory_limit")
_GPU: Final = ("gpu", "gpus", "gpu_count", "accelerator_count")


@dataclass(frozen=True, slots=True)
class FlowRun:
    """A flow run; times in epoch seconds of our clock, NaN = not yet.

    Attributes:
        expected: when it was meant to start. auto: a schedule made it. nested: it runs within the process of another.
        suspended: it will go on in a process to come, and has none now.
        host: where its process was started, if its worker says. variables: its own job variables.
        told: what else of it decides how it behaves: parameters, tags, versions.
    """

    run_id: str
    flow_id: str
    deployment_id: str
    state: str
    created: float
    expected: float
    started: float
    ended: float
    auto: bool
    nested: bool
    suspended: bool
    pool: str
    queue: str
    host: str
    runs: int
    variables: Mapping[str, Any] = field(default_factory=dict, hash=False)
    told: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state in OVER

    @classmethod
    def of(cls, j: Json, shift_s: float = 0.0) -> "FlowRun":
        """From JSON, its times shifted by so much into ours.

        Raises:
            ValueError: it has no id, or no time at which it was made.
        """
        created = seconds(j.get("created"), shift_s)
        if not j.get("id") or created != created:
            raise ValueError("a flow run without an id, or of no time")
        # `run_deployment` links what it starts to a task of the caller, but that has a process of its own.
        placed = any(j.get(k) for k in ("deployment_id", "work_pool_name", "infrastructure_pid"))
        return cls(
            run_id=str(j["id"]),
            flow_id=str(j.get("flow_id") or ""),
            deployment_id=str(j.get("deployment_id") or ""),
            state=str(j.get("state_type") or "PENDING"),
            created=created,
            expected=seconds(j.get("expected_start_time"), shift_s),
            started=seconds(j.get("start_time"), shift_s),
            ended=seconds(j.get("end_time"), shift_s),
            auto=bool(j.get("auto_scheduled")),
            nested=bool(j.get("parent_task_run_id")) and not placed,
            suspended=j.get("state_name") == _SUSPENDED,
            pool=clean(j.get("work_pool_name")),
            queue=clean(j.get("work_queue_name")),
            host=clean(str(j.get("infrastructure_pid") or "").rpartition(":")[0]),
            runs=int(j.get("run_count") or 0),
            variables=j.get("job_variables") or {},
            told={k: j[k] for k in _TOLD if j.get(k)},
        )


@dataclass(frozen=True, slots=True)
class TaskRun:
    """A task run; `parents`: ids of the task runs whose results it took or waited for."""

    task_run_id: str
    flow_run_id: str
    base: str
    state: str
    created: float
    started: float
    ended: float
    parents: tuple[str, ...]
    runs: int

    @classmethod
    def of(cls, j: Json, shift_s: float = 0.0) -> "TaskRun":
        """From JSON, its times shifted by so much into ours.

        Raises:
            ValueError: it has no id.
        """
        if not j.get("id"):
            raise ValueError("a task run without an id")
        inputs = j.get("task_inputs") or {}
        given = (i for values in inputs.values() if isinstance(values, Sequence) for i in values)
        parents = (str(i["id"]) for i in given if isinstance(i, Mapping) and i.get("input_type") == "task_run")
        return cls(
            task_run_id=str(j["id"]),
            flow_run_id=str(j.get("flow_run_id") or ""),
            base=_base(j),
            state=str(j.get("state_type") or "PENDING"),
            created=seconds(j.get("created"), shift_s),
            started=seconds(j.get("start_time"), shift_s),
            ended=seconds(j.get("end_time"), shift_s),
            parents=tuple(dict.fromkeys(parents)),
            runs=int(j.get("run_count") or 0),
        )


def _base(j: Json) -> str:
    """Name of the task, without what tells its runs apart: `extract` of `extract-3f1`, of key `extract-8c1f0d2a`."""
    key, name = clean(j.get("task_key")), clean(j.get("name"))
    stem, dash, tail = key.rpartition("-")
    if dash and len(tail) >= 6 and all(c in "0123456789abcdef" for c in tail):
        return stem.rpartition(".")[2] or stem
    return name.rpartition("-")[0] or name or key or "task"


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployment: its schedules, and how its runs are started."""

    deployment_id: str
    name: str
    flow_id: str
    paused: bool
    pool: str
    queue: str
    limit: int | None
    schedules: tuple[Json, ...] = field(hash=False, default=())
    variables: Mapping[str, Any] = field(hash=False, default_factory=dict)
    told: Mapping[str, Any] = field(hash=False, default_factory=dict)

    @classmethod
    def of(cls, j: Json) -> "Deployment":
        """From JSON.

        Raises:
            ValueError: it has no id.
        """
        if not j.get("id"):
            raise ValueError("a deployment without an id")
        limit = j.get("concurrency_limit") or (j.get("global_concurrency_limit") or {}).get("limit")
        active = tuple(s for s in j.get("schedules") or () if s.get("active", True))
        return cls(
            deployment_id=str(j["id"]),
            name=clean(j.get("name")),
            flow_id=str(j.get("flow_id") or ""),
            paused=bool(j.get("paused")) or not active,
            pool=clean(j.get("work_pool_name")),
            queue=clean(j.get("work_queue_name")),
            limit=int(limit) if limit else None,
            schedules=active,
            variables=j.get("job_variables") or {},
            told={"deployment_version": j.get("version"), **{k: j[k] for k in _TOLD if j.get(k)}},
        )


def schedule_of(
    dag_id: str,
    deployment: Deployment,
    turns: Sequence[datetime],
    tenant: str,
    zone: str,
    since: datetime | None,
    shift_s: float = 0.0,
) -> Schedule:
    """What is declared of a deployment: one cron or interval as such, anything else by its scheduled runs one by one.

    Args:
        dag_id: what its runs are called. turns: of its scheduled runs. zone: where no one schedule has one.
        since: from when on; None = always. shift_s: from Prefect's time to ours; a cron, which is wall time, stays.
    """
    cron, every, anchor, named = "", None, None, zone
    if len(deployment.schedules) == 1:
        told: Json = deployment.schedules[0].get("schedule") or {}
        named = str(told.get("timezone") or "UTC")  # as Prefect takes it
        if told.get("cron"):
            cron = str(told["cron"])
        elif told.get("interval"):
            every, anchor = float(told["interval"]), told.get("anchor_date")
    at = seconds(anchor, shift_s)
    return Schedule(
        dag_id=dag_id,
        pool="",
        cron=cron,
        zone=named,
        tenant=tenant,
        since=since,
        paused=deployment.paused,
        max_active_runs=deployment.limit,
        every_s=every if at == at else None,
        anchor=datetime.fromtimestamp(at, UTC) if at == at else None,
        turns=() if cron or (every and at == at) or deployment.paused else tuple(turns),
    )


def requests(kind: str, *variables: Mapping[str, Any]) -> tuple[float, float, float]:
    """(cores, GiB, GPUs) that job variables ask for, NaN each where they do not say; a later mapping wins.

    Args:
        kind: of the work pool: Amazon ECS counts 1024 to a core, and MiB.
    """
    known: dict[str, Any] = {}
    for part in variables:
        known.update({k: v for k, v in part.items() if v is not None})
    cpu = _first(cores, known, _CPU)
    memory = _first(gib, known, _MEMORY)
    if kind.startswith("ecs"):
        cpu, memory = _first(_of_1024, known, _CPU), _first(_of_1024, known, _MEMORY)
    return cpu, memory, _first(float, known, _GPU)


def _first(read: Any, known: Mapping[str, Any], names: Sequence[str]) -> float:
    for name in names:
        if name in known:
            try:
                return float(read(known[name]))
            except (ValueError, TypeError):
                return NAN
    return NAN


def _of_1024(value: Any) -> float:
    return float(value) / 1024.0


def iso(at: float) -> str:
    """As the API takes it."""
    return (datetime.fromtimestamp(0, UTC) + timedelta(seconds=at)).isoformat()
