"""Submissions: a job, all elements of an array, all components of a heterogeneous job; from queue and accounting alike.

A submission is what somebody typed once. Its tasks are what Slurm starts one by one; they keep their names from the
time they wait until they are history, whatever job numbers Slurm gives them on the way.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from preprov.contracts import Reject
from preprov.model.waits import Cause, limit_key
from preprov.slurm.accounting import AccountedJob, Used
from preprov.slurm.arrays import elements
from preprov.slurm.errors import SlurmError
from preprov.slurm.hostlist import expand
from preprov.slurm.naming import dag_of
from preprov.slurm.records import SlurmJob, gib

_NOTHING_KNOWN: Final = Used()
_NO_LIMIT_S: Final = 30 * 86_400.0
_NEVER: Final = frozenset(
    {
        *("JobHeldUser", "JobHeldAdmin", "DependencyNeverSatisfied", "BadConstraints"),
        *("PartitionDown", "PartitionInactive", "PartitionTimeLimit"),
    }
)
_DOWN: Final = "PartitionDown"
_LIMITED: Final = (
    "QOS",
    "Assoc",
    "MaxJobs",
    "MaxCpu",
    "MaxNode",
    "MaxMem",
    "MaxGRES",
    "Licenses",
    "PartitionNodeLimit",
)


@dataclass(frozen=True, slots=True)
class UnitTask:
    """One thing Slurm starts.

    Attributes:
        index: of the array element or het component, -1 for a plain job. job_id: what Slurm calls it now.
        ready_at, started_at, ended_at: epoch seconds, wall; None = has not come. runtime_s: without suspensions.
        cpu, memory_gib, gpu: of ONE of its `nodes` nodes; 0 of what runs in a reservation of Slurm's own: its nodes are
            kept for it, and are no room of a pool.
        slot_at: when nodes were given to it, which may have had to boot first; None = not told apart from its start.
        reason: why it last waited, as Slurm says. host: its first node. attempt: which one, requeues counted.
        used: of all its nodes together, once it has ended and the accounting tells.
        asked: what was requested, as one text. partition, features: of the nodes it may run on.
    """

    index: int
    job_id: int
    ready_at: float | None
    started_at: float | None
    ended_at: float | None
    runtime_s: float | None
    cpu: float
    memory_gib: float
    gpu: float
    nodes: int = 1
    hint_s: float | None = None
    over: bool = False
    slot_at: float | None = None
    reason: str = ""
    host: str = ""
    attempt: int = 1
    used: Used = _NOTHING_KNOWN
    asked: str = ""
    partition: str = ""
    features: str = ""


@dataclass(frozen=True, slots=True)
class Unit:
    """One submission; a heterogeneous one is called what its first component is.

    Attributes:
        unit_id: its first job number. kind: "job", "array", "het".
        at_once: elements of an array that may run at once; 0 = all.
        due: not before this, where it waits for a time; None = at once. waits: "" or why no node would help it.
        tasks: by index. line: by which it was submitted, container: what it runs
            in; "" = not told.
    """

    unit_id: int
    kind: str
    name: str
    user: str
    account: str
    priority: int
    submit: float
    due: float | None = None
    waits: str = ""
    at_once: int = 0
    cron: bool = False
    tasks: dict[int, UnitTask] = field(default_factory=dict)
    line: str = ""
    container: str = ""

    @property
    def over(self) -> bool:
        """True if all of it has ended."""
        return all(t.over for t in self.tasks.values())

    @property
    def dag(self) -> str:
        """As `naming.dag_of` has it."""
        return dag_of(self.user, self.name)


def of_queue(jobs: Iterable[SlurmJob], stopped: Collection[str] = ()) -> tuple[dict[int, Unit], list[Reject]]:
    """Units of what the controller knows; a job it tells too little of is rejected.

    Args:
        stopped: partitions where nothing starts, whatever reason jobs there still show.
    """
    out: dict[int, Unit] = {}
    rejects: list[Reject] = []
    for job in jobs:
        if not job.job_id or job.submitted_at is None:
            rejects.append(Reject(job.job_id, "no number or no time of submission", job.name[:200]))
            continue
        unit = _with(out, job, job.submitted_at, stopped)
        for task in _queued(job):
            unit.tasks[task.index] = task
        if job.state == "PENDING" and job.array_tasks:
            out[unit.unit_id] = _with_limit(unit, job)
    return out, rejects


def of_accounting(jobs: Iterable[AccountedJob]) -> tuple[dict[int, Unit], list[Reject]]:
    """Units of what the accounting remembers; array elements that have not been split off yet are the queue's to tell.

    Of a job that was requeued the last attempt counts.
    """
    out: dict[int, Unit] = {}
    rejects: list[Reject] = []
    for job in jobs:
        if not job.job_id or job.submitted_at is None:
            rejects.append(Reject(job.job_id, "no number or no time of submission", job.name[:200]))
            continue
        if job.array_job_id and job.array_task is None:
            continue
        unit = _with(out, job, job.submitted_at)
        task = _accounted(job)
        earlier = unit.tasks.get(task.index)
        if earlier is None or (task.started_at or 0.0, task.over) >= (earlier.started_at or 0.0, earlier.over):
            unit.tasks[task.index] = task
    return out, rejects


def merged(accounted: Unit | None, queued: Unit | None) -> Unit:
    """The two accounts of one submission: the queue is newer, the accounting remembers what the queue forgot.

    Raises:
        ValueError: there is neither.
    """
    if queued is None or accounted is None:
        found = queued or accounted
        if found is None:
            raise ValueError("a submission that nothing tells of")
        return found
    ended = {i: t for i, t in accounted.tasks.items() if t.over}
    newer = {i: t for i, t in queued.tasks.items() if not (t.over and i in ended)}
    line = accounted.line or queued.line
    return replace(queued, tasks={**accounted.tasks, **newer}, line=line)


def _unit_id(job: SlurmJob | AccountedJob) -> int:
    return job.array_job_id or job.het_job_id or job.job_id


def _with(units: dict[int, Unit], job: SlurmJob | AccountedJob, submit: float, stopped: Collection[str] = ()) -> Unit:
    """The submission a job is of, among these, put there if it is the first; of components one that waits holds all."""
    unit_id = _unit_id(job)
    unit = units.get(unit_id)
    if unit is None:
        units[unit_id] = unit = _unit_of(job, submit, stopped)
    elif unit.kind == "het":
        made = _unit_of(job, submit, stopped)
        head = made if job.het_offset == 0 else unit
        units[unit_id] = unit = replace(head, tasks=unit.tasks, waits=unit.waits or made.waits)
    return unit


def _unit_of(job: SlurmJob | AccountedJob, submit: float, stopped: Collection[str]) -> Unit:
    kind = "array" if job.array_job_id else "het" if job.het_job_id else "job"
    waits, due, cron, priority = "", None, False, 0
    if isinstance(job, SlurmJob):
        cron, priority = job.cron, _priority(job.priority)
        if job.state == "PENDING":
            waits = _waits(job.reason) or (_DOWN if set(job.partition.split(",")) <= {*stopped} else "")
            due = job.eligible_at if job.reason == "BeginTime" else None
    return Unit(
        _unit_id(job), kind, job.name, job.user, job.account, priority, submit, due, waits, 0, cron,
        line=job.submit_line,
        container=job.container,
    )  # fmt: skip


def _priority(value: float | None) -> int:
    """Slurm's own, which without its multifactor plugin only counts submissions down: that says nothing."""
    return int(value) if value is not None and value < 2**31 else 0


