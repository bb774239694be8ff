"""Looked at before a raise: how much more the vendor leaves room for, and what a node's disk holds."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from preprov.model.offerings import Offering
from preprov.model.pools import Pool


@dataclass(frozen=True, slots=True)
class Headroom:
    """One limit of the vendor's, now.

    Attributes:
        what: it is, with its figures. nodes: how many more of the offering it leaves room for.
    """

    what: str
    nodes: int


@runtime_checkable
class Preflights(Protocol):
    """A provider that can say what a raise would run into."""

    def headroom(self, pool: Pool, group: str, offering: Offering) -> tuple[Headroom, ...]:
        """Quotas of the region and free addresses of the subnets, as far as the vendor tells of them.

        Idempotent: reads only. Consistent: may lag behind by minutes; what is launched meanwhile is not in it. Absent:
        a limit that is not told of is left out, none is no promise. Retryable: ThrottledError.
        """
        ...

    def disk_gib(self, pool: Pool, group: str) -> float | None:
        """Size of the disk that the group's nodes boot from; None = its template does not say.

        Idempotent: reads only. Consistent: of new nodes. Absent: NotFoundError, there is no such template. Retryable:
        ThrottledError.
        """
        ...
