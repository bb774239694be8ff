"""What the commands print with `-o json`, as models; docs/reference/schemas holds the JSON Schemas made from them."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from preprov.cli.adopt_schemas import AdoptedGroups, AdoptedTerraform, GivenBackOfPool, PoolMode, Released
from preprov.cli.claim_schemas import (
    MadeToken,
    OneReservation,
    OneToken,
    OneWindow,
    RemovedWindow,
    Reservations,
    Tokens,
    Windows,
)
from preprov.cli.image_schemas import BakedImages, Images, Pruned, RolledOut
from preprov.cli.model_schemas import Models, OneModel, Promoted, Quarantine, Retrained
from preprov.cli.node_schemas import NodePackage, NodeUserData
from preprov.cli.planning_schemas import (
    Leads,
    Limits,
    Order,
    OrderedRun,
    PreloadPlan,
    Prices,
    PricesOfType,
    PricesRefreshed,
)
from preprov.cli.profile_schemas import CurvesBacktest, RuntimeBacktest, SizingBacktest
from preprov.cli.replay_schemas import Replay, Scorecard, WhatIf
from preprov.cli.report_schemas import DemandBacktest, Demo, ForecastBacktest
from preprov.cli.schema_base import Envelope, Part
from preprov.cli.slurm_schemas import SlurmConfig, SlurmPower
from preprov.cli.source_schemas import RouteCheck, SourceAdded, Sources, SourceSync, SourceTest


class Error(Envelope):
    """What every command prints instead when it fails."""

    error: str = Field(description="Kind of error.")
    what: str
    where: str
    hint: str = Field(description="What to do next.")


class Point(Part):
    """Demand in one step."""

    ts: datetime = Field(description="Beginning of the step.")
    demand: list[float] = Field(description="One value per quantile, not decreasing.")


class Forecast(Envelope):
    """forecast run, forecast show."""

    forecast_id: str
    resource: str
    unit: str
    tz: str
    step_seconds: int
    quantiles: list[float]
    points: list[Point]
    parts: dict[str, list[float]] = Field(description="Mean demand per part; they add up to the mean of the whole.")
    basis: dict[str, Any] = Field(description="How it was made: fallbacks, coverage, model.")
    model: str | None


class StepExplained(Part):
    """Where the demand of one step comes from."""

    ts: datetime = Field(description="Beginning of the step.")
    mean: float = Field(description="Expected mean demand within the step.")
    peak_p50: float
    peak_p90: float
    parts: dict[str, float] = Field(description="in_flight, queued, scheduled, recurring, learnt: shares of the mean.")
    moved_by: dict[str, float] = Field(description="Feature -> how far it moved the forest from its average.")


class ForecastExplained(Envelope):
    """forecast explain."""

    forecast_id: str
    resource: str
    unit: str
    tz: str
    step_seconds: int
    steps: list[StepExplained]
    features: dict[str, float] = Field(description="Share of the forest's splits that each explains.")
    members: dict[str, float] = Field(description="Weight of each member in the learnt part.")
    fallback: str = Field(description="Why the learnt part rests on less than it should; empty if it does not.")


class PlanAction(Part):
    """One action of a plan."""

    action_id: str
    at: datetime
    kind: str
    count: int
    group: str
    offering: str
    standby_state: str
    node_ids: list[str]
    reason: str
    cost_usd: float | None
    numbers: dict[str, float]


class PlanTarget(Part):
    """How many nodes should be in a state from an instant on."""

    at: datetime
    group: str
    standby_state: str
    count: int


class PlanAlternative(Part):
    """A course not taken."""

    name: str
    cost_usd: float | None
    wait_core_hours: float
    why_not: str


class PlanBasis(Part):
    """How a plan was found."""

    model_config = ConfigDict(extra="allow")

    solver: str = Field(description="highs, dynamic programme (nothing was scarce), or greedy.")
    solved: bool = Field(description="False: the optimum found for an earlier plan is held.")
    because: str = Field(description="What made it solve anew, or why not.")
    gap: float | None = Field(default=None, description="Share of the cost that a better plan could save at most.")
    seconds: float | None = None
    optimum_usd: float | None = None
    binding: list[str] = Field(default_factory=list, description="Limits that hold something back.")
    together: list[str] = Field(default_factory=list, description="Pools that it was found with, as they share limits.")
    solved_for: datetime | None = None
    lanes: list[dict[str, Any]] = Field(
        default_factory=list, description="Kinds of tasks with offerings of their own; empty if one does for all."
    )
    order: list[str] = Field(
        default_factory=list, description="Runs in the order in which they get what there is, where a limit binds."
    )


class _PlanBody(BaseModel):
    plan_id: str
    mode: str
    cost_usd: float | None
    node_hours: float
    expected_wait_core_hours: float
    valid_until: datetime
    forecast_id: str
    actions: list[PlanAction]
    targets: list[PlanTarget]
    alternatives: list[PlanAlternative]
    notes: list[str]
    fallback: str
    basis: PlanBasis


class Plan(_PlanBody, Envelope):
    """plan make, plan show, pool reconcile --check."""


class PlanPart(_PlanBody, Part):
    """A plan inside another document."""


class DoneAction(PlanAction):
    """An action with what came of it."""

    result: str
    detail: str
    nodes: list[str] = Field(default_factory=list)


class Applied(Envelope):
    """plan apply."""

    actions: list[DoneAction]


class Reconciled(Envelope):
    """pool reconcile."""

    nodes: dict[str, int]
    started: list[str]
    actions: list[DoneAction]
    seconds: float


class QueueAnalysis(Envelope):
    """queue analyze."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    queued: dict[str, Any] = Field(description="Runs, task instances and cores that could run but do not.")
    running: dict[str, Any]
    runs: list[dict[str, Any]] = Field(description="Features per DAG run.")
    nowhere: list[dict[str, Any]] = Field(description="Tasks that fit on no node the pool could have, and why.")
    step_seconds: int
    quantiles: list[float]
    points: list[Point]