def _waits(reason: str) -> str:
    """Why no node would help a pending job; "" if one would, or if it waits for a time or for another job."""
    return reason if reason.startswith((*_NEVER, *_LIMITED)) else ""


def _with_limit(unit: Unit, job: SlurmJob) -> Unit:
    _, percent, limit = job.array_tasks.partition("%")
    return replace(unit, at_once=int(limit)) if percent and limit.isdigit() else unit


def _queued(job: SlurmJob) -> Iterator[UnitTask]:
    pending = job.state == "PENDING"
    over = job.is_over
    started = job.started_at if job.runs or over else None
    ready = None if pending and job.reason == "Dependency" else job.eligible_at
    ended = job.ended_at if over else None
    if ended is not None:
        started = min(started, ended) if started else ended  # one that was cancelled before it began took nothing
    task = UnitTask(
        index=_index(job),
        job_id=job.job_id,
        ready_at=min(ready, started) if ready is not None and started is not None else ready,
        started_at=started,
        ended_at=ended,
        runtime_s=ended - started if ended is not None and started is not None else None,
        cpu=job.cpus * _share(job),
        memory_gib=gib(job.memory_mib) * _share(job),
        gpu=job.gpus * _share(job),
        nodes=job.node_count,
        hint_s=_hint(job.time_limit_s),
        over=over,
        slot_at=job.started_at if "CONFIGURING" in job.flags else None,
        reason=job.reason,
        host=_host(job.nodes),
        attempt=job.restarts + 1,
        asked=job.asked,
        partition=_first(job.partition),
        features=job.features,
    )
    if pending and job.array_job_id and job.array_task is None:
        for index in elements(job.array_tasks):
            yield replace(task, index=index)
        return
    yield task


