"""What Compute Engine's operations tell of machines that were asked for: when, and when each was there, or was not.

`zoneOperations.list` has one operation for each machine that a managed instance group inserts, starts or resumes, with
`insertTime` (asked for), `endTime` and, where it failed, `error`. "Completed Operation resources have a limited
retention period": two weeks, as `gcloud compute operations list` has it. Nothing records when a machine had booted, so
allocation is all that is told. See https://cloud.google.com/compute/docs/reference/rest/v1/zoneOperations.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final

from preprov.contracts import Recollection, Warmed
from preprov.model.errors import InsufficientCapacityError, QuotaExceededError
from preprov.model.offerings import Standby
from preprov.pools.gcp.errors import of_operation
from preprov.pools.gcp.group import ManagedGroup
from preprov.pools.gcp.view import name_of
from preprov.pools.machines.machine import instant

MEANS: Final = (
    "from Compute Engine's insert, start or resume to the end of that operation: allocation alone, for nothing records "
    "when a machine had booted; what is configured stands, and is raised where that is shorter"
)
_KINDS: Final[Mapping[str, Standby]] = {
    "insert": Standby.COLD,
    "start": Standby.STOPPED,
    "resume": Standby.HIBERNATED,
}
_REQUESTS: Final = 20
"""Pages of operations that are asked for at most; each has up to `_AT_ONCE`."""
_AT_ONCE: Final = 500
_LONGEST: Final = timedelta(hours=6)


def recall(group: ManagedGroup, since: datetime) -> Recollection:
    """Inserts, starts and resumes of machines of the group since then.

    Of times at which there were no machines only the last is told: that is what sets an offering back, and a group
    that goes on trying has an operation for each try.

    Raises:
        PoolError: it cannot be asked.
    """
    left: Counter[str] = Counter()
    found = list(_operations(group, since, left))
    types = _types(group) if found else {}
    warmed: list[Warmed] = []
    lacks: list[Warmed] = []
    for op in found:
        one = _warmed(op, group, types)
        if isinstance(one, str):
            left[one] += 1
        else:
            (lacks if one.lacked else warmed).append(one)
    last = max(lacks, key=lambda w: w.at, default=None)
    if last is not None:
        warmed.append(last)
        left["no capacity, and again later"] += len(lacks) - 1
    return Recollection(tuple(warmed), MEANS, tuple(sorted((why, n) for why, n in left.items() if n)))


def _operations(group: ManagedGroup, since: datetime, left: Counter[str]) -> Iterator[Any]:
    """Operations on machines of the group's name, the newest first."""
    begins, wanted = f"{group.base}-", " OR ".join(f'(operationType = "{k}")' for k in _KINDS)
    pages = group.ask_by_page(
        "ZoneOperations", "list", filter=wanted, order_by="creationTimestamp desc", max_results=_AT_ONCE
    )
    read = 0
    for page in islice(pages, _REQUESTS):
        read += 1
        there = [(op, at) for op in page if (at := instant(op.insert_time)) is not None]
        for op, at in there:
            if at >= since and "/instances/" in op.target_link and name_of(op.target_link).startswith(begins):
                yield op
        if there and there[-1][1] < since:
            return
    if read == _REQUESTS and next(pages, None) is not None:
        left[f"operations older than the newest {_REQUESTS} pages, which were not asked for"] += 1


def _warmed(op: Any, group: ManagedGroup, types: Mapping[str, str]) -> Warmed | str:
    """The warming, or why it tells none."""
    asked, ended = instant(op.insert_time), instant(op.end_time)
    if op.status.name != "DONE" or asked is None or ended is None:
        return "not over"
    took = ended - asked
    if not timedelta(0) < took <= _LONGEST:
        return "a time that makes no sense"
    failed = of_operation(op, group.where)
    if isinstance(failed, QuotaExceededError):
        return "a quota was full"
    lacked = isinstance(failed, InsufficientCapacityError)
    name, seconds = name_of(op.target_link), took.total_seconds()
    return Warmed(
        node_id=name,
        at=ended,
        seconds=seconds,
        zone=group.options.place.zone,
        instance_type=types.get(name, types.get("", "")),
        came_from=Standby.COLD if lacked else _KINDS[op.operation_type],
        failed=failed is not None and not lacked,
        lacked=lacked,
        stages={} if failed is not None else {"allocate": seconds},
        whole=failed is not None,
    )


def _types(group: ManagedGroup) -> Mapping[str, str]:
    """Machine -> its type, of those that exist; "" -> that of all, where the group can have but one."""
    only = {o.instance_type for o in group.group.offerings}
    if len(only) == 1:
        return {"": next(iter(only))}
    there = group.ask_all("Instances", "list", filter=f"name eq {group.base}.*", max_results=_AT_ONCE)
    return {i.name: name_of(i.machine_type) for i in there}
