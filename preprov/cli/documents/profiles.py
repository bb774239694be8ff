"""Documents of the commands about single tasks: what they use, what they should ask for, backtests of both."""

from typing import Literal

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


class CurveMember(Part):
    """A model in ours: what it alone lost, calibrated, and what say it had; means over processes."""

    wql_memory: float
    wql_cpu: float
    weight_memory: float = Field(description="Mean weight that it had in what was said of memory.")
    weight_cpu: float
    followed_allocation: float = Field(description="Share of judged runs whose memory was given by it.")


class CurveSeen(Part):
    """Losses on what came after a tenth of the usual runtime, relative to use; means over processes."""

    wql_memory: float
    wql_cpu: float


class CurvesSummary(Part):
    """Ours against the peers that give memory."""

    runs: int
    ratio_vs_k_segments: float | None
    ratio_vs_constant_peak: float | None


class Reliability(Part):
    """Chances that were told alike."""

    told: float = Field(description="Their mean.")
    came: float = Field(description="Share of them in which it came to pass.")
    count: int


class ChanceScores(Part):
    """How good chances of running out of memory were, at limits made of earlier peaks."""

    asked: int
    brier: float | None = Field(description="Mean squared error, mean over processes; null = nothing was asked.")
    brier_climatology: float | None = Field(description="Of the share of earlier peaks above the limit.")
    skill: float | None = Field(description="1 - brier / brier_climatology.")
    reliability: list[Reliability]


class CurvesBacktest(Envelope):
    """backtest curves."""

    methods: dict[str, CurveScores] = Field(description="Ours or a peer -> scores over all processes.")
    members: dict[str, CurveMember] = Field(description="The models in ours; sequence only where torch is installed.")
    after_a_tenth: dict[str, CurveSeen] = Field(
        description="seen: the sequence model, told what the run used then. unseen: what ours had said before the run. "
        "followed: the one of both that had done better on the runs before."
    )
    out_of_memory: ChanceScores
    sequence_vintages: float = Field(description="How often the sequence model was taught; the mean over seeds.")
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


class RuntimeTransfer(Part):
    """Median error of one number for runtimes on a machine that only a probe of each process is known of."""

    moved: float = Field(description="The past elsewhere, moved by how kinds of machine compare; a share of what came.")
    as_it_was: float = Field(description="The past elsewhere as it was.")


class RuntimeBacktest(Envelope):
    """backtest runtime."""

    transfer: RuntimeTransfer | None = Field(description="Null where the trace is judged in time.")

    methods: dict[str, RuntimeScores] = Field(description="Ours and the peers.")
    members: dict[str, RuntimeScores] = Field(description="What else is in the mix, alone.")
    summary: RuntimeSummary
    folds: list[RuntimeFold]
    rejects: int


class NodeRoom(Part):
    """The node that shares are of."""

    cpu: float
    memory: float = Field(description="GiB.")
    usd_per_hour: float | None


class TaskNeed(Part):
    """What one task asks for, uses and should ask for: cores and GiB; null = not known."""

    tenant: str
    dag: str
    task: str
    runs: int
    measured: int = Field(description="Runs of which a peak is known.")
    asked_cpu: float | None
    asked_memory: float | None
    cpu_p50: float | None = Field(description="Of cores that runs do not exceed for 95 % of their time.")
    cpu_p99: float | None
    memory_p50: float | None = Field(description="Of the highest memory.")
    memory_p99: float | None
    ask_cpu: float | None
    ask_memory: float | None
    hours: float
    node_hours_asked: float = Field(description="Hours times the share of a node that was asked for.")
    node_hours_needed: float
    too_small: int = Field(description="Runs that ask_memory would not have held.")
    odd: int = Field(description="Runs unlike the others, or like what is usual no more: ask_* does not rest on them.")
    share_of_all: float = Field(description="Of what all tasks asked for, those that --dag leaves out too.")


class TaskPart(Part):
    """Tasks of a DAG, of a tenant, or all together."""

    name: str
    tasks: int
    runs: int
    node_hours_asked: float
    node_hours_needed: float
    share_of_all: float = Field(description="Of what all tasks asked for, so of the cost in that time.")
    asked_usd: float | None
    saved_share: float
    saved_usd: float | None


class ProbeRuns(Part):
    """What probe runs came to."""

    runs: int
    skipped: int = Field(description="Not made: they would not have paid.")
    node_seconds: float
    usd: float | None


class TaskSizing(Envelope):
    """task sizing."""

    node: NodeRoom
    failure_price: float = Field(description="Of a failed attempt; 1 = what was allocated to it.")
    tasks: list[TaskNeed]
    dags: list[TaskPart]
    tenants: list[TaskPart]
    all: TaskPart
    probes: ProbeRuns
    rejects: int
    patch: str = Field(description="Of --patch.")


class CurvePhase(Part):
    """From when on about how much is in use."""

    start_s: float
    amount: float


class TaskCurve(Part):
    """One resource over time."""

    resource: str
    unit: str
    levels: list[float]
    at_s: list[float]
    values: list[list[float]] = Field(description="By time, then by level.")
    peak: list[float] = Field(description="Quantiles of the highest use.")
    runtime_s: list[float] = Field(description="Quantiles of how long it runs.")
    phases: list[CurvePhase]


class TaskActual(Part):
    """What a run used."""

    claimant: str
    duration_s: float
    at_s: list[float]
    memory: list[float | None]
    cpu: list[float | None]
    more: dict[str, list[float | None]] = Field(description="Of further resources that were observed.")


class OddRun(Part):
    """How a run is unlike those before it."""

    claimant: str
    what: str = Field(description="memory (its peak), cpu (its mean) or runtime.")
    unit: str
    used: float
    usual: float = Field(description="For its input size.")


class OutOfMemory(Part):
    """How likely a limit of memory is too low."""

    limit_gib: float
    of: str = Field(description="request: what the run, or the last one, asked for. limit: of --limit.")
    probability: float = Field(description="Never surer than the runs that it rests on.")


class TaskShow(Envelope):
    """task show."""

    dag: str
    task: str
    runs: int
    curves: list[TaskCurve]
    actual: TaskActual | None
    out_of_memory: list[OutOfMemory] = Field(description="Empty where nothing is expected of its memory.")
    odd: list[OddRun] = Field(description="Runs unlike those before them; nothing is learnt from them.")
    since: str = Field(description="The first run of what is usual now; empty = it has always been.")
    level: Literal["signature", "task", "DAG", "tenant", "pool"] = Field(
        description="Of whose runs it rests on: of its signature, or of the nearest level above that has enough."
    )
    of: str = Field(description="The path of that level; empty = the pool.")
    machine: str = Field(description="Kind of machine that it is foretold for: the run's own, else the pool's largest.")
    factors: dict[str, float] = Field(
        description="Other kinds that runs before were on -> by what their times were multiplied; 1 = nobody knows."
    )
