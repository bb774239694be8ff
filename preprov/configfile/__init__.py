"""preprov.toml: controller, guards, pools, sources, routes, limits, prices, tenants. Unknown keys are refused."""

import tomllib
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationError, field_validator

from preprov.configfile.base import Section, known_zone, time_of_day
from preprov.configfile.explaining import explained
from preprov.configfile.planning import AccountSection, LimitSection, PricesSection
from preprov.configfile.pools import GuardSection, PoolSection
from preprov.configfile.samples import SamplesSection
from preprov.configfile.serving import ServeSection
from preprov.configfile.sources import SourceSection
from preprov.model.errors import ConfigError
from preprov.model.limits import Deadline, SharedLimit
from preprov.model.pools import Override, Pool


class ControllerSection(Section):
    """[controller]."""

    zone: str = "UTC"
    tick_seconds: float = Field(default=5.0, gt=0)
    plan_seconds: float = Field(default=60.0, gt=0)
    at_once: int = Field(default=1, ge=1, description="Pools looked at at the same time, while clouds answer.")
    keep_reservations_days: float = Field(
        default=35.0,
        ge=1,
        description="Reservations that were released, or expired, are forgotten after so long: until then they are "
        "listed, explain nodes, and answer for their Idempotency-Key.",
    )
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
            deadlines = tuple(r.deadline() for r in self.route if r.pool == p.name)
            out[p.name] = p.build(self.controller.zone, self.guard, deadlines)
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
        raise explained(e, ConfigFile, where) from None
