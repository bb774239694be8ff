"""What binds beyond one pool: limits that pools share, and times by which runs are to have ended."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from zoneinfo import ZoneInfo

from preprov.model.errors import ConfigError


@dataclass(frozen=True, slots=True)
class SharedLimit:
    """A quota or budget of several pools together: they are planned jointly, and none may raise beyond it.

    Attributes:
        groups: (pool, group) whose nodes count. max_nodes: all of them together. max_cpu: their cores (a vendor's vCPU
            quota), of whole machines.
        pools: whose money counts. max_usd_per_day: by the calendar day of each pool's own zone.

    Raises:
        ConfigError: it limits nothing.
    """

    name: str
    groups: frozenset[tuple[str, str]] = frozenset()
    max_nodes: int | None = None
    max_cpu: float | None = None
    pools: frozenset[str] = frozenset()
    max_usd_per_day: float | None = None

    def __post_init__(self) -> None:
        if self.max_nodes is None and self.max_cpu is None and self.max_usd_per_day is None:
            raise ConfigError(f"limit {self.name} limits nothing", hint="max_nodes, max_cpu or max_usd_per_day")

    @property
    def members(self) -> frozenset[str]:
        """Names of the pools that it binds."""
        counted = {pool for pool, _ in self.groups} if self.max_nodes is not None or self.max_cpu is not None else set()
        return frozenset(counted | (self.pools if self.max_usd_per_day is not None else set()))


@dataclass(frozen=True, slots=True)
class Account:
    """What all pools together may have; None = no limit. Checked just before each raise, ends nothing."""

    max_nodes: int | None = None
    max_usd_per_hour: float | None = None
    max_usd_per_day: float | None = None
    max_launches_per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class Deadline:
    """When runs of some DAGs are to have ended, and what it costs if they have not.

    Attributes:
        dag, tenant: patterns as of file names. land_by: HH:MM on the pool's wall clock, the next after a run is due;
            "" = as the run itself says. late_usd_per_minute: None = the pool's own price.
    """

    dag: str = "*"
    tenant: str = "*"
    land_by: str = ""
    late_usd_per_minute: float | None = None

    def matches(self, dag: str, tenant: str) -> bool:
        """True if both patterns match."""
        return fnmatchcase(dag, self.dag) and fnmatchcase(tenant, self.tenant)

    def after(self, due: datetime, zone: str) -> datetime | None:
        """The deadline of a run that is due then; None if this says none."""
        return next_wall_time(self.land_by, due, zone) if self.land_by else None


def next_wall_time(clock: str, after: datetime, zone: str) -> datetime:
    """The next instant after `after` at which the wall clock of the zone shows HH:MM, in UTC."""
    hours, minutes = (int(p) for p in clock.split(":"))
    local = after.astimezone(ZoneInfo(zone))
    then = local.replace(hour=hours, minute=minutes, second=0, microsecond=0)
    return (then if then > local else then + timedelta(days=1)).astimezone(UTC)
