"""Documents of the commands about single tasks: what they use, what they should ask for, backtests of both."""

from pydantic import Field

from preprov.cli.documents.base import Envelope, Part


class SizingScores(Part):
    """What one way of asking for memory came to, over the judged tasks of a workflow."""

    gbh: float = Field(description="GiB hours allocated and not used, all attempts.")
    failures: float = Field(description="Attempts that had too little; for ours the mean over seeds.")
    maq: float = Field(description="Memory allocation quality: used over allocated.")


class PricedScores(SizingScores):
    """The same at one price of a failure."""

    failure: float


class PriceTried(Part):
    """What a price of a failure came to on the history, where prices are chosen."""

    failure: float
    gbh: float
    failures: int
    allowed: int = Field(description="Failures of Witt-P95 there.")


class SizingDetails(Part):
    """How a workflow was judged."""

    tasks: int
    judged: int
    processes: int
    failure_price: float
    chosen_on_history: list[PriceTried]
    seeds: list[SizingScores]


class SizingSummary(Part):
    """Ours against the peer that wastes least, chosen with hindsight."""

    best_peer: str
    ratio_vs_best_peer: float | None
    failures: float
    failures_witt_p95: float


Scored = dict[str, dict[str, SizingScores]]


class SizingBacktest(Envelope):
    """backtest sizing."""

    workflows: Scored = Field(description="Workflow -> ours or a peer -> scores.")
    summary: dict[str, SizingSummary]
    details: dict[str, SizingDetails]
    as_published: Scored = Field(
        description="Peers as their evaluations run them: Witt-LR on what the run itself reads, Tovar's own retries."
    )
    sensitivity: dict[str, Scored]
    trade_off: dict[str, list[PricedScores]]
    node_gib: float
    rejects: int
    notes: list[str]


class CurveScores(SizingScores):
    """What one way of giving memory over time came to; losses are means over processes."""

    wql_memory: float = Field(description="Weighted quantile loss of memory over time, levels .05 to .99.")
    wql_cpu: float
    coverage_80_memory: float = Field(description="Share of memory between its .1 and .9 quantiles.")


class CurvesSummary(Part):
    """Ours against the peers that give memory."""

    runs: int
    ratio_vs_k_segments: float | None
    ratio_vs_constant_peak: float | None


class CurvesBacktest(Envelope):
    """backtest curves."""

    methods: dict[str, CurveScores] = Field(description="Ours or a peer -> scores over all processes.")
    processes: dict[str, dict[str, CurveScores]]
    summary: CurvesSummary
    rejects: int
    notes: list[str]


class RuntimeScores(Part):
    """How well runtimes were foretold."""

    crps_log: float = Field(description="Continuous ranked probability score of the logarithm of seconds.")
    crps_s: float = Field(description="The same in seconds, relative to the mean runtime.")
    coverage_80: float
    coverage_90: float


class RuntimeSummary(Part):
    """Ours against the better peer."""

    rows: int
    judged: int
    protocol: str
    best_peer: str
    ratio_crps_log: float
    ratio_crps_s: float


class RuntimeFold(Part):
    """One block in time, or one kind of machine."""

    name: str
    judged: int
    mixed: list[str] = Field(description="Members whose mean was taken, chosen on what came before.")
    crps_log: dict[str, float]


class RuntimeBacktest(Envelope):
    """backtest runtime."""

    methods: dict[str, RuntimeScores] = Field(description="Ours and the peers.")
    members: dict[str, RuntimeScores] = Field(description="What else is in the mix, alone.")
    summary: RuntimeSummary
    folds: list[RuntimeFold]
    rejects: int
