"""What is intended and done: plans, audit, reservations, votes, leases; and the ports together."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from preprov.contracts.access import EventStore, TokenStore
from preprov.contracts.adoption import AdoptionStore
from preprov.contracts.learning import ForecastStore, LeadTimeStore, LearningStore, ModelStore, PromiseStore
from preprov.contracts.live import SourceStore
from preprov.contracts.work import SampleStore, WorkStore
from preprov.model.plans import ActionRecord, CapacityPlan
from preprov.model.pools import Mode, Override
from preprov.model.prices import PriceRow
from preprov.model.reservations import Binding, Purpose, Quota, Reservation
from preprov.model.resources import ZERO, Resources
from preprov.model.windows import RecurringWindow


class PlanStore(Protocol):
    """Made plans."""

    def save(self, plan: CapacityPlan) -> None:
        """Keep it, by plan_id."""
        ...

    def get(self, plan_id: str) -> CapacityPlan | None:
        """One by id or unique prefix."""
        ...

    def latest(self, pool: str, *, ahead: bool = False) -> CapacityPlan | None:
        """The last one made; `ahead`: of the last hundred, the last that has targets, not only what is done at once."""
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

    Invariants: at no instant do committed claims on a node exceed its allocatable, where what runs under a window or a
    booking is counted once; what is left of a booking never grows; at most one live reservation per (pool, tenant,
    claimant); at most one committed claim on a volume of a pool; committed claims on units of a type never exceed what
    `allot` was told there is; nothing that was answered is lost by a crash.
    """

    def reserve(self, reservation: Reservation, capacity: Resources | None = None) -> Reservation:
        """Add a SOFT reservation. A live one of the same claimant is returned instead of a second.

        Raises OverbookedError if `capacity` is given and the peak of all live claims in the window would exceed it,
        ReservationError if the id was used by one that is final.
        """
        ...

    def reserve_all(
        self, gang: Sequence[Reservation], capacity: Resources | None = None, quota: Quota | None = None
    ) -> tuple[Reservation, ...]:
        """Add SOFT reservations of one pool, all or none. Idempotent by the gang's name, or the id of the only one.

        If that is there, live or not, its reservations are returned as they are now; if a claimant has a live one, that
        one and its gang are. `quota` limits the tenant's live claims, those of tasks that are not committed left out.
        Raises OverbookedError if all together exceed `capacity` or `quota`.
        """
        ...

    def get(self, reservation_id: str) -> tuple[Reservation, ...]:
        """The reservation of that id, or all of the gang of that name in the order made; empty if there is none."""
        ...

    def commit(self, reservation_id: str, node_id: str, allocatable: Resources, at: datetime) -> Reservation:
        """Bind to a node, as `commit_all` with one."""
        ...

    def commit_all(
        self, bindings: Sequence[Binding], at: datetime, quota: Quota | None = None
    ) -> tuple[Reservation, ...]:
        """Bind to nodes, all or none; idempotent. A booking that one is under becomes smaller by it, for good.

        Tasks that are committed there and should have ended by `at` count on until they are released. `quota` limits
        what the tenant has committed. Raises OverbookedError, ReservationError (not found, expired, final).
        """
        ...

    def release(self, reservation_id: str, reason: str = "") -> Reservation:
        """Give back. Idempotent. Raises ReservationError if there is none of that id."""
        ...

    def resize(self, reservation_id: str, amount: Resources, allocatable: Resources, at: datetime) -> Reservation:
        """Let a committed task claim so much of its node from `at` on. Idempotent.

        Raises OverbookedError if the node, of which `allocatable` may be claimed together, has no room for it;
        ReservationError (not found, not a committed task's).
        """
        ...

    def grow(self, reservation_id: str, gib: float) -> Reservation:
        """A committed claim on a volume has so much now; less than it had changes nothing. Idempotent.

        Raises ReservationError (not found, no committed claim on a volume).
        """
        ...

    def allot(
        self, reservation_id: str, node_id: str, amounts: Mapping[str, float], there: Mapping[str, float], at: datetime
    ) -> Reservation:
        """Bind a claim on units to a node, if it is not yet, with so much; what is not named stays. Idempotent.

        Raises OverbookedError if committed claims of its type in its pool would exceed `there` together, of which
        nothing is there that is not named; ReservationError (not found, no claim on units, expired, final, bound to
        another node).
        """
        ...

    def rebook(self, reservation_id: str, expires_at: datetime, reason: str) -> Reservation:
        """Back from COMMITTED to SOFT, void after `expires_at`: its node is gone. Any other is returned unchanged."""
        ...

    def expire(self, pool: str, at: datetime) -> int:
        """Void soft claims whose time is over, release commitments held until now; returns how many.

        Tasks and volumes are left alone: they are held until they are released.
        """
        ...

    def reservations(
        self, pool: str | None = None, *, live: bool = True, node_id: str | None = None
    ) -> tuple[Reservation, ...]:
        """Reservations by start."""
        ...

    def page(
        self,
        purposes: Collection[Purpose],
        *,
        limit: int,
        after: tuple[datetime, str] | None = None,
        tenant: str | None = None,
        pools: Sequence[str] = (),
        live: bool = True,
    ) -> tuple[tuple[Reservation, ...], ...]:
        """Reservations of these purposes by start and id: at most `limit` of them, a gang counting as one.

        A gang stands where the one of its members does that has the least id, and is in the order made; of `live` ones
        what is over is left out. `after`: (start, id) of that one of what was listed last; no pools = all.
        """
        ...

    def forget(self, before: datetime, limit: int) -> int:
        """Drop some `limit` that were over before then, the oldest first and gangs whole; returns how many.

        All or none of them. Their ids, and the names of their gangs, are as if they had never been used.
        """
        ...


