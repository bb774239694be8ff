"""Nodes: what a provider can do, and must; prices."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, Protocol, runtime_checkable

from preprov.model.nodes import PoolObservation
from preprov.model.offerings import Offering, Preload, Standby
from preprov.model.pools import Pool
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
        names_serving: a node in service can be kept or ended by name; else only whoever owns the count may lower it.
        marks_launches: a node carries the token and the tags of the launch that made it; else its count tells.
        steps_down: a hibernated node can be made a stopped one without waking it.
        sets_targets: the vendor itself keeps so many nodes in standby (`SetsTargets`).
        reacts: nodes may wake and sleep at every tick, seconds apart; else the group goes by plans alone.
    """

    standby_states: frozenset[Standby]
    mixes_states: bool = True
    chooses_offering: bool = True
    chooses_zone: bool = False
    leases: bool = False
    preloads: bool = True
    interrupts: bool = False
    names_kept: bool = True
    names_serving: bool = True
    marks_launches: bool = True
    steps_down: bool = True
    sets_targets: bool = False
    reacts: bool = True


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
    `GivesNotice`, `Quotes`, `Examined`, `Adopts`, `LeasesRaises`, `RecallsLeads`, `KeepsVolumes`.

    Each method says four things. *Idempotent*: what a second call does. *Consistent*: when its effect is seen.
    *Absent*: what a name means that is not there. *Retryable*: which errors the next pass may try again; those are
    InsufficientCapacityError, ThrottledError and ConflictError wherever they come from. QuotaExceededError,
    NotAuthorisedError, NotFoundError, NodeBusyError and any other PoolError are not.
    """

    name: str

    def capabilities(self, pool: Pool, group: str) -> Capabilities:
        """What this group can do.

        Idempotent: constant for the life of the group. Consistent: from its declaration, asks nobody. Absent:
        ConfigError for a group the pool does not have. Retryable: nothing to retry.
        """
        ...

    def observe(self, pool: Pool) -> PoolObservation:
        """All nodes that carry this pool's tag, in every state, ended ones left out.

        Idempotent: reads only. Consistent: may lag behind writes by as much as the vendor's listings do; a launch that
        is not listed yet is found again by its token. Absent: a node that is not in a complete observation is gone; a
        group that could not be listed is named in `problems` and makes `complete` False: absence then proves nothing.
        Retryable: never raises for one group; whatever went wrong is a problem of this observation, the next may do.
        What a node says to be `foreign` is nobody's to promise; what preprov has started is not among it.
        """
        ...

    def launch(self, request: LaunchRequest) -> tuple[str, ...]:
        """Begin to launch; returns the ids of the nodes of this token (fewer than `count` if fewer could be had).

        Idempotent: by token, over restarts; what a token made and was ended is not made again. Consistent: returns long
        before the nodes are ready, watch `observe`. Absent: ids of nodes that ended meanwhile are left out. Retryable:
        InsufficientCapacityError, ThrottledError, ConflictError, all under the same token; UnfinishedError says that
        nodes were made and that it has to be sent again; QuotaExceededError and NotAuthorisedError are for a person.
        """
        ...

    def start(self, pool: Pool, node_ids: Sequence[str], preload: Preload) -> None:
        """Bring stopped or hibernated nodes back.

        Idempotent: a running or warming one is left alone, with what runs there. Consistent: returns before they are
        ready, watch `observe`. Absent: NotFoundError names the missing, after the others were started. Retryable:
        InsufficientCapacityError (they stay kept), ThrottledError, ConflictError (one is still on its way to sleep).
        """
        ...

    def hibernate(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """Suspend idle nodes, memory kept; NodeBusyError, before anything is done, if one runs a task.

        Idempotent: a hibernated one is left alone. Consistent: the nodes take no task from the moment of the call; they
        are shown as hibernated when the vendor is done. Absent: NotFoundError names the missing, nothing was done.
        Retryable: ThrottledError, ConflictError (an agent did not confirm, or the node changed meanwhile).
        """
        ...

    def stop(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """Stop idle nodes, disk kept; NodeBusyError, before anything is done, if one runs a task.

        Idempotent, Consistent, Absent and Retryable: as for `hibernate`.
        """
        ...

    def drain(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """The nodes take no new task from now on; what runs there ends by itself.

        Idempotent: asked again nothing changes. Consistent: the agents hear of it within seconds. Absent: NotFoundError
        names the missing, after the others were drained. Retryable: ThrottledError, ConflictError.
        """
        ...

    def terminate(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """End idle nodes and their disks; NodeBusyError, before anything is done, if one runs a task.

        The check and the end are one step on the node itself, so that no task slips in between; a desired count goes
        down by the nodes that are named and never by itself.

        Idempotent: ending what is gone is success. Consistent: the nodes take no task from the moment of the call; they
        vanish from `observe` when the vendor is done. Absent: success. Retryable: ThrottledError, ConflictError (an
        agent did not confirm; the node takes tasks as before).
        """
        ...


@runtime_checkable
class SetsTargets(Protocol):
    """A provider whose vendor keeps a number of nodes in standby by itself (ASG warm pool, standby pool)."""

    def targets(self, pool: Pool, group: str) -> Mapping[Standby, int]:
        """How many nodes the vendor is set to keep, per state that it keeps by itself.

        Idempotent: it writes nothing. Consistent: at once. Absent: a group of which nothing is kept has no state here.
        Retryable: ThrottledError.
        """
        ...

    def set_targets(self, pool: Pool, group: str, targets: Mapping[Standby, int]) -> None:
        """Have the vendor keep so many nodes per kept state; RUNNING is not named here, launch and terminate do that.

        PoolError for a state the group does not keep. No node in service is touched, whatever the numbers.

        Idempotent: the same targets again change nothing. Consistent: over minutes, watch `observe`. Absent: a state
        that is not named stays as it is set. Retryable: ThrottledError, ConflictError.
        """
        ...


@runtime_checkable
class Tended(Protocol):
    """A provider whose vendor waits for our word: which node was verified, which one works, that we are still there."""

    def tend(self, pool: Pool, held: Collection[str] = ()) -> tuple[str, ...]:
        """Let verified nodes go on, protect busy ones from the vendor, renew the lease; returns a line per thing done.

        Where it is left out the vendor's own time-outs decide, and a leased raise ends. It writes, so call it only
        where the pool's mode allows writes, and before tasks are handed to the nodes in `held`.

        Idempotent: a second call finds nothing to do. Consistent: at once. Absent: a node that went meanwhile is passed
        over. Retryable: ThrottledError, ConflictError.

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
        """What was said since the last time, of this pool's nodes only.

        Idempotent: said again until settled (at least once). Consistent: as soon as the vendor says it. Absent: nothing
        was said; that is no promise. Retryable: ThrottledError.
        """
        ...

    def settle_notices(self, pool: Pool, notices: Sequence[Notice]) -> None:
        """These are dealt with and need not be said again.

        Idempotent: settling twice is fine. Consistent: from the next call of `notices`. Absent: one that is unknown is
        passed over. Retryable: ThrottledError.
        """
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
        """Prices of the group's offerings from `since` on, oldest first.

        Idempotent: reads only. Consistent: as the vendor publishes them. Absent: an offering without a known price is
        left out. Retryable: ThrottledError.
        """
        ...


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at before anything is written."""

    what: str
    state: Literal["ok", "warn", "bad"]
    found: str
    hint: str = ""


ANOTHER_PREPROV: Final = "another preprov"
"""How the name of an other writer begins that is one of us, with a store of its own."""


@runtime_checkable
class Examined(Protocol):
    """A provider that can say, without writing anything, whether it may and can do its work."""

    def examine(self, pool: Pool) -> tuple[Finding, ...]:
        """Credentials, rights, groups, hooks, quotas.

        Idempotent: reads only. Consistent: as of now. Absent: a group that is not there is a finding. Retryable: raises
        nothing; what is wrong is a finding, never an exception.
        """
        ...

    def other_writers(self, pool: Pool, group: str) -> tuple[str, ...]:
        """Names of whoever else writes this group's counts: an autoscaler, a policy, a schedule, another preprov.

        Idempotent: reads only. Consistent: as of now. Absent: none named = ours alone, as far as the vendor can tell.
        Retryable: ThrottledError; who could not be asked may be there.
        """
        ...


@runtime_checkable
class Adopts(Protocol):
    """A provider that can give a group back as it was found."""

    def baseline(self, pool: Pool, group: str) -> Mapping[str, object]:
        """Every setting of the group that preprov may touch, as plain JSON.

        Idempotent: reads only. Consistent: as of now. Absent: NotFoundError, there is no such group; a group without
        settings has an empty baseline. Retryable: ThrottledError.
        """
        ...

    def restore(
        self, pool: Pool, group: str, baseline: Mapping[str, object], held: Collection[str] = ()
    ) -> tuple[str, ...]:
        """Put those settings back exactly; returns a line per setting changed. Busy nodes stay, and are told.

        What new machines boot from (`BOOTS_FROM`) goes back only from what a rollout of ours wrote there.

        Nodes in `held` count as busy: work is promised to them.

        Idempotent: nothing is said where nothing differs. Consistent: settings at once, nodes as `terminate`. Absent:
        what the baseline does not name is left alone; PoolError if it is of another group. Retryable: ThrottledError,
        ConflictError.
        """
        ...


@runtime_checkable
class SetsFloor(Protocol):
    """A provider whose vendor keeps a least number of nodes in service, and lets nobody else go below it."""

    def set_floor(self, pool: Pool, group: str, nodes: int) -> bool:
        """Have at least so many in service, never fewer than before preprov came; True if that was a change.

        Where somebody else moves the count this is all that is written. Lowering it ends no node: whether one goes is
        theirs to say. PoolError if the group has no floor.

        Idempotent: the same number again changes nothing. Consistent: at once, nodes as `launch`. Absent:
        NotFoundError, there is no such group. Retryable: ThrottledError, ConflictError.
        """
        ...


@runtime_checkable
class LeasesRaises(Protocol):
    """A provider whose vendor ends a raise by itself if nobody renews it."""

    def lease(self, pool: Pool, group: str, until: datetime) -> None:
        """Have the vendor put the group's counts back at `until`, to what they were before the first raise.

        Launches and starts do this by themselves, before they raise; later calls renew it, and `tend` does. PoolError
        if the group cannot be leased.

        Idempotent: by (pool, group), there is one lease. Consistent: at once. Absent: NotFoundError, there is no such
        group. Retryable: ThrottledError, ConflictError.
        """
        ...


@runtime_checkable
class LeavesNotes(Protocol):
    """A provider whose nodes read what is noted on them."""

    def leave_notes(self, pool: Pool, node_ids: Sequence[str], notes: Mapping[str, str]) -> None:
        """Write notes on nodes that exist; other notes stay.

        Idempotent: the same notes again change nothing. Consistent: the agents read them within seconds. Absent: such a
        node is left out. Retryable: ThrottledError, ConflictError.
        """
        ...


@runtime_checkable
class KeepsNodes(Protocol):
    """A provider whose vendor takes idle nodes away by a timer of its own, and can be told not to."""

    def keep(self, pool: Pool, node_ids: Collection[str], until: datetime) -> tuple[str, ...]:
        """Have the vendor's timer spare these nodes; returns those for which something had to be done.

        Idempotent: a node that is spared already is left alone. Consistent: at once, for a while that the vendor knows
        and that ends by itself: called at every pass it keeps a node, left out it does not. Absent: one that is busy,
        on its way or gone is left alone. Retryable: ThrottledError, ConflictError.

        Args:
            pool: the pool.
            node_ids: nodes that are wanted.
            until: the end of the raise, for vendors that take one.
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
