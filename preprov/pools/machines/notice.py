"""What an agent was told of its machine's end: some clouds say it to the machine alone, so it notes that for us."""

from collections.abc import Iterable, Iterator

from preprov.contracts import Notice
from preprov.model.notes import NOTICE
from preprov.model.time import from_epoch
from preprov.pools.machines.machine import Machine


def told(machines: Iterable[Machine]) -> Iterator[Notice]:
    """Notices that agents have noted; what cannot be read is left out."""
    for m in machines:
        kind, _, when = m.notes.get(NOTICE, "").partition("@")
        if kind in ("interruption", "rebalance") and when.isdecimal():
            deadline = from_epoch(float(when))
            said_at = from_epoch(m.report.health.at) if m.report else deadline
            yield Notice(m.node_id, kind, said_at, deadline, "told to the machine", receipt=f"{m.node_id} {when}")