class Ingested(Envelope):
    """ingest swf, ingest wfformat, ingest dags, ingest series."""

    key: str
    runs: int
    tasks: int
    rejects: int
    rejects_file: str | None
    already: bool
    notes: list[str]
    imputed: dict[str, int]
    pool_created: bool


class Run(Part):
    """A DAG run."""

    run_id: str
    dag_id: str
    pool: str
    tenant: str
    trigger: str
    state: str
    priority: int
    submitted_at: datetime
    scheduled_for: datetime | None
    due: datetime | None
    land_by: datetime | None
    ended_at: datetime | None
    reason: str


class DeclaredSchedule(Part):
    """A schedule that was declared with a DAG."""

    dag_id: str
    cron: str
    tz: str


class Submitted(Envelope):
    """submit."""

    runs: list[Run]
    schedules: list[DeclaredSchedule]


class Runs(Envelope):
    """run list."""

    runs: list[Run]


class Task(Part):
    """A task run."""

    task_id: str
    state: str
    instances: int
    ready_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    wait_s: float | None = Field(description="From ready to started; null until it started.")
    provision_wait_s: float | None = Field(description="The part of it in which no node had room.")
    node_id: str | None
    attempt: int
    exit_code: int | None
    reason: str


class OneRun(Envelope):
    """run show."""

    run: Run
    tasks: list[Task]


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
    preloaded: list[str]
    progress: float | None
    stages: dict[str, float]
    reason: str
    tags: dict[str, str]


class OnePool(Envelope):
    """pool show."""

    mode: str
    halted: str
    complete: bool
    problems: list[str]
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


DOCUMENTS: dict[str, type[Envelope]] = {
    "backtest curves": CurvesBacktest,
    "backtest demand": DemandBacktest,
    "backtest forecast": ForecastBacktest,
    "backtest runtime": RuntimeBacktest,
    "backtest sizing": SizingBacktest,
    "forecast run": Forecast,
    "forecast show": Forecast,
    "forecast explain": ForecastExplained,
    "replay": Replay,
    "whatif": WhatIf,
    "scorecard": Scorecard,
    "plan make": Plan,
    "plan show": Plan,
    "plan apply": Applied,
    "queue analyze": QueueAnalysis,
    "queue order": Order,
    "ingest swf": Ingested,
    "ingest wfformat": Ingested,
    "ingest dags": Ingested,
    "ingest series": Ingested,
    "source list": Sources,
    "source test": SourceTest,
    "source sync": SourceSync,
    "source add": SourceAdded,
    "route check": RouteCheck,
    "submit": Submitted,
    "run list": Runs,
    "run show": OneRun,
    "pool list": Pools,
    "pool show": OnePool,
    "pool leads": Leads,
    "pool reconcile": Reconciled,
    "pool adopt terraform": AdoptedTerraform,
    "pool adopt": AdoptedGroups,
    "pool release": Released,
    "pool mode": PoolMode,
    "limit list": Limits,
    "preload plan": PreloadPlan,
    "prices list": Prices,
    "prices show": PricesOfType,
    "prices refresh": PricesRefreshed,
    "node package": NodePackage,
    "node user-data": NodeUserData,
    "image bake": BakedImages,
    "image list": Images,
    "image rollout": RolledOut,
    "image prune": Pruned,
    "reservation list": Reservations,
    "reservation create": OneReservation,
    "reservation commit": OneReservation,
    "reservation release": OneReservation,
    "model list": Models,
    "model show": OneModel,
    "model retrain": Retrained,
    "model promote": Promoted,
    "model rollback": Promoted,
    "model quarantine list": Quarantine,
    "model quarantine add": Quarantine,
    "model quarantine lift": Quarantine,
    "reservation window add": OneWindow,
    "reservation window list": Windows,
    "reservation window remove": RemovedWindow,
    "slurm config": SlurmConfig,
    "slurm resume": SlurmPower,
    "slurm suspend": SlurmPower,
    "slurm resume-fail": SlurmPower,
    "token create": MadeToken,
    "token list": Tokens,
    "token revoke": OneToken,
    "why node": Why,
    "why run": Why,
    "why action": Why,
    "halt": Halted,
    "doctor": Doctor,
    "db current": Schema,
    "config show": Config,
    "demo": Demo,
}
"""command -> the document it prints."""
