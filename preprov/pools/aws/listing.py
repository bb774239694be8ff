"""Ask EC2 what exists: one listing per region, shared by all pools that are looked at at the same moment."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Lock
from typing import Final

from preprov.contracts import Clock
from preprov.model.notes import POOL, TOKEN
from preprov.pools.aws.clients import Clients, Json, batches, pages
from preprov.pools.aws.options import Place

_SHARED: Final = timedelta(seconds=2)
_ALIVE: Final = ("pending", "running", "stopping", "stopped")
_PAGE: Final = 1000
_VALUES: Final = 200
"""Most values a filter takes."""


@dataclass(frozen=True)
class _Kept:
    at: datetime
    instances: tuple[Json, ...]
    readers: set[str] = field(default_factory=set)


class Listing:
    """Instances as EC2 shows them. It may lag behind writes by some seconds, as EC2 says of itself."""

    def __init__(self, clients: Clients, clock: Clock) -> None:
        self._clients = clients
        self._clock = clock
        self._lock = Lock()
        self._kept: dict[Place, _Kept] = {}

    def alive(self, place: Place, *, reader: str = "") -> tuple[Json, ...]:
        """All instances that carry a pool's tag and have not ended.

        Args:
            place: where.
            reader: whoever names itself may be given what another has asked for within 2 s, but the same only once.

        Raises:
            PoolError: it could not be listed.
        """
        with self._lock:
            kept = self._kept.get(place)
            stale = kept is None or reader in kept.readers or self._clock.now() - kept.at > _SHARED
            if kept is None or not reader or stale:
                found = self._filtered(place, {"tag-key": [POOL], "instance-state-name": list(_ALIVE)})
                kept = self._kept[place] = _Kept(self._clock.now(), tuple(found))
            kept.readers.add(reader)
            return kept.instances

    def forget(self, place: Place) -> None:
        """Something was written: the next look asks anew."""
        with self._lock:
            self._kept.pop(place, None)

    def of_token(self, place: Place, pool: str, token: str) -> list[Json]:
        """Instances that a launch made, those that have ended lately too."""
        return self._filtered(place, {f"tag:{POOL}": [pool], f"tag:{TOKEN}": [token]})

    def of_ids(self, place: Place, ids: Iterable[str]) -> dict[str, Json]:
        """Those instances that exist and have not ended, by id, asked now."""
        found: dict[str, Json] = {}
        for some in batches(dict.fromkeys(ids), _VALUES):
            wanted = {"instance-id": list(some), "instance-state-name": list(_ALIVE)}
            found |= {str(i["InstanceId"]): i for i in self._filtered(place, wanted)}
        return found

    def _filtered(self, place: Place, wanted: Mapping[str, Sequence[str]]) -> list[Json]:
        ec2 = self._clients.get("ec2", place)
        filters = [{"Name": k, "Values": list(v)} for k, v in wanted.items()]
        found = pages(
            ec2,
            "describe_instances",
            "Reservations",
            place.region,
            Filters=filters,
            PaginationConfig={"PageSize": _PAGE},
        )
        return [i for r in found for i in r["Instances"]]
