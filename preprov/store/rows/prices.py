"""What offerings cost."""

from datetime import datetime

from sqlmodel import Field

from preprov.store.rows.base import Row, instant


class OfferingPriceRow(Row, table=True):
    """A price that a cloud named, in force from an instant on."""

    __tablename__ = "offering_price"

    instance_type: str = Field(primary_key=True)
    zone: str = Field(primary_key=True)
    capacity_type: str = Field(primary_key=True)
    since: datetime = instant(primary_key=True)
    usd_per_hour: float | None = None
    interruptions_per_hour: float | None = None
    source: str
    heard_at: datetime = instant()
