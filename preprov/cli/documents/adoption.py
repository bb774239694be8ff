"""Documents of the commands that adopt pools."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from preprov.cli.documents.base import Envelope, Part


class AdoptedPool(Part):
    """A pool that Terraform declares."""

    pool: str
    state: Literal["new", "registered"] = Field(description="registered = it was in the configuration before.")
    counts_owner: Literal["preprov", "terraform"]
    groups: list[str]
    differences: list[str] = Field(description="Where the configuration is not as Terraform declares.")
    drift: list[str] = Field(description="Where what exists is not as Terraform declares.")


class AdoptedTerraform(Envelope):
    """pool adopt terraform."""

    source: str
    written: str | None = Field(description="File to which the new pools were added; null if there were none.")
    pools: list[AdoptedPool]


class AdoptedGroup(Part):
    """A group with its settings as they were found."""

    group: str
    found_at: datetime
    actor: str
    settings: dict[str, Any] = Field(description="As the provider names them; what release puts back.")
    others: list[str] = Field(description="Who else wrote its counts then.")
    ignored: list[str]


class LeftOut(Part):
    """Records that tell nothing of a lead time."""

    why: str
    count: int


class RecalledGroup(Part):
    """Lead times of a group that a vendor or a scheduler has on record."""

    group: str
    found: int
    new: int = Field(description="Of those found, kept now.")
    known: int = Field(description="Kept before, or seen by preprov itself.")
    oldest: datetime | None
    means: str = Field(description="What the times are of, or why there are none.")
    left_out: list[LeftOut]
    error: str


class RecalledLeads(Envelope):
    """pool recall."""

    groups: list[RecalledGroup]


class AdoptedGroups(Envelope):
    """pool adopt."""

    groups: list[AdoptedGroup]
    recalled: list[RecalledGroup] = Field(description="Lead times that were on record.")


class Difference(Part):
    """A setting that is not as it was found yet."""

    setting: str
    found: Any
    now: Any


class GivenBackGroup(Part):
    """What came of giving a group back."""

    group: str
    whole: bool = Field(description="Every setting is as it was found.")
    said: list[str] = Field(description="A line per thing done.")
    differs: list[Difference]
    error: str


class GivenBackOfPool(GivenBackGroup):
    """The same, with its pool."""

    pool: str


class Released(Envelope):
    """pool release."""

    groups: list[GivenBackGroup]


class GateState(Part):
    """What a pool has shown, and what it has still to show."""

    nights: int
    coverage: float | None = Field(description="Share of what came inside the 80 % interval; null = none was scored.")
    guard_hits: list[str]
    missing_for_floor: list[str]
    missing_for_full: list[str]


class PoolMode(Envelope):
    """pool mode."""

    asked: Literal["observe", "recommend", "floor", "full"]
    in_force: Literal["observe", "recommend", "floor", "full"]
    why_less: list[str] = Field(description="What it is less than was asked for; empty if it is not.")
    halted: str
    gate: GateState | None = Field(description="null = the pool has none.")
