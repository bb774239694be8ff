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
    free: AmountsPart
    held_by_you: AmountsPart
    waiting: AmountsPart = Field(description="Demand that was ready and had no node.")


class CapacityList(Part):
    """Every pool that the caller may see."""

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


class WhyPart(Part):
    """What happened to a thing, in time order."""

    subject: str
    events: list[WhyEvent]
