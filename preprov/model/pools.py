"""Pools: groups, modes, what they are to reach, and guards."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from preprov.model.adjusting import Adjusting
from preprov.model.adoption import Gate
from preprov.model.curved import CurvePacking, Probing
from preprov.model.errors import ConfigError
from preprov.model.limits import Deadline
from preprov.model.offerings import NO_LEAD, LeadTime, Offering, Preload, Standby
from preprov.model.resources import KINDS, Resources

UNLIMITED: Final = 1e12
FAILURE_PRICE: Final = 2.0
"""What a failed attempt is held to cost, 1 being what was allocated to it: it makes people look, too."""


class Mode(StrEnum):
    """How far preprov may act on a pool; each includes the one before."""

    OBSERVE = "observe"
    RECOMMEND = "recommend"
    FLOOR = "floor"
    """May only raise, within its window and step."""
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Group:
    """One vendor group (ASG, MIG, VMSS, Slurm partition, local) and what it declares it can do.

    Attributes:
        standby_states: states its nodes can be kept in; always contains RUNNING.
        mixes_states: nodes of several standby states at once.
        chooses_offering, chooses_zone: a launch may name them.
        leases: a raise can carry an expiry the vendor itself enforces.
        max_step: nodes launched and woken within any minute, at most.
        standby_usd_per_hour: price of a kept node per state (disk).
        lead: configured lead time per state (COLD, STOPPED, HIBERNATED); learnt ones take precedence.
    """

    name: str
    provider: str
    offerings: tuple[Offering, ...]
    standby_states: frozenset[Standby] = frozenset({Standby.RUNNING})
    mixes_states: bool = True
    chooses_offering: bool = True
    chooses_zone: bool = False
    leases: bool = False
    min_nodes: int = 0
    max_nodes: int = 1000
    max_step: int = 1000
    standby_usd_per_hour: Mapping[Standby, float] = field(default_factory=lambda: MappingProxyType({}))
    lead: Mapping[Standby, LeadTime] = field(default_factory=lambda: MappingProxyType({}))
    options: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if not self.offerings:
            raise ConfigError(
                f"group {self.name} has no offerings", where=self.name, hint="add [[pool.group.offering]]"
            )
        if Standby.RUNNING not in self.standby_states:
            object.__setattr__(self, "standby_states", self.standby_states | {Standby.RUNNING})

    @property
    def quickest_kept(self) -> Standby | None:
        """The state that is back soonest of those in which nodes are kept without running; None = there is none."""
        return next((s for s in (Standby.HIBERNATED, Standby.STOPPED) if s in self.standby_states), None)

    def lead_time(self, state: Standby) -> LeadTime:
        """Configured lead time from that state; RUNNING is 0, an unknown one is that of COLD."""
        if state is Standby.RUNNING:
            return NO_LEAD
        return self.lead.get(state) or self.lead.get(Standby.COLD) or LeadTime(180.0, 420.0)


@dataclass(frozen=True, slots=True)
class Guards:
    """Hard caps, checked just before each call. They stop launches only; they never end a node.

    Attributes:
        wave: nodes that one pass begins at most, give or take a quarter, so that not all of a big wave boot, pull and
            read at once; the rest follows with the next passes.
    """

    max_nodes: int = 1000
    max_usd_per_hour: float | None = None
    max_usd_per_day: float | None = None
    max_launches_per_minute: int | None = None
    stale_source_s: float = 900.0
    wave: int = 100


@dataclass(frozen=True, slots=True)
class Objective:
    """What the plan is to reach.

    Attributes:
        shortage_usd_per_core_hour: price of a core-hour of waiting; the service level follows from it.
        hit_rate: if set, the share of task instances that must start without provision wait; takes precedence.
        late_usd_per_minute: what each minute costs that a run ends after it was to have landed.
    """

    shortage_usd_per_core_hour: float = 1.0
    hit_rate: float | None = None
    late_usd_per_minute: float = 0.0

    def __post_init__(self) -> None:
        if self.hit_rate is not None and not 0 < self.hit_rate < 1:
            raise ConfigError(f"hit_rate must be in (0, 1), got {self.hit_rate}")


@dataclass(frozen=True, slots=True)
class Window:
    """Hours of the day (pool's zone) and weekdays in which preprov may raise; may wrap past midnight."""

    start_s: int = 0
    end_s: int = 86400
    weekdays: frozenset[int] = frozenset(range(7))

    def contains(self, local: datetime) -> bool:
        """True if the local wall-clock instant lies within."""
        s = local.hour * 3600 + local.minute * 60 + local.second
        if self.start_s <= self.end_s:
            return local.weekday() in self.weekdays and self.start_s <= s < self.end_s
        if s >= self.start_s:
            return local.weekday() in self.weekdays
        return (local - timedelta(days=1)).weekday() in self.weekdays and s < self.end_s


@dataclass(frozen=True, slots=True)
class Within:
    """So many nodes within hours of the day and weekdays of a zone; "" = the pool's zone."""

    nodes: int
    window: Window = Window()
    zone: str = ""


@dataclass(frozen=True, slots=True)
class Override:
    """A person's floor until a time, with a reason."""

    pool: str
    floor: int
    since: datetime
    until: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Pool:
    """The nodes one kind of work runs on, managed as one.

    Attributes:
        binding: the resources that limit how many tasks fit on a node.
        preload_gib: room on a node's disk for images and datasets; None = not said.
        step_seconds: step of its plans. horizon_s: how far they look.
        lease_s: a raise expires after this unless renewed.
        node_ttl_s: a node whose agent is silent this long may be collected as an orphan (see the order of precedence).
        country: whose holidays count. forecasters: installed ones that join the mix of the learnt part, by name.
        floors: nodes that run within their hours whatever the demand; the highest counts.
        disruptions: at most so many nodes are given up at once within their hours; the lowest counts. At once = on
            their way down, or gone for less than a minute.
        deadlines: of runs, by DAG and tenant; the first that matches counts. solver_s: that the optimiser may take.
        gate: what it has to show before preprov may raise on it, or lower; None = nothing.
        adjusting: how what running tasks may use is changed; None = it is not.
        packing: how reservations follow curves; None = they are what tasks ask for.
        probing: what probe runs are weighed by; None = there are none.
        failure_price: of a failed attempt where it is said what tasks should ask for; 1 = what was allocated to it.
    """

    name: str
    groups: tuple[Group, ...]
    zone: str = "UTC"
    mode: Mode = Mode.OBSERVE
    binding: tuple[str, ...] = KINDS[:3]
    objective: Objective = Objective()
    guards: Guards = Guards()
    window: Window = Window()
    preload: Preload = field(default_factory=Preload)
    preload_gib: float | None = None
    step_seconds: int = 300
    horizon_s: int = 86400
    lease_s: float = 900.0
    node_ttl_s: float = 600.0
    country: str | None = None
    forecasters: tuple[str, ...] = ()
    floors: tuple[Within, ...] = ()
    disruptions: tuple[Within, ...] = ()
    deadlines: tuple[Deadline, ...] = ()
    solver_s: float = 5.0
    gate: Gate | None = None
    adjusting: Adjusting | None = None
    packing: CurvePacking | None = None
    probing: Probing | None = None
    failure_price: float = FAILURE_PRICE

    def __post_init__(self) -> None:
        if not self.groups:
            raise ConfigError(f"pool {self.name} has no group", where=self.name, hint="add [[pool.group]]")
        names = [g.name for g in self.groups]
        if len(set(names)) != len(names):
            raise ConfigError(f"pool {self.name}: group names repeat: {names}", where=self.name)
        bad = set(self.binding) - set(KINDS)
        if bad:
            raise ConfigError(f"pool {self.name}: unknown binding resource {sorted(bad)}", where=self.name)

    def claimable(self, offering: Offering) -> Resources:
        """What tasks may claim together on a node of this offering; what does not bind is not limited."""
        room = offering.allocatable.as_dict()
        return Resources.of({k: room[k] if k in self.binding else UNLIMITED for k in KINDS})

    def group(self, name: str) -> Group:
        """The group of that name.

        Raises:
            ConfigError: there is none.
        """
        for g in self.groups:
            if g.name == name:
                return g
        raise ConfigError(f"pool {self.name} has no group {name}", where=self.name)
