"""A price book from rows: no file, no network. Prices change over time; the row in force at the instant counts."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import Final

from preprov.model.offerings import CapacityType, Offering, Standby
from preprov.model.pools import Pool
from preprov.model.prices import Commitment, Found, PriceRow

_UNKNOWN: Final = Found(None)


class TablePriceBook:
    """Prices by (instance type, zone, capacity type), the offering's own where the table has none.

    A commitment takes its share off an on-demand price. A reserved node without a price of its own costs what the best
    commitment leaves of the on-demand price.

    Args:
        rows: in any order. commitments: the one that takes off most counts.
    """

    def __init__(self, rows: Iterable[PriceRow] = (), *, commitments: Sequence[Commitment] = ()) -> None:
        self._rows: dict[tuple[str, str, CapacityType], list[PriceRow]] = {}
        for row in rows:
            self._rows.setdefault((row.instance_type, row.zone, row.capacity_type), []).append(row)
        for history in self._rows.values():
            history.sort(key=lambda r: r.since)
        self._commitments = tuple(commitments)

    @classmethod
    def from_pools(
        cls, pools: Iterable[Pool], rows: Iterable[PriceRow] = (), *, commitments: Sequence[Commitment] = ()
    ) -> "TablePriceBook":
        """The offerings' own prices and the groups' standby prices; `rows` (a refreshed table) come before them."""
        own = [
            PriceRow(o.instance_type, None, o.zone, o.capacity_type, dict(g.standby_usd_per_hour), source="configured")
            for p in pools
            for g in p.groups
            for o in g.offerings
        ]
        return cls([*own, *rows], commitments=commitments)

    def usd_per_hour(self, offering: Offering, at: datetime) -> float | None:
        """Price of a running node-hour; None = not known."""
        return self.found(offering, at).usd_per_hour

    def found(self, offering: Offering, at: datetime) -> Found:
        """The price of a running node-hour, and where it comes from."""
        row = self._find(offering, at)
        if row is not None:
            found = Found(row.usd_per_hour, row.source, row.since)
        elif offering.usd_per_hour is not None:
            found = Found(offering.usd_per_hour, "configured")
        elif offering.capacity_type is CapacityType.RESERVED:
            return self.found(replace(offering, capacity_type=CapacityType.ON_DEMAND), at)
        else:
            return _UNKNOWN
        if offering.capacity_type is not CapacityType.ON_DEMAND or found.usd_per_hour is None:
            return found
        off = max((c.discount for c in self._commitments if c.covers(offering, at)), default=0.0)
        return replace(found, usd_per_hour=found.usd_per_hour * (1 - off), discount=off)

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

    def history(self, instance_type: str) -> tuple[PriceRow, ...]:
        """All rows of a type, by zone, capacity type and time."""
        mine = [r for key, rows in self._rows.items() if key[0] == instance_type for r in rows]
        return tuple(sorted(mine, key=lambda r: (r.zone, r.capacity_type, r.since)))

    def _find(self, offering: Offering, at: datetime, state: Standby | None = None) -> PriceRow | None:
        for zone in _places(offering.zone):
            history = self._rows.get((offering.instance_type, zone, offering.capacity_type), ())
            i = bisect_right(history, at, key=lambda r: r.since)
            for row in reversed(history[:i]):
                if row.usd_per_hour is not None if state is None else state in row.standby:
                    return row
        return None


@lru_cache(maxsize=512)
def _places(zone: str) -> tuple[str, ...]:
    """The zone, its region as the clouds write it (us-east-1a, us-central1-a, eastus-1), and anywhere."""
    stem, _, last = zone.rpartition("-")
    regions = [stem] if stem and len(last) == 1 else []
    regions += [zone[:-1]] if zone[-1:].isalpha() and zone[-2:-1].isdigit() else []
    return tuple(dict.fromkeys((zone, *regions, "")))
