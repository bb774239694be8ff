"""What goes in and out of the API about recurring windows."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from preprov.web.documents import Amounts, Ask, Label, Part

_DAY_S = 86400
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Start = Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$", examples=["22:00"])]
End = Annotated[str, Field(pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$", examples=["02:00"])]


def _in_range(at: datetime) -> datetime:
    if not 2000 <= at.year < 2200:
        raise ValueError("a year from 2000 to 2199 is wanted")
    return at


WallInstant = Annotated[datetime, AfterValidator(_in_range)]


class WindowAsk(Ask):
    """A share of a pool that is to be a tenant's at the same hours again and again."""

    pool: Label
    name: Label = Field(description="Of the tenant's own choice: one of a name in a pool.", examples=["end-of-day"])
    request: Amounts = Field(description="Resources of one instance.")
    start: Start = Field(description="Time of day on the wall clock of `tz`.")
    end: End = Field(description="Of the next day if it is not later than `start`.")
    tz: Label | None = Field(default=None, description="An IANA name; the pool's if not given.")
    days: list[Day] | None = Field(
        default=None, min_length=1, max_length=7, description="On which it starts; every day if not given."
    )
    count: int = Field(default=1, ge=1, le=1000, description="Instances, each held on a node of its own choice.")
    lead_s: float = Field(default=0, ge=0, le=_DAY_S, description="Seconds before its start by which it is warm.")
    borrow: bool = Field(
        default=False, description="Until its start, others may use it for what should have ended by then."
    )
    reclaim_s: float = Field(
        default=0,
        ge=0,
        le=_DAY_S,
        description="With `borrow`: nobody else begins anything in it this long before. At most `lead_s`.",
    )
    priority: int | None = Field(
        default=None, ge=-1_000_000, le=1_000_000, description="The tenant's if not given, and no higher than that."
    )
    since: WallInstant | None = Field(
        default=None, description="No turn starts before; without an offset it is on the wall clock of `tz`."
    )
    until: WallInstant | None = Field(
        default=None, description="No turn starts then or later; without an offset it is on the wall clock of `tz`."
    )
    tenant: Label | None = Field(default=None, description="For whom; only an administrator may name another's.")


class WindowPart(Part):
    """A recurring window."""

    window_id: str
    name: str
    pool: str
    tenant: str
    request: Amounts
    count: int
    start: str
    end: str
    tz: str
    days: list[str]
    lead_s: float
    borrow: bool
    reclaim_s: float
    priority: int
    since: datetime | None = Field(description="No turn starts before; null: there is no such limit.")
    until: datetime | None = Field(description="No turn starts then or later; null: it comes round for ever.")


class WindowList(Part):
    """Windows by pool, tenant and name."""

    windows: list[WindowPart]
