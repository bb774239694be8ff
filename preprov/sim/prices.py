"""Prices in memory."""

from collections.abc import Collection, Sequence
from datetime import datetime

from preprov.model.offerings import CapacityType
from preprov.model.prices import PriceRow


class MemoryPrices:
    """PriceStore in memory."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str, CapacityType, datetime], PriceRow] = {}

    def save(self, rows: Sequence[PriceRow], *, at: datetime) -> int:
        """Keep them; returns how many were new."""
        before = len(self._rows)
        for r in rows:
            self._rows[(r.instance_type, r.zone, r.capacity_type, r.since)] = r
        return len(self._rows) - before

    def rows(self, *, instance_types: Collection[str] | None = None) -> tuple[PriceRow, ...]:
        """By type, zone, capacity type and time."""
        return tuple(r for k, r in sorted(self._rows.items()) if instance_types is None or k[0] in instance_types)
