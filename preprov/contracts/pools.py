"""Nodes: what a provider can do, and must; prices."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol, runtime_checkable

from preprov.model.pools import Offering, Pool, PoolObservation, Preload, Standby
from preprov.model.prices import Found, PriceRow


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


@runtime_checkable
class LeavesNotes(Protocol):
    """A provider whose nodes read what is noted on them."""

    def leave_notes(self, pool: Pool, node_ids: Sequence[str], notes: Mapping[str, str]) -> None:
        """Write notes on nodes that exist; other notes stay, an absent node is left out. Idempotent."""
        ...


class PriceBook(Protocol):
    """What things cost."""

    def usd_per_hour(self, offering: Offering, at: datetime) -> float | None:
        """Price of a running node-hour; None = not known (plan by node-hours and say so)."""
        ...

    def standby_usd_per_hour(self, offering: Offering, state: Standby, at: datetime) -> float | None:
        """Price of a kept node-hour in that state; 0 for COLD."""
        ...


@runtime_checkable
class ExplainsPrices(Protocol):
    """A price book that can say where a price comes from, and how often spot nodes are taken back."""

    def found(self, offering: Offering, at: datetime) -> Found:
        """The price in force and its source."""
        ...

    def interruptions_per_hour(self, offering: Offering, at: datetime) -> float | None:
        """How often a running node of it is taken back; None = not known."""
        ...

    def history(self, instance_type: str) -> tuple[PriceRow, ...]:
        """All prices known of a type, by zone, capacity type and time."""
        ...
