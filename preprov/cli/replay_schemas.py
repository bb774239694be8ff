"""Documents of the commands that play policies: replay, whatif, scorecard."""

from datetime import datetime

from pydantic import ConfigDict, Field

from preprov.cli.schema_base import Envelope, Part


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
    node_hours: float
    idle_node_hours: float
    idle_cost_usd: float | None = Field(description="The bill less price times the used share of ready nodes.")
    cost_usd: float | None
    evicted: int = Field(description="Task instances ended by scale-down.")
    ticks: int
    solves: int
    fallbacks: int


class BoundPoint(Part):
    """What nobody with this mean wait pays less than."""

    mean_wait_s: float
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
