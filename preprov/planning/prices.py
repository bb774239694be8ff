"""A price book from rows: no file, no network. Prices change over time; the row in force at the instant counts."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from preprov.model.errors import ConfigError
from preprov.model.pools import CapacityType, Offering, Pool, Standby

BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class PriceRow:
    """One price.

    Attributes:
        usd_per_hour: None = this row says nothing about it. zone: a zone or its region; "" = wherever there
            is no row for either.
        standby: USD per kept node-hour by state. since: in force from this instant until the next row's.
        interruptions_per_hour: how often a spot node is taken back; None = not known.
    """

    instance_type: str
    usd_per_hour: float | None
    zone: str = ""
    capacity_type: CapacityType = CapacityType.ON_DEMAND
    standby: Mapping[Standby, float] = field(default_factory=lambda: MappingProxyType({}))
    since: datetime = BEGINNING
    interruptions_per_hour: float | None = None

    def __post_init__(self) -> None:
        amounts = [self.usd_per_hour or 0.0, *self.standby.values()]
        if not all(0 <= a < float("inf") for a in amounts):
            raise ConfigError(f"a price of {self.instance_type} is negative or infinite", where=self.zone)


class TablePriceBook:
    """Prices by (instance type, zone, capacity type), the offering's own where the table has none.

    Args:
        rows: in any order. discount: share taken off on-demand prices by a commitment, in [0, 1).

    Raises:
        ConfigError: the discount is out of range.
    """

    def __init__(self, rows: Iterable[PriceRow] = (), *, discount: float = 0.0) -> None:
        if not 0 <= discount < 1:
            raise ConfigError(f"discount must be in [0, 1), got {discount}")
        self._rows: dict[tuple[str, str, CapacityType], list[PriceRow]] = {}
        for row in rows:
            self._rows.setdefault((row.instance_type, row.zone, row.capacity_type), []).append(row)
        for history in self._rows.values():
            history.sort(key=lambda r: r.since)
        self._discount = discount

    @classmethod
    def from_pools(cls, pools: Iterable[Pool], rows: Iterable[PriceRow] = ()) -> "TablePriceBook":
        """The offerings' own prices and the groups' standby prices; `rows` (a refreshed table) come before them."""
        own = [
            PriceRow(o.instance_type, None, o.zone, o.capacity_type, dict(g.standby_usd_per_hour))
            for p in pools
            for g in p.groups
            for o in g.offerings
        ]
        return cls([*own, *rows])

    def usd_per_hour(self, offering: Offering, at: datetime) -> float | None:
        """Price of a running node-hour; None = not known."""
        row = self._find(offering, at)
        price = offering.usd_per_hour if row is None else row.usd_per_hour
        if price is None or offering.capacity_type is not CapacityType.ON_DEMAND:
            return price
        return price * (1 - self._discount)

    def standby_usd_per_hour(self, offering: Offering, state: Standby, at: datetime) -> float | None:
        """Price of a kept node-hour in that state; 0 for COLD; None = not known."""
        if state is Standby.COLD:
            return 0.0
        if state is Standby.RUNNING:
            return self.usd_per_hour(offering, at)
        row = self._find(offering, at, state)
        return None if row is None else row.standby.get(state)

    def interruptions_per_hour(self, offering: Offering, at: datetime) -> float | None:
        """How often a running node of it is taken back; None = not known."""
        row = self._find(offering, at)
        return None if row is None else row.interruptions_per_hour

    def _find(self, offering: Offering, at: datetime, state: Standby | None = None) -> PriceRow | None:
        for zone in _places(offering.zone):
            history = self._rows.get((offering.instance_type, zone, offering.capacity_type), ())
            i = bisect_right(history, at, key=lambda r: r.since)
            for row in reversed(history[:i]):
                if row.usd_per_hour is not None if state is None else state in row.standby:
                    return row
        return None


def _places(zone: str) -> tuple[str, ...]:
    """The zone, its region as the clouds write it (us-east-1a, us-central1-a, eastus-1), and anywhere."""
    stem, _, last = zone.rpartition("-")
    regions = [stem] if stem and len(last) == 1 else []
    regions += [zone[:-1]] if zone[-1:].isalpha() and zone[-2:-1].isdigit() else []
    return tuple(dict.fromkeys((zone, *regions, "")))
