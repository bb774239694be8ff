"""Work: DAGs, tasks and what is known of their runs.

Two shapes for two uses. `DagSpec` and `TaskSpec` are what a person submits: small, validated, one object a task.
`WorkTable` is what the system computes with: the same facts in columns, for a million tasks at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter
from types import MappingProxyType

from preprov.model.errors import WorkError
from preprov.model.resources import Resources
from preprov.model.time import aware


class Trigger(StrEnum):
    """Why a DAG run exists."""

    SCHEDULED = "scheduled"
    DATASET = "dataset"
    MANUAL = "manual"


class State(StrEnum):
    """State of a task run, and of a DAG run (which uses all but READY)."""

    PENDING = "pending"
    """Waits for its parents or its due time."""
    READY = "ready"
    """Could run now; waits for capacity or a limit."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """True if it never changes again."""
        return self in _FINAL


_FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.SKIPPED, State.CANCELLED})


@dataclass(frozen=True, slots=True)
class ImageRef:
    """A container image or tarball by digest, so that "present" can be checked.

    Attributes:
        uri: an OCI layout folder or tarball, through fsspec.
        digest: `sha256:…` of the manifest (layout) or of the file (tarball); "" = read on first use and pinned.
    """

    uri: str
    digest: str = ""

    @property
    def name(self) -> str:
        """What people call it."""
        return self.uri.rstrip("/").rsplit("/", 1)[-1]


@dataclass(frozen=True, slots=True)
class DatasetRef:
    """A dataset version that a task reads.

    Attributes:
        uri: file, s3, gs, abfs… through fsspec; a file or a folder.
        version: any label; part of its identity.
        sha256: checksum over its content (see `preprov.agent.preload`); "" means it is computed on staging.
        size_gib: for planning; None if not known.
    """

    uri: str
    version: str = ""
    sha256: str = ""
    size_gib: float | None = None

    @property
    def key(self) -> str:
        """Identity: uri and version."""
        return f"{self.uri}@{self.version}" if self.version else self.uri


@dataclass(frozen=True, slots=True)
class Probe:
    """A short, capped run of a task on a sample of its input, before it is given its room (a shadow execution).

    Attributes:
        command: argv, on the sample; () = the task's own, which is ended after so many seconds and must bear that.
        seconds: it is ended after that. cap: cores and GiB that it may take.
    """

    command: tuple[str, ...] = ()
    seconds: float = 60.0
    cap: Resources = field(default_factory=lambda: Resources(cpu=1.0, memory=1.0))

    def __post_init__(self) -> None:
        if not self.seconds > 0 or not (self.cap.cpu > 0 and self.cap.memory > 0):
            raise WorkError("a probe takes seconds, cores and memory > 0", hint="probe: seconds, cap")


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One task of a DAG as submitted.

    Attributes:
        task_id: unique within its DAG.
        command: argv, run without a shell.
        request: resources of ONE instance.
        instances: how many identical instances run.
        gang: all instances start together or none does.
        runtime_hint_s: what the submitter believes; used until history knows better.
        images, datasets: what must be on the node's disk.
        affinity: labels a node must have.
        under: id of the booking that it uses up; it waits until that is ready.
        probe: how it can be tried beforehand; None = it cannot.
    """

    task_id: str
    command: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    request: Resources = field(default_factory=lambda: Resources(cpu=1.0, memory=1.0))
    instances: int = 1
    gang: bool = False
    runtime_hint_s: float | None = None
    priority: int | None = None
    retries: int = 0
    operator: str = ""
    images: tuple[ImageRef, ...] = ()
    datasets: tuple[DatasetRef, ...] = ()
    env: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    affinity: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    under: str = ""
    probe: Probe | None = None

    def __post_init__(self) -> None:
        if not self.task_id:
            raise WorkError("a task has no id", hint="give each [[task]] an id")
        if self.instances < 1:
            raise WorkError(f"task {self.task_id}: instances must be >= 1, got {self.instances}", where=self.task_id)
        if self.runtime_hint_s is not None and not self.runtime_hint_s > 0:
            raise WorkError(f"task {self.task_id}: runtime must be > 0 s", where=self.task_id)


