"""What a plan is made from, and what making it returns."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, TypeAlias

from numpy.typing import NDArray

from preprov.contracts import PriceBook
from preprov.model.demand import DemandCurve
from preprov.model.limits import SharedLimit
from preprov.model.nodes import PoolObservation
from preprov.model.plans import CapacityPlan
from preprov.model.pools import Mode, Override, Pool
from preprov.model.reservations import Reservation
from preprov.model.resources import ZERO, Resources
from preprov.planning.lately import Lately
from preprov.planning.leads import Leads
from preprov.planning.optimum import Optimum
from preprov.planning.packing import Kind, Mix

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Use:
    """What a pool has of a shared limit now: nodes and cores of the groups that count; money of the whole pool."""

    nodes: int = 0
    cpu: float = 0.0
    spent_today_usd: float = 0.0
    usd_per_hour: float = 0.0

    def __add__(self, other: "Use") -> "Use":
        return Use(
            self.nodes + other.nodes,
            self.cpu + other.cpu,
            self.spent_today_usd + other.spent_today_usd,
            self.usd_per_hour + other.usd_per_hour,
        )


@dataclass(frozen=True)
class SharedRoom:
    """A limit that this pool shares, and what the others have of it. others: pool -> its use."""

    limit: SharedLimit
    others: Mapping[str, Use] = field(default_factory=lambda: MappingProxyType({}))

    def outside(self, pools: Collection[str] = ()) -> Use:
        """What all others have together, these pools left out."""
        return sum((use for name, use in self.others.items() if name not in pools), Use())


@dataclass(frozen=True)
class Lane:
    """Work of a pool that only some of its offerings hold, planned on those alone (see `planning.lanes`).

    Attributes:
        offerings: (group, offering key). demand: of that work; it is not in the pool's own.
        waiting, wave, largest, grain: as in PlanInputs.
    """

    name: str
    offerings: frozenset[tuple[str, str]]
    demand: DemandCurve
    waiting: Resources = ZERO
    wave: tuple[Kind, ...] = ()
    largest: Resources | None = None
    grain: Mix | None = None


@dataclass(frozen=True)
class Foreseen:
    """Mean demand that is expected of somebody: (T, 5) in the order of KINDS, from `start` on."""

    start: datetime
    step_s: int
    mean: Array


@dataclass(frozen=True)
class PlanInputs:
    """Everything a plan depends on; equal inputs make an equal plan.

    Attributes:
        votes: node_id -> since when it has been found superfluous, as the last plan left them.
        drains: node ids a person asked to drain ("*" = all).
        committed: live reservations. A node named by a COMMITTED one is never ended. Bookings and windows add to the
            demand, as far as they exceed what is foreseen of whom they are for; tasks' own claims are in it already.
        foreseen: what reservations say they cover -> its mean demand.
        busy_until: node -> when what runs on it should be over, of busy nodes of which that can be told.
        waiting: demand that is ready now, could run on some offering, and found no room on any ready node.
        source_age_s: age of the newest fact about work; older than guards.stale_source_s stops raises.
        largest: the largest request of one task; a node that cannot hold it is not chosen.
        grain: the sizes of tasks, as they run side by side: whole tasks must fit on a node.
        wave: what `waiting` is made of, if that is known: it is packed task by task.
        lanes: work that is planned on offerings of its own, and not in `demand`. lane: name of the one that this is.
        halted: reason if all writes are stopped, else "".
        tick_s: until the next plan; None = the demand's step.
        urgency: (T,) USD per core-hour of waiting on top of the pool's price, by demand step: the cost of lateness.
        interruptions: offering key -> interruptions per running hour, of spot nodes.
        rework_s: seconds of work that an interruption loses, expected.
        shared: limits across pools, with what the others have of them.
        lately: what counts against ramps and disruption budgets.
        held: the optimum that the last plan went by; it is found anew if the inputs moved.
        found: an optimum that was found just now, jointly with other pools, and why; comes before `held`.
        optimise: False = by rule of thumb alone (base stock and break-even), as when the solver fails.
        foresee: also plan what comes after now. False is quicker where nobody reads it (replay): the decisions due now
            are the same, cost and waiting are then those of the actions due now alone.
        fills: groups whose vendor keeps nodes in standby by itself, and launches them into it.
        nameless: groups of which no node in service can be named: whoever owns their count lowers it.
        reacts: which nodes run at which second is decided between plans (`planning.reaction`): the plan then only sees
            to how many exist.
    """

    pool: Pool
    mode: Mode
    now: datetime
    observation: PoolObservation
    demand: DemandCurve
    leads: Leads
    prices: PriceBook
    votes: Mapping[str, datetime] = field(default_factory=lambda: MappingProxyType({}))
    overrides: tuple[Override, ...] = ()
    drains: frozenset[str] = frozenset()
    committed: tuple[Reservation, ...] = ()
    foreseen: Mapping[str, Foreseen] = field(default_factory=lambda: MappingProxyType({}))
    busy_until: Mapping[str, datetime] = field(default_factory=lambda: MappingProxyType({}))
    waiting: Resources = ZERO
    spent_today_usd: float = 0.0
    launched_last_minute: int = 0
    lately: Lately = field(default_factory=Lately)
    forecast_id: str = ""
    source_age_s: float = 0.0
    largest: Resources | None = None
    grain: Mix | Resources | None = None
    wave: tuple[Kind, ...] = ()
    lanes: tuple[Lane, ...] = ()
    lane: str = ""
    halted: str = ""
    tick_s: float | None = None
    urgency: Sequence[float] | None = None
    interruptions: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    rework_s: float = 0.0
    shared: tuple[SharedRoom, ...] = ()
    held: Optimum | None = None
    found: tuple[Optimum, str] | None = None
    optimise: bool = True
    foresee: bool = True
    fills: frozenset[str] = frozenset()
    nameless: frozenset[str] = frozenset()
    reacts: bool = False


@dataclass(frozen=True)
class PlanOutcome:
    """The plan, and what to keep until the next one.

    Attributes:
        votes: for scale-down (nodes not named lose theirs). optimum: that it went by; hand it in as `held`.
        binding: quotas, budgets and guards that keep the pool from having what it wants, now or later.
        later: a ramp or a disruption budget leaves something for the next minute.
    """

    plan: CapacityPlan
    votes: Mapping[str, datetime]
    optimum: Optimum | None = field(default=None, compare=False)
    binding: tuple[str, ...] = ()
    later: bool = False
