"""Documents of the commands that compare: the demonstration, and backtests."""

from pydantic import ConfigDict, Field

from preprov.cli.documents.base import Envelope, Part


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
    provider: str
    api_calls: int | None = Field(description="What the fake of a cloud was asked; null on local nodes.")
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

    fit_seconds: float | None = Field(description="CPU seconds of the longest fit, on one thread.")
    peers: dict[str, ForecastScores]


class ForecastBacktest(Envelope):
    """backtest forecast."""

    series: dict[str, SeriesScores]
    summary: dict[str, float | None]
    left_out: dict[str, str] = Field(description="Series that cannot be judged, and why.")


class DemandScores(Part):
    """How well one forecaster did up to one horizon, over all instants; null where a figure does not exist."""

    wql: float | None = Field(description="Weighted quantile loss: mean over quantiles, per unit of demand.")
    wape: float | None = Field(description="Absolute error of the median per unit of demand.")
    pinball95: float | None = Field(description="Mean pinball loss at .95, in units of demand.")
    coverage80: float | None
    coverage90: float | None


class WindowScores(DemandScores):
    """Of the highest demand within a window, for the windows that begin up to a horizon; the peers that say it too."""

    peers: dict[str, DemandScores]


class HorizonScores(DemandScores):
    """Of the mean demand of each step up to a horizon, with the peers, and the highest demand of windows (seconds)."""

    peers: dict[str, DemandScores]
    best_peer: str | None
    ratio_vs_best_peer: float | None = Field(description="WQL over that of the best peer, chosen with hindsight.")
    max_window: dict[str, WindowScores]


class JudgedDays(Part):
    """The part of a trace that counts."""

    from_: str = Field(alias="from")
    to: str
    zone: str


class StartMatches(Part):
    """Starts foretold with p >= .5 within an hour, matched one to one with real ones within five minutes."""

    precision: float | None
    recall: float | None
    chance: float | None = Field(description="Precision if such tasks started at their usual rate, any time.")
    expected: int
    actual: int
    matched: int


class StartScores(StartMatches):
    """Of tasks of runs not yet submitted, by signature."""

    by_code: StartMatches = Field(description="The same where tasks of one DAG and operator are not told apart.")


class DemandBacktest(Envelope):
    """backtest demand."""

    trace: str
    schedules: str
    judged: JudgedDays
    origins: int = Field(description="Instants from which was forecast.")
    step_seconds: int
    resource: str
    most_cores: float | None
    tasks_left_out: int
    peers_silent: list[str] = Field(description="Peers that had too little history.")
    horizons: dict[str, HorizonScores] = Field(description="By seconds ahead.")
    starts: StartScores