def _share(job: SlurmJob | AccountedJob) -> float:
    """How much of what it asks for one of its nodes has to have that are not kept for it anyway."""
    return 0.0 if job.reservation else 1.0 / job.node_count


def _accounted(job: AccountedJob) -> UnitTask:
    ended = job.ended_at if job.is_over else None
    started = job.started_at
    if ended is not None:
        started = min(started, ended) if started else ended
    ready = job.eligible_at
    if ready is not None and started is not None:
        ready = min(ready, started)
    runtime = max(ended - started - job.suspended_s, 0.0) if ended is not None and started is not None else None
    return UnitTask(
        index=_index(job),
        job_id=job.job_id,
        ready_at=ready,
        started_at=started,
        ended_at=ended,
        runtime_s=runtime,
        cpu=job.cpus * _share(job),
        memory_gib=gib(job.memory_mib) * _share(job),
        gpu=job.gpus * _share(job),
        nodes=job.node_count,
        hint_s=_hint(job.time_limit_s),
        over=job.is_over,
        reason=job.reason,
        host=_host(job.nodes),
        attempt=job.restarts + 1,
        used=job.used,
        asked=job.asked,
        partition=_first(job.partition),
        features=job.constraints,
    )


def _first(partitions: str) -> str:
    """Of those it may run in."""
    return partitions.partition(",")[0]


def _index(job: SlurmJob | AccountedJob) -> int:
    if job.array_job_id:
        return job.array_task if job.array_task is not None else -1
    return job.het_offset if job.het_job_id else -1


def _host(nodes: str) -> str:
    """The first of a host list; "" of what is none, such as "None assigned"."""
    if "[" not in nodes:
        first = nodes.partition(",")[0].strip()
        return "" if " " in first or first == "None" else first
    try:
        return next(iter(expand(nodes)), "")
    except SlurmError:
        return ""


def waits_for(reason: str, source: str, partition: str) -> str:
    """`waits.limit_key` of a reason that Slurm gives for a job that waits; of its partition if it names no limit."""
    if reason.startswith(_LIMITED):
        return limit_key(Cause.SLURM_LIMIT, source, reason)
    cause = {"Priority": Cause.SLURM_PRIORITY, "Resources": Cause.ROOM}.get(reason)
    if cause is None and not partition:
        return ""
    return limit_key(cause or Cause.SLURM_PARTITION, source, partition)


def _hint(limit_s: float | None) -> float | None:
    """A time limit that somebody chose says something of the runtime; a partition's own does not."""
    return limit_s if limit_s is not None and 0 < limit_s < _NO_LIMIT_S else None
