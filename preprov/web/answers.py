"""What the API answers about capacity, plans, forecasts and reasons."""

from datetime import datetime

from pydantic import Field

from preprov.web.documents import Part


class AmountsPart(Part):
    """Resources: cores, GiB, devices, MB/s, MB/s."""

    cpu: float
    memory: float
    gpu: float
    disk_io: float
    network: float


class CapacityPart(Part):
    """A pool as the last pass of the controller saw it."""

    pool: str
    mode: str
    seen_at: datetime | None = Field(description="When; null if no pass was made in the last hour.")
    nodes: dict[str, int] = Field(description="Nodes by phase.")
    target: int | None = Field(description="Running nodes that the plan wanted.")
    allocatable: AmountsPart = Field(description="Of the ready nodes.")
    held: AmountsPart = Field(description="By tasks and reservations of all tenants, bound to nodes.")
    foreign: AmountsPart = Field(
        description="By work that preprov has not started (jobs of users, pods, runs of Prefect, tasks of Celery), "
        "beyond what is held: what began on a node after a reservation was bound there counts as the reservation's."
    )
    free: AmountsPart = Field(description="Of what is allocatable, what is neither held nor foreign.")
    held_by_you: AmountsPart
    waiting: AmountsPart = Field(description="Demand that was ready and had no node.")
    blocked: str | None = Field(
        description="Why nothing may be raised at this moment; null if it may. Why it was halted is for administrators."
    )


class CapacityList(Part):
    """Every pool that the caller may see."""

    at: datetime = Field(description="Now, by the clock of this server.")
    pools: list[CapacityPart]


class PlannedAction(Part):
    """A step of a plan."""

    at: datetime
    kind: str
    count: int
    group: str
    offering: str
    standby_state: str
    reason: str | None = Field(description="For administrators only.")


class PlannedTarget(Part):
    """How many nodes should be in a state from an instant on."""

    at: datetime
    group: str
    standby_state: str
    count: int


class PlanPart(Part):
    """A pool's last plan."""

    plan_id: str
    pool: str
    mode: str
    issued_at: datetime
    valid_until: datetime
    cost_usd: float | None
    node_hours: float
    actions: list[PlannedAction]
    targets: list[PlannedTarget]


class ForecastPoint(Part):
    """Demand in one step."""

    ts: datetime
    demand: list[float] = Field(description="One value per quantile.")


class ForecastPart(Part):
    """The last forecast of a pool."""

    forecast_id: str
    pool: str
    resource: str
    issued_at: datetime
    step_seconds: int
    quantiles: list[float]
    points: list[ForecastPoint]


class WhyEvent(Part):
    """One line of a story."""

    at: datetime
    what: str
    who: str
    why: str
    ref: str


class WhyAlternative(Part):
    """A course not taken."""

    name: str
    cost_usd: float | None
    wait_core_hours: float = Field(description="Core-hours that ready work was expected to wait.")
    why_not: str


class WhyPlan(Part):
    """A plan that was behind it."""

    plan_id: str
    issued_at: datetime
    cost_usd: float | None
    node_hours: float
    wait_core_hours: float
    alternatives: list[WhyAlternative]
    notes: list[str]
    fallback: str = Field(description="Why it was made without the optimiser; empty if it was not.")


class WhyForetold(Part):
    """The demand of an hour in cores: as it had been foretold, and as it came."""

    forecast_id: str
    issued_at: datetime | None
    since: datetime
    until: datetime
    cores: dict[str, float] = Field(description="p5, p50, p95; empty if no forecast had been issued.")
    parts: dict[str, float] = Field(description="Share of the mean by where it is known from.")
    came: float | None = Field(description="Most that ran and waited at once; null if nobody looked.")


class WhyOutcome(Part):
    """What a node came to."""

    node_id: str
    words: str = Field(description="All of it in a sentence.")
    ready_after_s: float | None
    tasks: int
    running_h: float
    used_h: float
    usd: float | None
    gone_at: datetime | None


class WhyPart(Part):
    """What happened to a thing, in time order; for administrators, what was behind it as well."""

    subject: str
    events: list[WhyEvent]
    plans: list[WhyPlan] = Field(description="With their alternatives.")
    foretold: list[WhyForetold]
    outcomes: list[WhyOutcome]
