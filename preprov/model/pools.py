"""Pools: groups, offerings, nodes, lead times, modes and guards."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from statistics import NormalDist
from types import MappingProxyType
from typing import Final

import numpy as np

from preprov.model.adjusting import Adjusting
from preprov.model.adoption import Gate
from preprov.model.agent import Gpu
from preprov.model.curved import CurvePacking, Probing
from preprov.model.errors import ConfigError
from preprov.model.foreign import Foreign
from preprov.model.limits import Deadline
from preprov.model.resources import KINDS, Resources
from preprov.model.work import DatasetRef, ImageRef

_Z95: Final = NormalDist().inv_cdf(0.95)
UNLIMITED: Final = 1e12
FAILURE_PRICE: Final = 2.0
"""What a failed attempt is held to cost, 1 being what was allocated to it: it makes people look, too."""


class Standby(StrEnum):
    """The state a node is kept in. COLD means it does not exist and must be launched."""

    RUNNING = "running"
    HIBERNATED = "hibernated"
    STOPPED = "stopped"
    COLD = "cold"


class Phase(StrEnum):
    """Where a node is on its way, as observed."""

    WARMING = "warming"
    """Launched or started, not yet ready: booting, unpacking, staging, being checked."""
    READY = "ready"
    """Verified; can take a task now."""
    DRAINING = "draining"
    """Takes no new work; what runs there ends by itself."""
    HIBERNATED = "hibernated"
    STOPPED = "stopped"
    FAILED = "failed"
    """Failed its check or never answered; it is never handed out."""
    LOST = "lost"
    """Exists, but its agent has not answered within its time to live."""


# Asked for every node at every tick; looking a member up by its name takes several times as long.
_RUNNING: Final = Standby.RUNNING
_KEPT_IN: Final = {Phase.HIBERNATED: Standby.HIBERNATED, Phase.STOPPED: Standby.STOPPED}


class CapacityType(StrEnum):
    """How the machine is bought."""

    ON_DEMAND = "on_demand"
    SPOT = "spot"
    RESERVED = "reserved"


class Mode(StrEnum):
    """How far preprov may act on a pool; each includes the one before."""

    OBSERVE = "observe"
    RECOMMEND = "recommend"
    FLOOR = "floor"
    """May only raise, within its window and step."""
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Offering:
    """Instance type x zone x capacity type, with what it holds and costs.

    Attributes:
        capacity: of the machine. overhead: what the system itself takes.
        usd_per_hour: None = no price known; plans are then made by node-hours.
        minimum_billing_s: a launch is billed at least this long.
    """

    instance_type: str
    capacity: Resources
    zone: str = ""
    capacity_type: CapacityType = CapacityType.ON_DEMAND
    usd_per_hour: float | None = None
    minimum_billing_s: float = 60.0
    overhead: Resources = field(default_factory=Resources)

    @property
    def key(self) -> str:
        """Stable name of the offering."""
        return f"{self.instance_type}/{self.zone or 'any'}/{self.capacity_type}"

    @property
    def allocatable(self) -> Resources:
        """Capacity less overhead."""
        return self.capacity.minus_clamped(self.overhead)


@dataclass(frozen=True, slots=True)
class LeadTime:
    """Time from decision to ready, lognormal with a floor of zero.

    Attributes:
        median_s: median, seconds; 0 = at once. p95_s: 95th percentile.
        observations: how many lie behind it; 0 = as configured.
    """

    median_s: float
    p95_s: float
    observations: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.median_s <= self.p95_s or not math.isfinite(self.p95_s):
            raise ConfigError(f"lead time needs 0 <= median <= p95, got {self.median_s}, {self.p95_s}")

    @property
    def sigma(self) -> float:
        """Standard deviation of the logarithm."""
        return math.log(self.p95_s / self.median_s) / _Z95 if self.median_s > 0 else 0.0

    def quantile(self, q: float) -> float:
        """Seconds within which a share q is ready; q in (0, 1)."""
        if self.median_s == 0:
            return 0.0
        return self.median_s * math.exp(self.sigma * NormalDist().inv_cdf(q))

    @property
    def mean_s(self) -> float:
        """Expected seconds."""
        return self.median_s * math.exp(self.sigma**2 / 2)

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """(n,) draws in seconds."""
        if self.median_s == 0:
            return np.zeros(n)
        return np.asarray(self.median_s * np.exp(self.sigma * rng.standard_normal(n)))

    def scaled(self, factor: float) -> "LeadTime":
        """The same shape, `factor` times as long."""
        return LeadTime(self.median_s * factor, self.p95_s * factor, self.observations)


NO_LEAD: Final = LeadTime(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Preload:
    """What must be on a node's disk, checked, before it is ready.

    Attributes:
        packages, commands: installed, and run by a shell, in this order, before images and datasets are fetched; on
            nodes of a cloud only, by their user data.
        join: commands run when a node is verified and handed over, not before; on nodes of a cloud only.
        min_read_mb_s: a dataset or image that is read back slower than this has failed; 0 = any speed will do.
    """

    images: tuple[ImageRef, ...] = ()
    datasets: tuple[DatasetRef, ...] = ()
    packages: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    join: tuple[str, ...] = ()
    min_read_mb_s: float = 0.0

    @property
    def digest(self) -> str:
        """16 hex digits of what it puts on a disk; what is only run at the hand-over, or checked, does not count."""
        images = [(i.uri, i.digest) for i in self.images]
        datasets = [(d.uri, d.key, d.sha256) for d in self.datasets]
        text = json.dumps([images, datasets, self.packages, self.commands])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def keys(self) -> frozenset[str]:
        """What a node that holds it reports as verified: image digests and dataset keys."""
        return frozenset((*(i.digest or i.uri for i in self.images), *(d.key for d in self.datasets)))

    def merged(self, other: "Preload") -> "Preload":
        """Union, order kept."""
        return Preload(
            tuple(dict.fromkeys(self.images + other.images)),
            tuple(dict.fromkeys(self.datasets + other.datasets)),
            tuple(dict.fromkeys(self.packages + other.packages)),
            tuple(dict.fromkeys(self.commands + other.commands)),
            tuple(dict.fromkeys(self.join + other.join)),
            max(self.min_read_mb_s, other.min_read_mb_s),
        )


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
    preload: Preload = Preload()
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


@dataclass(frozen=True, slots=True)
class Node:
    """One machine of a pool, as observed now.

    Attributes:
        since: when it entered its phase. created_at: when it was launched (billing starts here).
        running: ids of task runs its agent reports (`run_id/task_id#instance`); None = not observed, treated as busy.
        foreign: what of it work holds that preprov has not started; None = its provider cannot tell (see
            `control.foreign`).
        preloaded: digests and dataset keys verified on its disk.
        token: idempotency token of the launch that made it.
        devices: GPUs that its agent sees; None = nobody can tell.
        settling: DRAINING because it is on its way into standby, not because anybody drained it.
        machine: of a vendor's, where this is a cluster's node on it and it can be seen.
    """

    node_id: str
    pool: str
    group: str
    offering: Offering
    phase: Phase
    created_at: datetime
    since: datetime
    ready_at: datetime | None = None
    running: tuple[str, ...] | None = ()
    foreign: tuple[Foreign, ...] | None = None
    preloaded: frozenset[str] = frozenset()
    last_seen: datetime | None = None
    token: str = ""
    progress: float | None = None
    reason: str = ""
    tags: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    stages: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Seconds spent per stage of its last warming: allocate, boot, image, data, join."""
    came_from: Standby = Standby.COLD
    """The state its last warming began in; with `stages`, one lead-time observation."""
    address: str = ""
    settling: bool = False
    devices: tuple[Gpu, ...] | None = None
    machine: "Node | None" = None

    @property
    def standby(self) -> Standby:
        """The standby state this node is kept in (a warming node is on its way to RUNNING)."""
        return _KEPT_IN.get(self.phase, _RUNNING)

    @property
    def is_busy(self) -> bool:
        """True if a task runs there, or nobody can say that none does."""
        return self.running is None or bool(self.running)


@dataclass(frozen=True, slots=True)
class PoolObservation:
    """What exists, asked of the provider at an instant; nothing here is remembered.

    Attributes:
        complete: False if a group could not be listed; absent nodes then prove nothing.
        withheld: group -> how many nodes it could have that do not exist and that somebody else keeps for himself.
        failed: nodes that did not come and are gone already: no supply and no cost, but learnt from.
    """

    pool: str
    at: datetime
    nodes: tuple[Node, ...]
    complete: bool = True
    problems: tuple[str, ...] = ()
    withheld: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    failed: tuple[Node, ...] = ()

    def in_phase(self, *phases: Phase) -> tuple[Node, ...]:
        """The nodes in any of these phases."""
        return tuple(n for n in self.nodes if n.phase in phases)
