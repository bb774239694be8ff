"""What the routes take of the work that was read, and what they leave."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from preprov.contracts import UNROUTED, Claimed
from preprov.control.context import Context
from preprov.control.routing import Route, Router


@dataclass(frozen=True)
class Share:
    """What a route takes.

    Attributes:
        route: its number, from 1; None = what no route matches: a default pool's (`pool`), or nobody's (None).
    """

    route: int | None
    pool: str | None
    pattern: str
    tasks: int
    core_hours: float


@dataclass(frozen=True)
class RouteReport:
    """Work since an instant, by route.

    Attributes:
        unmatched: what goes nowhere, the most core hours first.
        moved: what these routes send elsewhere than where it was put when it was read.
    """

    since: datetime
    shares: tuple[Share, ...]
    unmatched: tuple[Claimed, ...]
    moved: tuple[Claimed, ...]

    @property
    def core_hours(self) -> float:
        """All that was looked at."""
        return sum(s.core_hours for s in self.shares)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        whole = self.core_hours
        return {
            "since": self.since,
            "routes": [{**asdict(s), "share": s.core_hours / whole if whole else 0.0} for s in self.shares],
            "unmatched": [_plain(c) for c in self.unmatched],
            "moved": [_plain(c) for c in self.moved],
            "core_hours": whole,
        }


def _plain(claimed: Claimed) -> dict[str, Any]:
    return {name: value for name, value in asdict(claimed).items() if name != "pool"}


def check_routes(ctx: Context, routers: Mapping[str, Router], routes: Sequence[Route], since: datetime) -> RouteReport:
    """Send all work that was read since then through the routes as they are now.

    Args:
        routers: of the configured sources, by name; work of another source is matched by `routes` alone.
        routes: in their order.
    """
    found = ctx.ports.sources.claimed(since)
    taken: dict[tuple[int | None, str], list[Claimed]] = {(i, r.pool): [] for i, r in enumerate(routes)}
    moved = []
    for claimed in found:
        key = (claimed.dag_id, claimed.queue, claimed.tenant)
        match = next(((i, r.pool) for i, r in enumerate(routes) if r.takes(*key)), None)
        router = routers.get(claimed.source, Router(routes))
        place = match or (None, router.default)
        taken.setdefault(place, []).append(claimed)
        if claimed.pool not in (place[1], UNROUTED) or (claimed.pool == UNROUTED and place[1] != UNROUTED):
            moved.append(claimed)
    shares = [
        Share(
            route=None if number is None else number + 1,
            pool=pool or None,
            pattern=_pattern(routes[number]) if number is not None else "anything else",
            tasks=sum(c.tasks for c in some),
            core_hours=sum(c.core_hours for c in some),
        )
        for (number, pool), some in taken.items()
    ]
    lost = taken.get((None, UNROUTED), [])
    return RouteReport(since, tuple(shares), _largest(lost), _largest(moved))


def _largest(claims: Sequence[Claimed]) -> tuple[Claimed, ...]:
    return tuple(sorted(claims, key=lambda c: (-c.core_hours, c.source, c.dag_id, c.queue)))


def _pattern(route: Route) -> str:
    said = ((n, getattr(route, n)) for n in ("dag", "queue", "tenant"))
    return ", ".join(f"{n} {v}" for n, v in said if v != "*") or "everything"