@dataclass(frozen=True, slots=True)
class DagSpec:
    """A DAG as submitted.

    Attributes:
        due: do not start before; None = at once.
        land_by: must have finished by.
        schedule: cron (five fields, L = last day of the month) in `zone`; the DAG then recurs.
        max_cost_usd: refuse to plan more than this for one run.

    Raises:
        WorkError: no tasks, a doubled id, an unknown parent, a cycle.
    """

    dag_id: str
    tasks: tuple[TaskSpec, ...]
    tenant: str = "default"
    pool: str | None = None
    queue: str = ""
    priority: int = 0
    due: datetime | None = None
    land_by: datetime | None = None
    schedule: str | None = None
    zone: str = "UTC"
    max_cost_usd: float | None = None

    def __post_init__(self) -> None:
        if not self.tasks:
            raise WorkError(f"DAG {self.dag_id} has no tasks", where=self.dag_id, hint="add at least one [[task]]")
        ids = [t.task_id for t in self.tasks]
        doubled = sorted({i for i in ids if ids.count(i) > 1}) if len(set(ids)) != len(ids) else []
        if doubled:
            raise WorkError(f"DAG {self.dag_id}: task id used twice: {', '.join(doubled)}", where=self.dag_id)
        known = set(ids)
        for t in self.tasks:
            missing = [p for p in t.parents if p not in known]
            if missing:
                raise WorkError(
                    f"DAG {self.dag_id}: task {t.task_id} names unknown parent {', '.join(missing)}",
                    where=f"{self.dag_id}/{t.task_id}",
                    hint=f"tasks here: {', '.join(ids[:10])}",
                )
        self.order()
        for name in ("due", "land_by"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, aware(value, name))

    def order(self) -> tuple[str, ...]:
        """Task ids, parents first.

        Raises:
            WorkError: the DAG has a cycle.
        """
        try:
            return tuple(TopologicalSorter({t.task_id: t.parents for t in self.tasks}).static_order())
        except CycleError as e:
            loop = " -> ".join(e.args[1])
            raise WorkError(f"DAG {self.dag_id} has a cycle: {loop}", where=self.dag_id) from None

    def task(self, task_id: str) -> TaskSpec:
        """The task of that id (KeyError if absent)."""
        for t in self.tasks:
            if t.task_id == task_id:
                return t
        raise KeyError(task_id)

    def in_pool(self, pool: str) -> "DagSpec":
        """The same DAG, routed."""
        return replace(self, pool=pool)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A declared recurrence of a DAG: by a cron, at even distances, at instants that were worked out, or by several.

    Attributes:
        cron: five fields; L = last day of the month. "" = none.
        zone: IANA zone the cron is read in (DST handled there).
        every_s: seconds between turns; they fall on `anchor` and on whole distances from it. None = none.
        turns: instants that are known one by one (a calendar of one's own, the next turn an orchestrator names).
        follows: alternatives, each of (DAG, task) that must all have ended well since the last run that followed: a run
            then begins, besides its turns.
        since: when it was declared; not expanded before.
        paused: declared but not running.
        max_active_runs: further runs queue behind this many; None = no limit.
    """

    dag_id: str
    pool: str
    cron: str
    zone: str
    tenant: str = "default"
    priority: int = 0
    since: datetime | None = None
    paused: bool = False
    max_active_runs: int | None = None
    land_by_s: float | None = None
    every_s: float | None = None
    anchor: datetime | None = None
    turns: tuple[datetime, ...] = ()
    follows: tuple[tuple[tuple[str, str], ...], ...] = ()

    @property
    def tells_turns(self) -> bool:
        """Whether it has any: one without says no more than how many runs may be active, or what they follow."""
        return bool(self.cron or self.every_s or self.turns)


@dataclass(frozen=True, slots=True)
class TaskRun:
    """One task of one DAG run, as the live system follows it."""

    run_id: str
    task_id: str
    pool: str
    spec: TaskSpec
    signature: str
    state: State
    tenant: str = "default"
    priority: int = 0
    ready_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    node_id: str | None = None
    attempt: int = 1
    exit_code: int | None = None
    reason: str = ""
    done: tuple[int, ...] = ()
    """Instances that ended well; the task has succeeded when all have."""
    provision_wait_s: float | None = None
    """How long it was ready and no node had room for it; None until it started, 0 if a ready node took it at once."""
    slot_at: datetime | None = None
    """When no quota held it back any more; None until it started."""

    def claimant(self, instance: int) -> str:
        """Name of one instance of this attempt: what a scheduler starts once and a reservation is held for."""
        again = f"@{self.attempt}" if self.attempt > 1 else ""
        return f"{self.run_id}/{self.task_id}#{instance}{again}"


def run_of(claimant: str) -> str:
    """The run that a task's claimant is of."""
    return claimant.partition("/")[0]


def task_of(claimant: str) -> tuple[str, str]:
    """(run, task) that a task's claimant is an instance of."""
    run_id, _, rest = claimant.partition("/")
    return run_id, rest.partition("#")[0]


@dataclass(frozen=True, slots=True)
class DagRun:
    """One run of a DAG, as the live system follows it."""

    run_id: str
    dag_id: str
    pool: str
    tenant: str
    trigger: Trigger
    submitted_at: datetime
    state: State
    priority: int = 0
    scheduled_for: datetime | None = None
    due: datetime | None = None
    land_by: datetime | None = None
    ended_at: datetime | None = None
    reason: str = ""
