"""The port for what clouds said that offerings cost."""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlmodel import col, select

from preprov.model.offerings import CapacityType
from preprov.model.prices import PriceRow
from preprov.store.engine import Database
from preprov.store.rows import OfferingPriceRow


class SqlPriceStore:
    """Implements `contracts.PriceStore`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def save(self, rows: Sequence[PriceRow], *, at: datetime) -> int:
        """Keep them; returns how many were new."""
        new = 0
        with self._db.write("prices") as session:
            for r in rows:
                key = (r.instance_type, r.zone, str(r.capacity_type), r.since)
                new += session.get(OfferingPriceRow, key) is None
                session.merge(
                    OfferingPriceRow(
                        instance_type=r.instance_type,
                        zone=r.zone,
                        capacity_type=str(r.capacity_type),
                        since=r.since,
                        usd_per_hour=r.usd_per_hour,
                        interruptions_per_hour=r.interruptions_per_hour,
                        source=r.source,
                        heard_at=at,
                    )
                )
        return new

    def rows(self, *, instance_types: Collection[str] | None = None) -> tuple[PriceRow, ...]:
        """By type, zone, capacity type and time."""
        row = OfferingPriceRow
        wanted = select(row)
        if instance_types is not None:
            wanted = wanted.where(col(row.instance_type).in_(sorted(instance_types)))
        order = (col(row.instance_type), col(row.zone), col(row.capacity_type), col(row.since))
        with self._db.read() as session:
            found = session.exec(wanted.order_by(*order)).all()
        return tuple(
            PriceRow(
                r.instance_type,
                r.usd_per_hour,
                r.zone,
                CapacityType(r.capacity_type),
                since=r.since,
                interruptions_per_hour=r.interruptions_per_hour,
                source=r.source,
            )
            for r in found
        )