class WindowStore(Protocol):
    """Recurring windows: what is to be held again and again. Their turns are reservations of the ledger."""

    def put(self, window: RecurringWindow) -> None:
        """Keep it, in place of an earlier one of that pool, tenant and name."""
        ...

    def add(self, window: RecurringWindow) -> RecurringWindow:
        """Keep it, unless there is one of that pool, tenant and name; returns the one that is kept."""
        ...

    def remove(self, pool: str, tenant: str, name: str) -> bool:
        """Forget it; False if there is none."""
        ...

    def windows(self, pool: str | None = None, tenant: str | None = None) -> tuple[RecurringWindow, ...]:
        """By pool, tenant and name."""
        ...


class VoteStore(Protocol):
    """Scale-down hysteresis that survives a restart: since when a node has been found superfluous."""

    def votes(self, pool: str) -> Mapping[str, datetime]:
        """node_id -> the first of its unbroken votes."""
        ...

    def replace(self, pool: str, votes: Mapping[str, datetime]) -> None:
        """Set all votes of the pool; nodes not named lose theirs."""
        ...


class LeaseStore(Protocol):
    """One pass over one pool at a time."""

    def hold(self, pool: str, holder: str, ttl_s: float, now: datetime) -> AbstractContextManager[None]:
        """Hold the pool's lease inside the `with`; an expired one is taken over. LeaseHeldError if another has it."""
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
        foreign: of ready nodes, what work holds that preprov has not started, beyond what is booked there.
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
    foreign: Resources = ZERO


class HistoryStore(Protocol):
    """Snapshots of pools over time."""

    def instants(self, pool: str, *, since: datetime) -> tuple[datetime, ...]:
        """When the pool was looked at since then, in time order; the snapshots themselves are not read."""
        ...

    def record(self, snapshot: PoolSnapshot) -> None:
        """Keep it. Idempotent by (pool, at)."""
        ...

    def snapshots(
        self, pool: str, *, since: datetime | None = None, until: datetime | None = None
    ) -> tuple[PoolSnapshot, ...]:
        """In time order."""
        ...


class PriceStore(Protocol):
    """What clouds said that offerings cost."""

    def save(self, rows: Sequence[PriceRow], *, at: datetime) -> int:
        """Keep prices heard of at `at`; returns how many were new.

        Idempotent by (instance type, zone, capacity type, since): the same one again replaces its price.
        """
        ...

    def rows(self, *, instance_types: Collection[str] | None = None) -> tuple[PriceRow, ...]:
        """Of these types (None = all), by type, zone, capacity type and time."""
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    """The store as use cases see it."""

    work: WorkStore
    sources: SourceStore
    forecasts: ForecastStore
    plans: PlanStore
    audit: AuditLog
    ledger: ReservationLedger
    windows: WindowStore
    leads: LeadTimeStore
    votes: VoteStore
    models: ModelStore
    learning: LearningStore
    promises: PromiseStore
    leases: LeaseStore
    samples: SampleStore
    intent: IntentStore
    history: HistoryStore
    adoptions: AdoptionStore
    tokens: TokenStore
    events: EventStore
    prices: PriceStore
