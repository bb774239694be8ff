"""preprov.toml: controller, guards, pools, sources, routes, limits, prices, tenants. Unknown keys are refused."""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import BaseModel, Field, ValidationError, field_validator

from preprov.configfile.base import HoursSection, Section, known_zone, time_of_day
from preprov.configfile.planning import (
    AccountSection,
    AdjustSection,
    CurvesSection,
    GateSection,
    LimitSection,
    ObjectiveSection,
    PricesSection,
    ProbeSection,
    WithinSection,
)
from preprov.configfile.samples import SamplesSection
from preprov.configfile.serving import ServeSection
from preprov.configfile.sources import SourceSection
from preprov.model.adoption import Gate
from preprov.model.errors import ConfigError
from preprov.model.limits import Deadline, SharedLimit
from preprov.model.pools import (
    FAILURE_PRICE,
    CapacityType,
    Group,
    Guards,
    LeadTime,
    Mode,
    Offering,
    Override,
    Pool,
    Preload,
    Standby,
)
from preprov.model.resources import Resources
from preprov.model.work import DatasetRef, ImageRef

_UNGATED = frozenset({"local", "sim"})
"""Providers whose nodes cost nobody anything."""


class ControllerSection(Section):
    """[controller]."""

    zone: str = "UTC"
    tick_seconds: float = Field(default=5.0, gt=0)
    plan_seconds: float = Field(default=60.0, gt=0)
    at_once: int = Field(default=1, ge=1, description="Pools looked at at the same time, while clouds answer.")
    callback: str = Field(default="", description="URL of `preprov serve` as nodes reach it, so that they can call it.")
    _check_zone = field_validator("zone")(known_zone)

    @field_validator("callback")
    @classmethod
    def _not_in_clear(cls, value: str) -> str:
        url = urlsplit(value)
        loopback = url.scheme == "http" and url.hostname in ("127.0.0.1", "::1", "localhost")
        if value and not loopback and not (url.scheme == "https" and url.hostname):
            raise ValueError("https://…: tokens of nodes must not travel in clear")
        return value.rstrip("/")


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
    max_step: int = Field(default=1000, ge=1)
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


class RouteSection(Section):
    """[[route]]: which tasks belong to which pool; the first that matches wins. `*` and `?` match as in file names."""

    pool: str
    dag: str = "*"
    queue: str = "*"
    tenant: str = "*"
    land_by: str | None = Field(default=None, description="HH:MM by which its runs are to have ended.")
    late_usd_per_minute: float | None = Field(
        default=None, ge=0, description="What each minute after that costs; the pool's if left out."
    )
    default_request: dict[str, float] | None = None
    _check_land_by = field_validator("land_by")(lambda v: v and time_of_day(v))

    def deadline(self) -> Deadline:
        """What it says of when runs are to have ended."""
        return Deadline(self.dag, self.tenant, self.land_by or "", self.late_usd_per_minute)


class OverrideSection(Section):
    """[[override]]: a floor until a time, with a reason."""

    pool: str
    floor: int = Field(ge=0)
    since: datetime | None = None
    until: datetime
    reason: str = Field(min_length=3)


class TenantSection(Section):
    """[[tenant]]."""

    name: str
    priority: int = Field(default=0, description="Of its work where a DAG names none; it reserves with no higher one.")
    quota: dict[Literal["cpu", "memory", "gpu", "disk_io", "network"], Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict, description="How much it may hold of a pool at once; what is not named is not limited."
    )
    share: float = Field(default=1.0, gt=0, description="Its weight among tenants, where there is not enough for all.")


