"""Documents of forecasts, of plans and of what was done by them."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from preprov.cli.documents.base import Envelope, Part


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

    solver: str = Field(
        description="highs, dynamic programme (nothing was scarce), greedy, or reaction (between plans)."
    )
    solved: bool = Field(description="False: the optimum found for an earlier plan is held.")
    because: str = Field(description="What made it solve anew, or why not.")
    gap: float | None = Field(default=None, description="Share of the cost that a better plan could save at most.")
    seconds: float | None = None
    optimum_usd: float | None = None
    binding: list[str] = Field(default_factory=list, description="Limits that hold something back.")
    beyond: list[str] = Field(
        default_factory=list, description="Limits that it would go beyond later, as the solver's time ran out."
    )
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
