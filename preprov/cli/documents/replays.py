"""Documents of the commands that play policies: replay, whatif, scorecard."""

from datetime import datetime

from pydantic import ConfigDict, Field

from preprov.cli.documents.base import Envelope, Part


class JudgedWindow(Part):
    """What counts."""

    from_: datetime = Field(alias="from")
    to: datetime
    instances: int = Field(description="Task instances judged.")
    left_out: dict[str, int] = Field(description="Reason -> task instances that are played but not judged.")


class SettingFigures(Part):
    """One replay. Wait is provision wait; null where a figure does not exist."""

    model_config = ConfigDict(extra="allow")

    knob: float | None
    warm_hit_ratio: float | None
    warm_hit_ratio_scheduled: float | None
    warm_hit_ratio_core_hours: float | None
    wait_mean_s: float | None
    wait_p95_s: float | None
    wait_p99_s: float | None
    unstarted: int = Field(description="Task instances judged that never started; they count as waiting to the end.")
    node_hours: float
    idle_node_hours: float
    idle_cost_usd: float | None = Field(description="The bill less price times the used share of ready nodes.")
    cost_usd: float | None
    evicted: int = Field(description="Task instances ended by scale-down.")
    ticks: int
    solves: int
    fallbacks: int


class BoundPoint(Part):
    """Nobody with no longer a mean wait, or no longer a mean delay, pays less; the last one holds beyond it too."""

    mean_wait_s: float = Field(description="Of ready work for room on a node; what a limit of nodes causes is in it.")
    mean_delay_s: float = Field(
        description="Start less the start there would have been had nothing in the run waited (`delay_mean_s`). Never "
        "less than the wait, and equal to it where nothing depends on anything else."
    )
    cost_usd: float


class ScaledPolicies(Part):
    """All settings at one factor on the lead times."""

    policies: dict[str, list[SettingFigures]]
    clairvoyant: list[BoundPoint]


class Replay(Envelope):
    """replay."""

    trace: str
    schedules: str
    judged: JudgedWindow
    lead_scale: dict[str, ScaledPolicies]


class PromiseMade(Part):
    """What the pool's own objective would have brought, per day; kept in the store."""

    promise_id: str
    pool: str
    at: datetime
    policy: str
    objective: str
    since: datetime
    until: datetime
    instances: int
    node_hours_per_day: float
    usd_per_day: float | None
    idle_usd_per_day: float | None
    warm_hit_ratio: float | None
    wait_mean_s: float | None
    wait_p95_s: float | None
    land_by_met: float | None = Field(default=None, description="Of the runs with a time to land by.")


class OptionFigures(Part):
    """One way to run the pool."""

    policy: str
    objective: str = Field(description="What it is to reach, in words; empty for policies that have none.")
    late_usd_per_minute: float | None = Field(description="A price on lateness that the pool does not have itself.")
    knob: float | None
    usd_per_day: float | None
    idle_usd_per_day: float | None
    node_hours_per_day: float
    warm_hit_ratio: float | None
    wait_mean_s: float | None
    wait_p95_s: float | None
    wait_p99_s: float | None
    unstarted: int = Field(description="Task instances that never started; they count as waiting to the end.")
    land_by_runs: int = Field(description="Runs that were to have ended by some time.")
    land_by_met: float | None = Field(description="Share of them that had.")


class SloPrice(Part):
    """What a hit rate costs."""

    hit_rate: float
    warm_hit_ratio: float | None = Field(description="What came of it in the replay.")
    usd_per_day: float | None
    more_usd_per_day: float | None = Field(description="Than the hit rate before it.")


class LandByPrice(Part):
    """What landing in time costs, of the pool's own objective and of that with a price on lateness."""

    runs: int
    met: float
    objective: str
    late_usd_per_minute: float | None = Field(description="The price on lateness; null = what the pool says itself.")
    usd_per_day: float
    own_met: float = Field(description="Share that the pool's own objective lands.")
    more_usd_per_day: float = Field(description="Than the pool's own objective.")


class Played(Part):
    """How the policy preprov was played, which is what its promise rests on."""

    plan_every_s: float = Field(description="`preprov up` plans every minute, and when runs come.")
    react_every_s: float | None = Field(description="null = the pool goes by plans alone.")
    look_ahead_s: int = Field(description="How far a plan looks.")
    samples: int = Field(description="Of demand, that a plan is made from.")
    notes: list[str] = Field(description="What else is not as where the pool is run.")


class WhatIf(Envelope):
    """whatif."""

    since: datetime
    until: datetime
    days: float
    instances: int
    left_out: dict[str, int]
    options: list[OptionFigures]
    bound: list[BoundPoint] = Field(description="Costs are per day.")
    slo: list[SloPrice]
    land_by: LandByPrice | None
    sentences: list[str]
    played: Played
    promise: PromiseMade | None


class Measure(Part):
    """One figure, promised and realised."""

    measure: str
    promised: float | None
    realised: float | None
    difference: float | None


class Scorecard(Envelope):
    """scorecard."""

    since: datetime
    until: datetime
    watched_days: float = Field(description="How much of the time somebody watched; figures are per watched day.")
    instances: int
    attributed: int = Field(description="Instances that others started; waits as `preprov waits` takes them apart.")
    promise: PromiseMade | None
    rows: list[Measure]