class ConfigFile(Section):
    """The whole file."""

    controller: ControllerSection = ControllerSection()
    account: AccountSection = AccountSection()
    guard: GuardSection = GuardSection()
    pool: list[PoolSection] = Field(default_factory=list)
    source: list[SourceSection] = Field(default_factory=list)
    route: list[RouteSection] = Field(default_factory=list)
    serve: list[ServeSection] = Field(default_factory=list)
    override: list[OverrideSection] = Field(default_factory=list)
    tenant: list[TenantSection] = Field(default_factory=list)
    limit: list[LimitSection] = Field(default_factory=list)
    prices: PricesSection = PricesSection()
    samples: SamplesSection = SamplesSection()

    def pools(self) -> dict[str, Pool]:
        """The configured pools by name.

        Raises:
            ConfigError: two have the same name, or a value makes no sense.
        """
        out: dict[str, Pool] = {}
        for p in self.pool:
            if p.name in out:
                raise ConfigError(f"pool {p.name} is there twice", where="[[pool]]")
            out[p.name] = Pool(
                name=p.name,
                groups=tuple(g.build() for g in p.group),
                zone=p.zone or self.controller.zone,
                mode=p.mode,
                binding=tuple(p.binding),
                objective=p.objective.build(),
                gate=_gate(p),
                adjusting=p.adjust.build() if p.adjust else None,
                packing=p.curves.build(),
                probing=p.probe.build() if p.probe else None,
                failure_price=p.failure_price,
                guards=(p.guard or self.guard).build(),
                window=p.window.hours(),
                preload=p.preload.build(),
                preload_gib=p.preload.disk_gib,
                step_seconds=p.step,
                horizon_s=p.horizon,
                lease_s=p.lease,
                node_ttl_s=p.node_ttl,
                country=p.country,
                forecasters=tuple(p.forecasters),
                floors=tuple(w.build() for w in p.floor),
                disruptions=tuple(w.build() for w in p.disruption),
                deadlines=tuple(r.deadline() for r in self.route if r.pool == p.name),
                solver_s=p.solver_seconds,
            )
        return out

    def limits(self, pools: Mapping[str, Pool]) -> tuple[SharedLimit, ...]:
        """The configured limits across pools.

        Raises:
            ConfigError: one names what is not there, or limits nothing.
        """
        return tuple(section.build(pools) for section in self.limit)

    def overrides(self, pools: Mapping[str, Pool]) -> tuple[Override, ...]:
        """The configured floors; a time without an offset is in the pool's zone.

        Raises:
            ConfigError: it names a pool that is not there.
        """
        out = []
        for o in self.override:
            if o.pool not in pools:
                raise ConfigError(f"override names unknown pool {o.pool}", where="[[override]]")
            zone = ZoneInfo(pools[o.pool].zone)
            until = o.until if o.until.tzinfo else o.until.replace(tzinfo=zone)
            since = o.since or until - timedelta(days=36500)
            out.append(
                Override(o.pool, o.floor, since if since.tzinfo else since.replace(tzinfo=zone), until, o.reason)
            )
        return tuple(out)


def _gate(section: PoolSection) -> Gate | None:
    """As it says; a pool of a cloud has one by itself."""
    if section.gate is not None:
        return section.gate.build()
    return None if all(g.provider in _UNGATED for g in section.group) else Gate()


def load(path: Path | None) -> ConfigFile:
    """Read and check the file; None = all defaults.

    Raises:
        ConfigError: unreadable, not TOML, an unknown key (with the nearest right name), a wrong value.
    """
    if path is None:
        return ConfigFile()
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise ConfigError(f"cannot read {path}: {e.strerror}", where=str(path)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path} is not TOML: {e}", where=str(path)) from None
    return parse(raw, str(path))


def parse(raw: Mapping[str, Any], where: str) -> ConfigFile:
    """Check what a file says.

    Args:
        where: named in errors.

    Raises:
        ConfigError: an unknown key (with the nearest right name), a wrong value.
    """
    try:
        return ConfigFile.model_validate(raw)
    except ValidationError as e:
        raise _explained(e, where) from None


def _explained(error: ValidationError, path: str) -> ConfigError:
    """The first problem of a validation error, in plain words."""
    problems = error.errors()
    first = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    loc = first["loc"]
    where = f"{path}: {_dotted(loc)}"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        known = _fields_at(ConfigFile, loc[:-1])
        near = difflib.get_close_matches(str(loc[-1]), known, 1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(known))}"
        return ConfigError(f"unknown key {loc[-1]!r}{more}", where=where, hint=hint)
    if first["type"] == "union_tag_invalid":
        kind, kinds = str(first["ctx"]["tag"]), [k.strip("' ") for k in str(first["ctx"]["expected_tags"]).split(",")]
        near = difflib.get_close_matches(kind, kinds, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(kinds)}"
        return ConfigError(f"unknown kind {kind!r}{more}", where=where, hint=hint)
    said = str(first["msg"]).removeprefix("Value error, ")
    return ConfigError(f"{_dotted(loc)}: {said}{more}", where=where, hint="`preprov init` shows an example")


def _dotted(loc: Sequence[int | str]) -> str:
    return "".join(f"[{p + 1}]" if isinstance(p, int) else f".{p}" for p in loc).lstrip(".")


def _fields_at(model: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    """Names of the fields of the section at `loc`."""
    found = [model]
    for part in loc:
        if isinstance(part, int):
            continue
        inner = [s for m in found if part in m.model_fields for s in _sections(m.model_fields[part].annotation)]
        named = [m for m in found if part in get_args(getattr(m.model_fields.get("kind"), "annotation", None))]
        found = inner or named or found
    return list(dict.fromkeys(name for m in found for name in m.model_fields))


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """Sections that a field can hold: itself, in a list, one of several."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [s for inner in get_args(annotation) for s in _sections(inner)]
