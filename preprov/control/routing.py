"""Routes: which task belongs to which pool."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from zoneinfo import ZoneInfo

from preprov.model.resources import Resources
from preprov.model.work import DagSpec


@dataclass(frozen=True)
class Route:
    """A rule; patterns match as file names do.

    Attributes:
        land_by: wall-clock time of day by which runs must have finished, in the DAG's zone; "" = none.
        default_request: amounts for tasks that ask for nothing.
    """

    pool: str
    dag: str = "*"
    queue: str = "*"
    tenant: str = "*"
    land_by: str = ""
    default_request: Mapping[str, float] = field(default_factory=dict)

    def matches(self, dag: DagSpec) -> bool:
        """True if all three patterns match."""
        return all(
            fnmatchcase(value, pattern)
            for value, pattern in ((dag.dag_id, self.dag), (dag.queue, self.queue), (dag.tenant, self.tenant))
        )

    def applied(self, dag: DagSpec) -> DagSpec:
        """The DAG with this route's defaults where it says nothing itself."""
        tasks = dag.tasks
        if self.default_request:
            tasks = tuple(
                replace(t, request=Resources.of(self.default_request)) if t.request.is_zero else t for t in tasks
            )
        land_by = dag.land_by
        if land_by is None and self.land_by and dag.due is not None:
            land_by = _next_time(self.land_by, dag.due, dag.zone)
        return replace(dag, tasks=tasks, land_by=land_by)


def _next_time(clock: str, after: datetime, zone: str) -> datetime:
    """The next instant after `after` at which the wall clock of the zone shows HH:MM."""
    hours, minutes = (int(p) for p in clock.split(":"))
    local = after.astimezone(ZoneInfo(zone))
    then = local.replace(hour=hours, minute=minutes, second=0, microsecond=0)
    return then if then > local else then + timedelta(days=1)
