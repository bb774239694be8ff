"""[guard] and [[pool]]: guards, lead times, offerings, images and data, groups."""

from typing import Any, Literal

from pydantic import Field, field_validator

from preprov.configfile.base import HoursSection, Section, known_zone
from preprov.configfile.planning import (
    AdjustSection,
    CurvesSection,
    GateSection,
    ObjectiveSection,
    ProbeSection,
    WithinSection,
)
from preprov.model.adoption import Gate
from preprov.model.limits import Deadline
from preprov.model.offerings import CapacityType, LeadTime, Offering, Preload, Standby
from preprov.model.pools import FAILURE_PRICE, Group, Guards, Mode, Pool
from preprov.model.resources import Resources
from preprov.model.work import DatasetRef, ImageRef

_UNGATED = frozenset({"local", "sim"})
"""Providers whose nodes cost nobody anything."""


class GuardSection(Section):
    """[guard] and [pool.guard]."""

    max_nodes: int = Field(default=1000, ge=0)
    max_usd_per_hour: float | None = Field(default=None, ge=0)
    max_usd_per_day: float | None = Field(default=None, ge=0)
    max_launches_per_minute: int | None = Field(default=None, ge=0)
    stale_source: float = Field(default=900.0, gt=0, description="seconds")
    wave: int = Field(default=100, ge=1, description="Nodes one pass begins at most, give or take a quarter.")

    def build(self) -> Guards:
        """The domain value."""
        return Guards(
            max_nodes=self.max_nodes,
            max_usd_per_hour=self.max_usd_per_hour,
            max_usd_per_day=self.max_usd_per_day,
            max_launches_per_minute=self.max_launches_per_minute,
            stale_source_s=self.stale_source,
            wave=self.wave,
        )


class LeadSection(Section):
    """Lead time of one standby state, seconds."""

    median: float = Field(ge=0)
    p95: float = Field(ge=0)

    def build(self) -> LeadTime:
        """The domain value."""
        return LeadTime(self.median, self.p95)


class OfferingSection(Section):
    """[[pool.group.offering]]."""

    type: str
    zone: str = ""
    capacity_type: CapacityType = CapacityType.ON_DEMAND
    cpu: float = Field(gt=0)
    memory: float = Field(gt=0)
    gpu: float = Field(default=0, ge=0)
    disk_io: float = Field(default=0, ge=0)
    network: float = Field(default=0, ge=0)
    usd_per_hour: float | None = Field(default=None, ge=0)
    minimum_billing: float = Field(default=60.0, ge=0)
    overhead: dict[str, float] = Field(default_factory=dict)

    def build(self) -> Offering:
        """The domain value."""
        return Offering(
            instance_type=self.type,
            zone=self.zone,
            capacity_type=self.capacity_type,
            capacity=Resources(self.cpu, self.memory, self.gpu, self.disk_io, self.network),
            usd_per_hour=self.usd_per_hour,
            minimum_billing_s=self.minimum_billing,
            overhead=Resources.of(self.overhead),
        )


class ImageSection(Section):
    """An image to preload."""

    uri: str
    digest: str = ""


class DatasetSection(Section):
    """A dataset to preload."""

    uri: str
    version: str = ""
    sha256: str = ""
    size_gib: float | None = Field(default=None, ge=0)


class PreloadSection(Section):
    """[pool.preload]."""

    images: list[ImageSection] = Field(default_factory=list)
    datasets: list[DatasetSection] = Field(default_factory=list)
    packages: list[str] = Field(default_factory=list, description="Installed by the user data of nodes of a cloud.")
    commands: list[str] = Field(default_factory=list, description="Run by a shell after the packages, likewise.")
    join: list[str] = Field(default_factory=list, description="Run when such a node is verified and handed over.")
    min_read_mb_s: float = Field(default=0.0, ge=0, description="What is read back slower than this has failed, MB/s.")
    disk_gib: float | None = Field(default=None, ge=0, description="Room for all this on a node: for `preload plan`.")

    def build(self) -> Preload:
        """The domain value."""
        return Preload(
            tuple(ImageRef(i.uri, i.digest) for i in self.images),
            tuple(DatasetRef(d.uri, d.version, d.sha256, d.size_gib) for d in self.datasets),
            tuple(self.packages),
            tuple(self.commands),
            tuple(self.join),
            self.min_read_mb_s,
        )


class WindowSection(HoursSection):
    """[pool.window]: when preprov may raise; wall clock of the pool's zone."""


