"""Every boundary on one page. An adapter implements one of these; a use case is handed them by `app`.

Rules that hold for all: instants are aware; an absent thing is `None` or an empty tuple, never an exception, unless the
docstring says so; every write is idempotent by the key it names; a `retryable` error may be tried again later by the
caller's next pass, nothing here retries by itself except an SDK inside its own call.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from preprov.model.agent import Usage
from preprov.model.demand import DemandCurve
from preprov.model.learning import BacktestRecord, ForecastScore, Promotion, QuarantinedDay
from preprov.model.plans import ActionRecord, CapacityPlan
from preprov.model.pools import Mode, Node, Offering, Override, Pool, PoolObservation, Preload, Standby
from preprov.model.promises import Promise
from preprov.model.reservations import Reservation
from preprov.model.resources import Resources
from preprov.model.series import SeriesHistory
from preprov.model.work import DagRun, DagSpec, Schedule, State, TaskRun
from preprov.model.worktable import WorkTable

Progress: TypeAlias = Callable[[float, str], None]
"""Called with a share in [0, 1] (or NaN if the total is unknown) and a short text."""


class Clock(Protocol):
    """The only way to ask what time it is."""

    def now(self) -> datetime:
        """The present instant, aware, never going backwards."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return after `seconds` of this clock (a virtual clock moves on at once)."""
        ...


# --------------------------------------------------------------------------- sources


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that was kept aside: where it stood, why, and what it said."""

    line: int
    reason: str
    raw: str = ""


@dataclass(frozen=True)
class SourceBatch:
    """A part of what a source holds. Runs are whole: no run is spread over batches."""

    work: WorkTable
    schedules: tuple[Schedule, ...] = ()
    rejects: tuple[Reject, ...] = ()
    notes: tuple[str, ...] = ()
    imputed: Mapping[str, int] = field(default_factory=dict)


@runtime_checkable
class WorkSource(Protocol):
    """Work read from outside: a log, a table, an orchestrator."""

    @property
    def key(self) -> str:
        """Stable name of what is read (for a file its name)."""
        ...

    @property
    def digest(self) -> str:
        """Of its content, "" if it has none. Cheap: content that is known already is recognised by it alone."""
        ...

    @property
    def zone(self) -> str:
        """IANA zone of its wall clock. May have to look into the content, and raise as `read` does."""
        ...

    @property
    def capacity(self) -> Resources | None:
        """Of the whole machine it describes, None if it does not say. As for `zone`."""
        ...

    def read(self, progress: Progress | None = None) -> Iterator[SourceBatch]:
        """Yield batches in any order; reading twice yields the same.

        A broken row becomes a `Reject`. Raises SourceError if the source is unreadable as a whole (a truncated
        archive, a missing column): what was yielded before must then not be kept. SourceUnavailableError is retryable.
        """
        ...


class UsageSource(Protocol):
    """Usage over time of tasks that ran elsewhere."""

    def samples(self, since: datetime, until: datetime) -> Iterator[tuple[str, Usage]]:
        """(claimant, usage) in time order per claimant; what cannot be observed is None."""
        ...


# --------------------------------------------------------------------------- pools


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider can do with a group; differences between clouds are these, not `if`s.

    Attributes:
        standby_states: states nodes can be kept in. mixes_states: several of them at once.
        chooses_offering, chooses_zone: a launch may name them.
        leases: a raise can be given an end that the vendor itself enforces (`LeasesRaises`).
        preloads: a launch brings what is to be on the disk. interrupts: nodes may be taken away (`GivesNotice`).
        names_kept: a kept node can be started or ended by name; else as many are, of the vendor's choice.
        steps_down: a hibernated node can be made a stopped one without waking it.
        sets_targets: the vendor itself keeps so many nodes in standby (`SetsTargets`).
    """

    standby_states: frozenset[Standby]
    mixes_states: bool = True
    chooses_offering: bool = True
    chooses_zone: bool = False
    leases: bool = False
    preloads: bool = True
    interrupts: bool = False
    names_kept: bool = True
    steps_down: bool = True
    sets_targets: bool = False


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """Ask for `count` new nodes.

    Attributes:
        token: the same token never makes more than `count` nodes in all, however often it is sent.
        expires_at: lease of the raise; enforced by the vendor itself where it can.
    """

    pool: Pool
    group: str
    offering: Offering
    count: int
    token: str
    preload: Preload
    tags: Mapping[str, str] = field(default_factory=dict)
    expires_at: datetime | None = None


