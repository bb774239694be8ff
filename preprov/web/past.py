"""What the API answers about what was: a pool over time, what its tasks came to, what was decided."""

from datetime import datetime

from pydantic import Field

from preprov.web.documents import Part


class HistoryPoint(Part):
    """A pool as one pass saw it; amounts are of the resource that was asked for."""

    at: datetime
    nodes: dict[str, int] = Field(description="Nodes by phase.")
    target: int = Field(description="Running nodes that the plan wanted.")
    allocatable: float = Field(description="Of the ready nodes.")
    used: float = Field(description="What tasks on them claim.")
    waiting: float = Field(description="Demand that was ready and had no node.")


class HistoryPart(Part):
    """A pool from `since` to `until`, by time; no more points than were asked for."""

    pool: str
    resource: str
    since: datetime
    until: datetime
    points: list[HistoryPoint]


class OutcomePart(Part):
    """What the tasks that started on a pool came to. null: nothing is known."""

    pool: str
    instances: int = Field(description="Task instances that started.")
    warm_hit_ratio: float | None = Field(description="Share that a ready node took at once, 0 to 1.")
    wait_mean_s: float | None = Field(description="For a node, once a task could start.")
    wait_p95_s: float | None
    watched_s: float = Field(description="How much of the time was looked at; money and node-hours are of that.")
    node_hours: float | None
    usd: float | None
    idle_usd: float | None = Field(description="Of it, for what no task used.")


class OutcomeList(Part):
    """Every pool that the caller may see."""

    since: datetime
    until: datetime
    pools: list[OutcomePart]


class DecisionPart(Part):
    """Something that was decided about nodes. What may tell of anybody's work is for administrators only."""

    action_id: str
    plan_id: str
    at: datetime = Field(description="When it was decided.")
    told_at: datetime = Field(description="When `result` was last heard of.")
    kind: str
    count: int
    group: str
    offering: str
    standby_state: str
    cost_usd: float | None = Field(description="What it adds, or saves, over the plan's horizon.")
    result: str = Field(description="done, failed, skipped, recommended, guarded, or intended.")
    reason: str | None = Field(description="For administrators only, as all that follows.")
    detail: str | None
    actor: str | None
    nodes: list[str] | None
    figures: dict[str, float] | None = Field(description="The numbers behind the reason.")


class DecisionList(Part):
    """The latest first."""

    pool: str
    decisions: list[DecisionPart]