class GroupSection(Section):
    """[[pool.group]]."""

    name: str
    provider: str = Field(
        default="local", description="local, aws, gcp, azure, terraform, slurm, sim, or one that is installed."
    )
    states: list[Standby] = Field(default_factory=lambda: [Standby.RUNNING])
    mixes_states: bool = Field(default=True, description="Counts as false where the provider cannot.")
    chooses_offering: bool = Field(
        default=True, description="A launch may name the type. Counts as false where the vendor's template decides."
    )
    chooses_zone: bool = False
    min_nodes: int = Field(default=0, ge=0)
    max_nodes: int = Field(default=1000, ge=0)
    max_step: int = Field(
        default=1000, ge=1, description="Nodes that are launched or woken within any minute, at most: a ramp."
    )
    offering: list[OfferingSection] = Field(min_length=1)
    lead: dict[Literal["cold", "stopped", "hibernated"], LeadSection] = Field(default_factory=dict)
    standby_usd_per_hour: dict[Standby, float] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)

    def build(self) -> Group:
        """The domain value."""
        return Group(
            name=self.name,
            provider=self.provider,
            offerings=tuple(o.build() for o in self.offering),
            standby_states=frozenset(self.states) | {Standby.RUNNING},
            mixes_states=self.mixes_states,
            chooses_offering=self.chooses_offering,
            chooses_zone=self.chooses_zone,
            min_nodes=self.min_nodes,
            max_nodes=self.max_nodes,
            max_step=self.max_step,
            standby_usd_per_hour=self.standby_usd_per_hour,
            lead={Standby(k): v.build() for k, v in self.lead.items()},
            options=self.options,
        )


class PoolSection(Section):
    """[[pool]]."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")
    zone: str | None = None
    country: str | None = None
    forecasters: list[str] = Field(
        default_factory=list, description="Installed forecasters that join the mix of the learnt part."
    )
    mode: Mode = Mode.OBSERVE
    binding: list[str] = Field(default_factory=lambda: ["cpu", "memory", "gpu"])
    step: int = Field(default=300, gt=0, description="seconds")
    horizon: int = Field(default=86400, gt=0, description="seconds")
    lease: float = Field(default=900.0, gt=0, description="seconds")
    node_ttl: float = Field(default=600.0, gt=0, description="seconds")
    guard: GuardSection | None = None
    objective: ObjectiveSection = ObjectiveSection()
    window: WindowSection = WindowSection()
    gate: GateSection | None = Field(default=None, description="Left out: that below for pools in a cloud, else none.")
    adjust: AdjustSection | None = Field(default=None, description="Left out: running tasks are not adjusted.")
    curves: CurvesSection = CurvesSection()
    probe: ProbeSection | None = Field(default=None, description="Left out: no task is tried beforehand.")
    failure_price: float = Field(
        default=FAILURE_PRICE, ge=0, description="Of a failed attempt, for `task sizing`; 1 = what was allocated to it."
    )
    preload: PreloadSection = PreloadSection()
    floor: list[WithinSection] = Field(default_factory=list)
    disruption: list[WithinSection] = Field(default_factory=list)
    solver_seconds: float = Field(default=5.0, gt=0, description="after which the rule of thumb plans instead")
    group: list[GroupSection] = Field(min_length=1)
    _check_zone = field_validator("zone")(lambda v: v if v is None else known_zone(v))

    def build(self, zone: str, guard: GuardSection, deadlines: tuple[Deadline, ...]) -> Pool:
        """The domain value; zone and guards are those of a pool that names none of its own."""
        return Pool(
            name=self.name,
            groups=tuple(g.build() for g in self.group),
            zone=self.zone or zone,
            mode=self.mode,
            binding=tuple(self.binding),
            objective=self.objective.build(),
            gate=self._gate(),
            adjusting=self.adjust.build() if self.adjust else None,
            packing=self.curves.build(),
            probing=self.probe.build() if self.probe else None,
            failure_price=self.failure_price,
            guards=(self.guard or guard).build(),
            window=self.window.hours(),
            preload=self.preload.build(),
            preload_gib=self.preload.disk_gib,
            step_seconds=self.step,
            horizon_s=self.horizon,
            lease_s=self.lease,
            node_ttl_s=self.node_ttl,
            country=self.country,
            forecasters=tuple(self.forecasters),
            floors=tuple(w.build() for w in self.floor),
            disruptions=tuple(w.build() for w in self.disruption),
            deadlines=deadlines,
            solver_s=self.solver_seconds,
        )

    def _gate(self) -> Gate | None:
        """As it says; a pool of a cloud has one by itself."""
        if self.gate is not None:
            return self.gate.build()
        return None if all(g.provider in _UNGATED for g in self.group) else Gate()