class PoolProvider(Protocol):
    """Supplies nodes for the groups whose `provider` names it. The world is asked, never remembered.

    What only some vendors have is in protocols of its own, and shows in the capabilities: `SetsTargets`, `Tended`,
    `GivesNotice`, `Quotes`, `Examined`, `Adopts`, `LeasesRaises`.

    Errors: InsufficientCapacityError, ThrottledError and ConflictError are retryable by the caller's next pass;
    QuotaExceededError, NotAuthorisedError, NotFoundError, NodeBusyError and any other PoolError are not.
    """

    name: str

    def capabilities(self, pool: Pool, group: str) -> Capabilities:
        """What this group can do. Constant for the life of the group."""
        ...

    def observe(self, pool: Pool) -> PoolObservation:
        """All nodes that carry this pool's tag, in every state, ended ones left out.

        May lag behind writes (then a launch is found again by its token). A group that could not be listed is named in
        `problems` and makes `complete` False: absence then proves nothing.
        """
        ...

    def launch(self, request: LaunchRequest) -> tuple[str, ...]:
        """Begin to launch; returns the ids of the nodes of this token (fewer than `count` if fewer could be had).

        Idempotent by token. Raises InsufficientCapacityError, QuotaExceededError, ThrottledError, NotAuthorisedError.
        Returns long before the nodes are ready: watch `observe`.
        """
        ...

    def start(self, pool: Pool, node_ids: Sequence[str], preload: Preload) -> None:
        """Bring stopped or hibernated nodes back; a running one is left alone. NotFoundError names the missing."""
        ...

    def hibernate(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """Suspend idle nodes, memory kept. NodeBusyError, before anything is done, if one runs a task."""
        ...

    def stop(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """Stop idle nodes, disk kept. NodeBusyError, before anything is done, if one runs a task."""
        ...

    def drain(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """The nodes take no new task from now on; what runs there ends by itself. Idempotent."""
        ...

    def terminate(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """End idle nodes and their disks; an absent node is success.

        NodeBusyError as for `stop`: the check and the end are one step on the node itself, so that no task slips in
        between.
        """
        ...


@runtime_checkable
class SetsTargets(Protocol):
    """A provider whose vendor keeps a number of nodes in standby by itself (ASG warm pool, standby pool)."""

    def set_targets(self, pool: Pool, group: str, targets: Mapping[Standby, int]) -> None:
        """Have the vendor keep so many nodes per kept state; RUNNING is not named here, launch and terminate do that.

        Idempotent: the same targets again change nothing. Takes effect over minutes: watch `observe`. PoolError for a
        state the group does not keep, ThrottledError and ConflictError are retryable.
        """
        ...


@runtime_checkable
class Tended(Protocol):
    """A provider whose vendor waits for our word: which node was verified, which one works, that we are still there."""

    def tend(self, pool: Pool, held: Collection[str] = ()) -> tuple[str, ...]:
        """Let verified nodes go on, protect busy ones from the vendor, renew the lease; returns a line per thing done.

        Idempotent. Where it is left out the vendor's own time-outs decide, and a leased raise ends. It writes, so call
        it only where the pool's mode allows writes, and before tasks are handed to the nodes in `held`.

        Args:
            pool: the pool.
            held: nodes that work is promised to: they count as busy.
        """
        ...


@dataclass(frozen=True, slots=True)
class Notice:
    """The vendor is about to take a node away, or thinks that it may.

    Attributes:
        kind: "interruption" (will be taken at `deadline`), "rebalance" (is likelier to be taken), "state" (it is gone).
        receipt: what `settle_notices` needs.
    """

    node_id: str
    kind: str
    at: datetime
    deadline: datetime | None = None
    detail: str = ""
    receipt: str = ""


@runtime_checkable
class GivesNotice(Protocol):
    """A provider that hears of interruptions."""

    def notices(self, pool: Pool) -> tuple[Notice, ...]:
        """What was said since the last time, of this pool's nodes only. At least once: settle what was dealt with."""
        ...

    def settle_notices(self, pool: Pool, notices: Sequence[Notice]) -> None:
        """These are dealt with and need not be said again. Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class Quote:
    """What an offering cost from an instant on. `source`: "list", "spot"."""

    offering: Offering
    usd_per_hour: float
    since: datetime
    source: str = "list"


@runtime_checkable
class Quotes(Protocol):
    """A provider that knows its vendor's prices."""

    def quotes(self, pool: Pool, group: str, since: datetime) -> tuple[Quote, ...]:
        """Prices of the group's offerings from `since` on, oldest first; one without a known price is left out."""
        ...


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at before anything is written."""

    what: str
    state: Literal["ok", "warn", "bad"]
    found: str
    hint: str = ""


@runtime_checkable
class Examined(Protocol):
    """A provider that can say, without writing anything, whether it may and can do its work."""

    def examine(self, pool: Pool) -> tuple[Finding, ...]:
        """Credentials, rights, groups, hooks, quotas. What is wrong is a finding, never an exception."""
        ...

    def other_writers(self, pool: Pool, group: str) -> tuple[str, ...]:
        """Names of whoever else writes this group's counts (an autoscaler, a policy, a schedule); none = ours alone."""
        ...


@runtime_checkable
class Adopts(Protocol):
    """A provider that can give a group back as it was found."""

    def baseline(self, pool: Pool, group: str) -> Mapping[str, object]:
        """Every setting of the group that preprov may touch, as plain JSON. Reads only."""
        ...

    def restore(self, pool: Pool, group: str, baseline: Mapping[str, object]) -> tuple[str, ...]:
        """Put those settings back exactly; returns a line per setting changed. Idempotent. Ends no busy node."""
        ...


@runtime_checkable
class LeasesRaises(Protocol):
    """A provider whose vendor ends a raise by itself if nobody renews it."""

    def lease(self, pool: Pool, group: str, until: datetime) -> None:
        """Have the vendor put the group's counts back at `until`, to what they were before the first raise.

        Launches and starts do this by themselves, before they raise; later calls renew it, and `tend` does. Idempotent
        by (pool, group): there is one lease. PoolError if the group cannot be leased.
        """
        ...


class PriceBook(Protocol):
    """What things cost."""

    def usd_per_hour(self, offering: Offering, at: datetime) -> float | None:
        """Price of a running node-hour; None = not known (plan by node-hours and say so)."""
        ...

    def standby_usd_per_hour(self, offering: Offering, state: Standby, at: datetime) -> float | None:
        """Price of a kept node-hour in that state; 0 for COLD."""
        ...


# --------------------------------------------------------------------------- launching tasks


@dataclass(frozen=True, slots=True)
class TaskReport:
    """What a scheduler saw of a task instance.

    Attributes:
        ended_at: None = it runs. exit_code: None if it runs or nobody saw it end; negative = ended by that signal.
        usage: since the last poll.
    """

    claimant: str
    node_id: str
    started_at: datetime
    ended_at: datetime | None = None
    exit_code: int | None = None
    usage: tuple[Usage, ...] = ()


class Scheduler(Protocol):
    """Hands prepared capacity to tasks."""

    name: str

    def start(self, task: TaskRun, instance: int, node: Node) -> None:
        """Run the task on the node. Idempotent by claimant: a second call while it runs, or after, does nothing.

        Raises PoolError (retryable ones leave the task where it was) and NotFoundError if the node is gone.
        """
        ...

    def poll(self, nodes: Sequence[Node]) -> tuple[TaskReport, ...]:
        """Everything these nodes run or ran, with the usage since the last poll. A silent node is left out."""
        ...

    def cancel(self, claimant: str, node: Node) -> None:
        """End this one task because its owner asked for it. Absent = success."""
        ...

    def logs(self, claimant: str) -> Iterator[str]:
        """Lines of its output so far; none if it never ran."""
        ...


# --------------------------------------------------------------------------- the store, in narrow ports


@dataclass(frozen=True, slots=True)
class IngestResult:
    """What an ingest did. `already` = this very content was in the store, nothing changed."""

    key: str
    pool: str
    runs: int
    tasks: int
    rejects: int
    already: bool = False
    notes: tuple[str, ...] = ()
    rejects_file: str = ""
    imputed: Mapping[str, int] = field(default_factory=dict)


class WorkStore(Protocol):
    """Runs and tasks: what was ingested, which never changes, and what is served here; `work` gives both as one."""

    def pools(self) -> Mapping[str, str]:
        """Pools that have history: name -> zone of their wall clock as last ingested."""
        ...

    def ingested(self, pool: str, digest: str) -> IngestResult | None:
        """What an earlier ingest of this very content did (`already` set); None if there was none."""
        ...

    def ingest(
        self, pool: str, key: str, digest: str, batches: Iterable[SourceBatch], *, zone: str = "UTC"
    ) -> IngestResult:
        """Write all batches in one transaction, or nothing.

        Idempotent by (pool, digest) and by run id: a run already there is left as it is. Raises SourceError if no run
        is usable, and lets an error of the batches through; the store is then as it was.
        """
        ...

    def work(self, pool: str, *, since: datetime | None = None, until: datetime | None = None) -> WorkTable:
        """Runs of the pool submitted in [since, until] with their tasks, by submit time. Unknown pool = empty."""
        ...

    def schedules(self, pool: str) -> tuple[Schedule, ...]:
        """Declared schedules of the pool."""
        ...

    def has_template(self, pool: str, dag_id: str) -> bool:
        """True if a spec with commands is kept for this DAG, so that `materialise` can make runs of it."""
        ...

    def specs(self, pool: str, dag_ids: Sequence[str]) -> tuple[DagSpec, ...]:
        """The last spec of each of these DAGs that was submitted; the others are left out."""
        ...

    def write_series(self, pool: str, key: str, digest: str, series: SeriesHistory) -> IngestResult:
        """Keep a demand series as this pool's history; same idempotency as `ingest`."""
        ...

    def series(self, pool: str) -> SeriesHistory | None:
        """The demand series ingested for this pool; None if its history is runs."""
        ...

    def submit(self, dag: DagSpec, pool: str, at: datetime, run_id: str | None = None) -> DagRun | None:
        """Register a DAG and create a run of it. Idempotent by run_id.

        A DAG with a schedule has the schedule declared and its spec kept; a run of it is then made only if `due` is
        set, else None is returned and `materialise` makes the runs.
        """
        ...

    def materialise(self, schedule: Schedule, scheduled_for: datetime, at: datetime) -> DagRun:
        """Create the run of a declared schedule's turn from the DAG's last spec. Idempotent by (dag, turn)."""
        ...

    def runs(self, pool: str | None = None, *, live: bool = False, limit: int | None = None) -> tuple[DagRun, ...]:
        """Runs served here (not what was ingested), newest first; `live` leaves out final ones."""
        ...

    def run(self, run_id: str) -> DagRun | None:
        """One run by id or unique prefix."""
        ...

    def task_runs(self, run_ids: Sequence[str]) -> tuple[TaskRun, ...]:
        """All tasks of these runs, parents before children."""
        ...

    def save_tasks(self, tasks: Sequence[TaskRun]) -> None:
        """Write states and times of live tasks (one transaction). A final state is never overwritten."""
        ...

    def save_run(self, run_id: str, state: State, ended_at: datetime | None, reason: str = "") -> None:
        """Write the state of a live run. A final state is never overwritten."""
        ...


class ForecastStore(Protocol):
    """Issued forecasts."""

    def save(self, curve: DemandCurve) -> str:
        """Keep it; returns its id.

        The same (pool, issued_at, kind) replaces the earlier one; kind is `basis["kind"]`, else the step.
        """
        ...

    def latest(self, pool: str, at: datetime | None = None) -> tuple[str, DemandCurve] | None:
        """The last one issued at or before `at`."""
        ...

    def get(self, forecast_id: str) -> DemandCurve | None:
        """One by id."""
        ...

    def issued(self, pool: str, since: datetime, until: datetime) -> tuple[tuple[str, datetime], ...]:
        """(id, issued at) of those issued in [since, until], in time order; the curves themselves are not read."""
        ...


class PlanStore(Protocol):
    """Made plans."""

    def save(self, plan: CapacityPlan) -> None:
        """Keep it, by plan_id."""
        ...

    def get(self, plan_id: str) -> CapacityPlan | None:
        """One by id or unique prefix."""
        ...

    def latest(self, pool: str) -> CapacityPlan | None:
        """The last one made."""
        ...


class AuditLog(Protocol):
    """Who did what, why, and what came of it. Rows are only added."""

    def record(self, record: ActionRecord) -> None:
        """Add a row."""
        ...

    def records(
        self,
        pool: str | None = None,
        *,
        since: datetime | None = None,
        node_id: str | None = None,
        action_id: str | None = None,
    ) -> tuple[ActionRecord, ...]:
        """Rows in time order."""
        ...


class ReservationLedger(Protocol):
    """Soft reservations, commitments, releases: exact under concurrency.

    Invariants: at no instant do committed segments on a node exceed its allocatable; at most one live reservation per
    (pool, claimant); nothing committed is lost by a crash.
    """

    def reserve(self, reservation: Reservation, capacity: Resources | None = None) -> Reservation:
        """Add a SOFT reservation. A live one of the same claimant is returned instead of a second.

        Raises OverbookedError if `capacity` is given and the peak of all live claims in the window would exceed it.
        """
        ...

    def commit(self, reservation_id: str, node_id: str, allocatable: Resources, at: datetime) -> Reservation:
        """Bind to a node. Idempotent. Raises OverbookedError, ReservationError (not found, expired, final)."""
        ...

    def release(self, reservation_id: str, reason: str = "") -> Reservation:
        """Give back. Idempotent. Raises ReservationError if there is none of that id."""
        ...

    def expire(self, pool: str, at: datetime) -> int:
        """Void soft claims whose time is over; returns how many."""
        ...

    def reservations(
        self, pool: str | None = None, *, live: bool = True, node_id: str | None = None
    ) -> tuple[Reservation, ...]:
        """Reservations by start."""
        ...


@dataclass(frozen=True, slots=True)
class LeadObservation:
    """One warming, from decision to ready. `outcome`: "ready", "failed", "insufficient_capacity".

    Attributes:
        seconds: until ready, or until it was given up. stages: allocate, boot, image, data, join.
    """

    at: datetime
    pool: str
    provider: str
    group: str
    zone: str
    instance_type: str
    image: str
    came_from: Standby
    seconds: float
    node_id: str
    stages: Mapping[str, float] = field(default_factory=dict)
    outcome: str = "ready"


class LeadTimeStore(Protocol):
    """What warming took."""

    def add(self, observation: LeadObservation) -> None:
        """Keep it. Idempotent by (node_id, came_from, at)."""
        ...

    def observations(
        self, provider: str | None = None, *, since: datetime | None = None
    ) -> tuple[LeadObservation, ...]:
        """In time order."""
        ...


class VoteStore(Protocol):
    """Scale-down hysteresis that survives a restart: since when a node has been found superfluous."""

    def votes(self, pool: str) -> Mapping[str, datetime]:
        """node_id -> the first of its unbroken votes."""
        ...

    def replace(self, pool: str, votes: Mapping[str, datetime]) -> None:
        """Set all votes of the pool; nodes not named lose theirs."""
        ...


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A stored model. `format` names the safe format; `sha256` is checked on load."""

    version: str
    pool: str
    kind: str
    format: str
    sha256: str
    created_at: datetime
    champion: bool
    metrics: Mapping[str, float] = field(default_factory=dict)
    backtest_id: str = ""
    reason: str = ""


class ModelStore(Protocol):
    """Model versions, stored in formats that cannot run code."""

    def save(
        self,
        pool: str,
        kind: str,
        fmt: str,
        blob: bytes,
        *,
        at: datetime,
        metrics: Mapping[str, float],
        reason: str = "",
    ) -> ModelVersion:
        """Keep a version; the first of a (pool, kind) is promoted at once. UnsafeModelError if it is a pickle."""
        ...

    def load(self, pool: str, kind: str, version: str | None = None) -> tuple[ModelVersion, bytes] | None:
        """The champion, or the version named; None if absent. UnsafeModelError if digest or format is wrong."""
        ...

    def versions(self, pool: str | None = None) -> tuple[ModelVersion, ...]:
        """Newest first."""
        ...

    def promote(
        self,
        version: str,
        *,
        at: datetime,
        reason: str,
        backtest_id: str = "",
        actor: str = "",
        rollback: bool = False,
    ) -> ModelVersion:
        """Make it champion of its (pool, kind), and remember that. The champion again: nothing changes.

        Raises StoreError if there is no such version.
        """
        ...

    def promotions(self, pool: str, kind: str) -> tuple[Promotion, ...]:
        """Newest first; the last one is of the first version that was kept."""
        ...

    def forget(self, versions: Collection[str]) -> int:
        """Delete these versions, a champion never; returns how many. Absent = success; promotions stay on record."""
        ...


class LearningStore(Protocol):
    """The evidence: backtests of challengers, scores of issued forecasts, days kept out of training."""

    def save_backtest(self, record: BacktestRecord) -> None:
        """Keep it, by backtest_id."""
        ...

    def backtests(self, pool: str) -> tuple[BacktestRecord, ...]:
        """Newest first."""
        ...

    def backtest(self, backtest_id: str) -> BacktestRecord | None:
        """One by id."""
        ...

    def save_score(self, score: ForecastScore) -> None:
        """Keep it, by forecast_id: the same one again replaces it."""
        ...

    def scores(self, pool: str, *, since: datetime | None = None) -> tuple[ForecastScore, ...]:
        """Of forecasts issued since then, in the order of their issue."""
        ...

    def quarantine(self, day: QuarantinedDay) -> None:
        """Keep it as it is now, by (pool, day): put there, or lifted."""
        ...

    def quarantined(self, pool: str) -> tuple[QuarantinedDay, ...]:
        """By day, lifted ones too."""
        ...


class PromiseStore(Protocol):
    """What was promised to a pool's owner."""

    def save(self, promise: Promise) -> None:
        """Keep it, by promise_id: the same one again replaces it."""
        ...

    def promises(self, pool: str, *, until: datetime | None = None) -> tuple[Promise, ...]:
        """Made at or before `until`, newest first."""
        ...


class LeaseStore(Protocol):
    """One pass over one pool at a time."""

    def hold(self, pool: str, holder: str, ttl_s: float, now: datetime) -> AbstractContextManager[None]:
        """Hold the pool's lease inside the `with`; an expired one is taken over. LeaseHeldError if another has it."""
        ...


class SampleStore(Protocol):
    """Usage samples, many millions."""

    def append(self, pool: str, samples: Iterable[tuple[str, Usage]]) -> int:
        """Keep (claimant, usage); returns how many. A half-written file is never seen."""
        ...

    def samples(self, claimant: str) -> tuple[Usage, ...]:
        """In time order."""
        ...


class IntentStore(Protocol):
    """What people asked for at run time: halt, drains, overrides, and node facts worth keeping for `why`."""

    def halted(self) -> str:
        """Reason if all writes are stopped, else ""."""
        ...

    def set_halt(self, reason: str, *, actor: str, at: datetime) -> None:
        """Stop all writes ("" = go on)."""
        ...

    def mode(self, pool: str, now: datetime) -> Mode | None:
        """A mode set at run time that has not expired; None = as configured."""
        ...

    def set_mode(self, pool: str, mode: Mode, until: datetime | None, *, actor: str, at: datetime) -> None:
        """Set the mode until an instant."""
        ...

    def overrides(self, pool: str, at: datetime) -> tuple[Override, ...]:
        """Floors in force."""
        ...

    def add_override(self, override: Override) -> None:
        """Keep a floor, once: the same one again changes nothing."""
        ...

    def drains(self, pool: str) -> frozenset[str]:
        """Node ids a person asked to drain ("*" = all)."""
        ...

    def set_drain(self, pool: str, node_ids: Iterable[str]) -> None:
        """Replace the set."""
        ...


@dataclass(frozen=True, slots=True)
class PoolSnapshot:
    """What a pass saw of a pool, kept for money spent, pictures and `why`.

    Attributes:
        nodes: group -> phase -> count. allocatable, used: of ready nodes; used = what tasks on them claim.
        usd_per_hour: of everything that exists; None = no price known.
        target: running nodes the plan wanted; waiting: demand that was ready and had no node.
    """

    pool: str
    at: datetime
    nodes: Mapping[str, Mapping[str, int]]
    allocatable: Resources
    used: Resources
    usd_per_hour: float | None
    target: int
    waiting: Resources


class HistoryStore(Protocol):
    """Snapshots of pools over time."""

    def record(self, snapshot: PoolSnapshot) -> None:
        """Keep it. Idempotent by (pool, at)."""
        ...

    def snapshots(
        self, pool: str, *, since: datetime | None = None, until: datetime | None = None
    ) -> tuple[PoolSnapshot, ...]:
        """In time order."""
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    """The store as use cases see it."""

    work: WorkStore
    forecasts: ForecastStore
    plans: PlanStore
    audit: AuditLog
    ledger: ReservationLedger
    leads: LeadTimeStore
    votes: VoteStore
    models: ModelStore
    learning: LearningStore
    promises: PromiseStore
    leases: LeaseStore
    samples: SampleStore
    intent: IntentStore
    history: HistoryStore
