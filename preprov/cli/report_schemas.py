"""Documents of the commands that compare: the demonstration, and backtests."""

from pydantic import ConfigDict, Field

from preprov.cli.schema_base import Envelope, Part


class DemoOutcome(Part):
    """What the night came to under one policy; `preprov live` is the one on real nodes."""

    policy: str
    instances: int
    wait_mean_s: float | None = Field(description="Provision wait of task instances.")
    wait_p50_s: float | None
    wait_p95_s: float | None
    warm_hit_ratio: float | None
    node_hours: float
    idle_cost_usd: float | None
    cost_usd: float | None


class DemoAgreement(Part):
    """Live against replayed: shares of the replayed figures, and seconds."""

    cost_usd: float | None
    node_hours: float | None
    wait_mean_s: float | None
    within: bool


class Demo(Envelope):
    """demo."""

    seed: int
    minutes: float
    speed: float
    history: dict[str, int]
    flow_runs: list[dict[str, str]]
    outcomes: list[DemoOutcome]
    live_against_replayed: DemoAgreement | None
    failed_instances: int
    notes: list[str]
    report: str
    seconds: dict[str, float] = Field(description="Wall time of each act.")


class ForecastScores(Part):
    """How well one forecaster did on one series; null where a figure does not exist."""

    model_config = ConfigDict(extra="allow")

    wql: float | None = Field(description="Weighted quantile loss.")
    wape: float | None
    mase: float | None
    pinball95: float | None
    coverage80: float | None
    coverage90: float | None


class SeriesScores(ForecastScores):
    """Ours, and those of the peers on the same series in the same run."""

    fit_seconds: float | None
    peers: dict[str, ForecastScores]


class ForecastBacktest(Envelope):
    """backtest forecast."""

    series: dict[str, SeriesScores]
    summary: dict[str, float | None]
