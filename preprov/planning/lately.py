"""What was begun within the last minute, and what is still on its way down: what a ramp and a disruption budget leave.

A pool is looked at every few seconds and whenever work comes, so neither can be what one look may do. Both are for a
sliding minute; a node that is given up counts until it has gone, however long that takes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Final
from zoneinfo import ZoneInfo

from preprov.model.pools import Group, Pool

SPAN_S: Final = 60.0
"""`max_step` and disruption budgets are for so many seconds."""


@dataclass(frozen=True, slots=True)
class Lately:
    """As of an instant.

    Attributes:
        raised: group -> nodes launched or woken within the last minute.
        given_up: node ids put away, drained or ended within the last minute, or sent on that way before and not there.
        until: when the first order of that minute no longer counts; None = there was none.
    """

    raised: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    given_up: frozenset[str] = frozenset()
    until: datetime | None = None

    def steps_left(self, group: Group) -> int:
        """Nodes of a group that may be launched or woken now."""
        return max(group.max_step - self.raised.get(group.name, 0), 0)

    def disruptions_left(self, pool: Pool, now: datetime) -> float:
        """Nodes that may be given up now; infinity without a budget in these hours."""
        return max(disruption_budget(pool, now) - len(self.given_up), 0.0)


def disruption_budget(pool: Pool, now: datetime) -> float:
    """Nodes that may be given up at once, by the disruption budgets of this hour, each in its own zone."""
    budgets = [w.nodes for w in pool.disruptions if w.window.contains(now.astimezone(ZoneInfo(w.zone or pool.zone)))]
    return float(min(budgets, default=float("inf")))
