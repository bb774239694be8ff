"""Documents of pools and nodes, of their stories, and of the installation."""

from datetime import datetime
from typing import Any

from pydantic import ConfigDict, Field

from preprov.cli.documents.adoption import GivenBackOfPool
from preprov.cli.documents.base import Envelope, Part
from preprov.cli.documents.planning import OrderedRun
from preprov.cli.documents.plans import PlanPart, Point


class Error(Envelope):
    """What every command prints instead when it fails."""

    error: str = Field(description="Kind of error.")
    what: str
    where: str
    hint: str = Field(description="What to do next.")


class QueueAnalysis(Envelope):
    """queue analyze."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    queued: dict[str, Any] = Field(description="Runs, task instances and cores that could run but do not.")
    running: dict[str, Any]
    runs: list[dict[str, Any]] = Field(description="Features per DAG run.")
    nowhere: list[dict[str, Any]] = Field(description="Tasks that fit on no node the pool could have, and why.")
    not_preloaded: list[dict[str, Any]] = Field(
        description="Images that tasks run in and [pool.preload] does not have: uri, digest (empty = not said), dags."
    )
    step_seconds: int
    quantiles: list[float]
    points: list[Point]


class Ingested(Envelope):
    """ingest swf, ingest wfformat, ingest dags, ingest nextflow, ingest series. `samples`: of what the tasks used."""

    key: str
    runs: int
    tasks: int
    samples: int
    rejects: int
    rejects_file: str | None
    already: bool
    notes: list[str]
    imputed: dict[str, int]
    pool_created: bool


class PoolRow(Part):
    """A pool in a list."""

    pool: str
    mode: str
    zone: str
    groups: list[str]
    nodes: dict[str, int]
    complete: bool


class Pools(Envelope):
    """pool list."""

    pools: list[PoolRow]


class NodeRow(Part):
    """A node."""

    node_id: str
    group: str
    offering: str
    phase: str
    created_at: datetime
    since: datetime
    ready_at: datetime | None
    running: list[str] | None = Field(description="null = not observed.")
    used: dict[str, float] | None = Field(
        description="What its machine used when it was last sampled, within a quarter of an hour, by resource "
        "(cores, GiB, MB/s); null = nobody samples it."
    )
    preloaded: list[str]
    progress: float | None
    stages: dict[str, float]
    reason: str
    tags: dict[str, str]


class GroupAbilities(Part):
    """What a group's provider can do with it."""

    group: str
    provider: str
    standby_states: list[str] = Field(description="States that nodes can be kept in.")
    mixes_states: bool = Field(description="Several of them at once.")
    chooses_offering: bool = Field(description="A launch may name one.")
    chooses_zone: bool = Field(description="A launch may name one.")
    leases: bool = Field(description="The vendor itself puts a raise back when nobody renews it.")
    preloads: bool = Field(description="A launch brings what is to be on the disk.")
    interrupts: bool = Field(description="Nodes may be taken away, and that is told before.")
    names_kept: bool = Field(description="A kept node is started or ended by name; else the vendor chooses.")
    names_serving: bool = Field(description="A node in service is kept or ended by name.")
    marks_launches: bool = Field(description="A node tells which launch made it.")
    steps_down: bool = Field(description="A hibernated node becomes a stopped one without being woken.")
    sets_targets: bool = Field(description="The vendor itself keeps so many nodes in standby.")
    reacts: bool = Field(description="Nodes may wake and sleep at every tick.")


class OnePool(Envelope):
    """pool show."""

    mode: str
    halted: str
    complete: bool
    problems: list[str]
    groups: list[GroupAbilities] = Field(description="What each group can do.")
    nodes: list[NodeRow]


class StoryEvent(Part):
    """One line of a story."""

    at: datetime
    what: str
    who: str
    why: str
    ref: str


class ForetoldHour(Part):
    """The demand of the hour that a decision was taken for, in cores."""

    forecast_id: str = Field(description="The last one issued before the decision; empty if there was none.")
    issued_at: datetime | None
    since: datetime
    until: datetime
    cores: dict[str, float] = Field(description="p5, p50, p95 as foretold.")
    parts: dict[str, float] = Field(description="Share of the mean: in_flight, queued, scheduled, recurring, learnt.")
    came: float | None = Field(description="Most that ran and waited at once; null if nobody looked.")


class NodeOutcome(Part):
    """What a node came to."""

    node_id: str
    ready_after_s: float | None = Field(description="From the decision on; null = not (yet) ready.")
    tasks: int
    running_h: float
    used_h: float = Field(description="Hours with at least one task on it.")
    usd: float | None = Field(description="Of its running hours; null if no price is known.")
    gone_at: datetime | None


class Why(Envelope):
    """why node, why run, why action."""

    subject: str
    events: list[StoryEvent] = Field(description="What happened, who decided it and why, in time order.")
    plans: list[PlanPart] = Field(description="With the alternatives and their cost.")
    foretold: list[ForetoldHour]
    outcomes: list[NodeOutcome]
    ahead: OrderedRun | None = Field(description="Of a run that is not over: when it should start and end.")


class Halted(Envelope):
    """halt."""

    halted: bool
    reason: str
    ended: list[str]
    given_back: list[GivenBackOfPool] = Field(description="Adopted groups, with --release.")


class DoctorCheck(Part):
    """One thing looked at."""

    what: str
    state: str
    found: str
    hint: str


class Doctor(Envelope):
    """doctor."""

    ok: bool
    checks: list[DoctorCheck]


class Schema(Envelope):
    """db current."""

    revision: str | None
    url: str


class Config(Envelope):
    """config show."""

    settings: dict[str, Any]
    configuration: dict[str, Any]
