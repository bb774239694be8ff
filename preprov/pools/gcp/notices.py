"""Preemptions: what the zone's operations tell of the past, what agents were told of the next seconds."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final

from preprov.contracts import Notice
from preprov.pools.gcp.group import ManagedGroup
from preprov.pools.gcp.view import name_of
from preprov.pools.machines.machine import Machine, instant
from preprov.pools.machines.notice import told

_KINDS: Final = {"compute.instances.preempted": "interruption", "compute.instances.hostError": "state"}
_BACK: Final = timedelta(hours=1)


def read(group: ManagedGroup, machines: Iterable[Machine], now: datetime) -> Iterator[Notice]:
    """Notices of the last hour about instances of this group's name, and those that its machines were told.

    Raises:
        PoolError: the zone's operations cannot be listed.
    """
    base = group.base
    wanted = " OR ".join(f'(operationType = "{k}")' for k in _KINDS)
    for op in group.ask_all("ZoneOperations", "list", filter=wanted):
        at = instant(op.insert_time)
        name = name_of(op.target_link)
        if at is not None and now - at <= _BACK and name.startswith(f"{base}-"):
            kind = _KINDS.get(op.operation_type, "state")
            yield Notice(name, kind, at, at, op.status_message, receipt=op.name)
    yield from told(machines)
