"""How long machines took before preprov was there, out of what a vendor or a scheduler has recorded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable

from preprov.model.offerings import Standby
from preprov.model.pools import Pool


@dataclass(frozen=True, slots=True)
class Warmed:
    """A warming that is on record.

    Attributes:
        node_id: of the machine. at: when it was in service, or was given up. seconds: since it was asked for.
        zone, instance_type: "" = the record does not tell.
        failed: it was never in service. lacked: because the vendor had no machine, which says nothing of this one.
        stages: as in `LeadObservation`, those that the record tells.
        whole: False = the record tells parts of the way alone, and `seconds` is what they took; an image that is pulled
            later may stand in `stages` beside it.
    """

    node_id: str
    at: datetime
    seconds: float
    zone: str = ""
    instance_type: str = ""
    came_from: Standby = Standby.COLD
    failed: bool = False
    lacked: bool = False
    stages: Mapping[str, float] = field(default_factory=dict)
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Recollection:
    """What the record holds.

    Attributes:
        warmed: in any order. means: what "in service" is in this record, and what the time leaves out.
        left_out: records that tell nothing of a lead time, and why -> how many.
    """

    warmed: tuple[Warmed, ...] = ()
    means: str = ""
    left_out: tuple[tuple[str, int], ...] = ()


@runtime_checkable
class RecallsLeads(Protocol):
    """A provider whose vendor or scheduler has a record of past warmings."""

    def recall_leads(self, pool: Pool, group: str, since: datetime) -> Recollection:
        """Warmings of the group that were over since then, as far back as the record goes.

        Idempotent: reads only, and the same warming has the same node and instant each time. Consistent: may lag behind
        by minutes. Absent: a group without a record, or without one of that time, has an empty one; what a record does
        not tell is left empty and never guessed. Retryable: ThrottledError, ConflictError.
        """
        ...
