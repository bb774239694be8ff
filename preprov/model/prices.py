"""Prices as rows: what an offering costs from an instant on, and what a commitment takes off."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Final

from preprov.model.errors import ConfigError
from preprov.model.offerings import CapacityType, Offering, Standby

BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class PriceRow:
    """One price.

    Attributes:
        usd_per_hour: None = this row says nothing about it. zone: a zone or its region; "" = wherever there
            is no row for either.
        standby: USD per kept node-hour by state. since: in force from this instant until the next row's.
        interruptions_per_hour: how often a spot node is taken back; None = not known.
        source: where it comes from: "table", "list", "spot", "configured".
    """

    instance_type: str
    usd_per_hour: float | None
    zone: str = ""
    capacity_type: CapacityType = CapacityType.ON_DEMAND
    standby: Mapping[Standby, float] = field(default_factory=lambda: MappingProxyType({}))
    since: datetime = BEGINNING
    interruptions_per_hour: float | None = None
    source: str = "table"

    def __post_init__(self) -> None:
        amounts = [self.usd_per_hour or 0.0, *self.standby.values()]
        if not all(0 <= a < float("inf") for a in amounts):
            raise ConfigError(f"a price of {self.instance_type} is negative or infinite", where=self.zone)


@dataclass(frozen=True, slots=True)
class Commitment:
    """What a savings plan or committed use takes off the on-demand price of some types.

    Attributes:
        discount: share, in [0, 1). instance_type, zone: patterns as of file names. until: None = for good.
    """

    discount: float
    instance_type: str = "*"
    zone: str = "*"
    until: datetime | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.discount < 1:
            raise ConfigError(f"a commitment's discount must be in [0, 1), got {self.discount}")

    def covers(self, offering: Offering, at: datetime) -> bool:
        """True if the offering's on-demand price is less by it at that instant."""
        in_force = self.until is None or at < self.until
        return (
            in_force
            and fnmatchcase(offering.instance_type, self.instance_type)
            and fnmatchcase(offering.zone, self.zone)
        )


@dataclass(frozen=True, slots=True)
class Found:
    """A price and where it comes from.

    Attributes:
        usd_per_hour: after the discount; None = not known. source: "" where there is no price. discount: share.
    """

    usd_per_hour: float | None
    source: str = ""
    since: datetime = BEGINNING
    discount: float = 0.0
