"""What Slurm has recorded of power-ups: when a node left the powered-down state, and when the job it was for began."""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Final

from preprov.contracts import Recollection, Warmed
from preprov.model.offerings import Standby
from preprov.model.time import epoch, from_epoch
from preprov.pools.slurm.options import SlurmGroup
from preprov.slurm.accounting import AccountedJob
from preprov.slurm.commands import PowerSpan, SlurmCommands
from preprov.slurm.errors import SlurmError
from preprov.slurm.hostlist import expand
from preprov.slurm.windows import Windows

MEANS: Final = (
    "from Slurm's power-up to the start of the job it was for, or to the start of slurmd; a job begins some seconds "
    "after its node registers"
)
_CLOCKS_S: Final = 2.0
_LONGEST_S: Final = 6 * 3600.0
_BACK: Final = timedelta(days=1)


def recall(group: SlurmGroup, slurm: SlurmCommands, since: datetime, now: datetime) -> Recollection:
    """Power-ups of the group's nodes since then, of those whose end the accounting or slurmd tells.

    Raises:
        SlurmError: it cannot be asked.
    """
    names = set(group.names)
    spans = _merged(s for s in slurm.powered_down(since, now) if s.node in names)
    ups = [
        (a.node, a.ended, b.began if b is not None and b.node == a.node else float("inf"))
        for a, b in zip_longest(spans, spans[1:])
        if a.ended is not None and a.ended >= epoch(since)
    ]
    if not ups:
        return Recollection(means=MEANS)
    began = {n.name: n.started_at for n in slurm.nodes() if n.name in names and n.started_at and not n.is_gone}
    firsts = _firsts(slurm, epoch(since - _BACK), epoch(now), names)
    kind = {o.instance_type for o in group.group.offerings}
    came_from = group.suspend_to if group.suspend_to is not Standby.RUNNING else Standby.COLD
    warmed, left = [], Counter[str]()
    for node, up, down in sorted(ups, key=lambda u: u[1]):
        ready = _ready(up, down, firsts.get(node, ()), began.get(node))
        if ready is None:
            left["powered up, and nothing tells when it was ready"] += 1
            continue
        only = next(iter(kind)) if len(kind) == 1 else ""
        warmed.append(Warmed(node, from_epoch(ready), ready - up, "", only, came_from))
    return Recollection(tuple(warmed), MEANS, tuple(sorted(left.items())))


def _merged(spans: Iterable[PowerSpan]) -> list[PowerSpan]:
    """Spans by node and time, those that touch as one: a controller that starts again begins a new record."""
    out: list[PowerSpan] = []
    for span in sorted(spans, key=lambda s: (s.node, s.began)):
        last = out[-1] if out and out[-1].node == span.node else None
        if last is None or last.ended is None or last.ended < span.began:
            out.append(span)
        else:
            out[-1] = replace(last, ended=None if span.ended is None else max(last.ended, span.ended))
    return out


def _ready(up: float, down: float, jobs: Iterable[AccountedJob], slurmd: float | None) -> float | None:
    """When a node that powered up then could take work: the first that tells it, before it powered down again.

    A job counts if it could have started when the node was called for: one that came later tells when it came.
    """
    told = [
        j.started_at
        for j in jobs
        if j.started_at is not None
        and up < j.started_at < down
        and j.eligible_at is not None
        and j.eligible_at <= up + _CLOCKS_S
    ]
    if slurmd is not None and up < slurmd < down:
        told.append(slurmd)
    ready = min(told, default=None)
    return ready if ready is not None and ready - up <= _LONGEST_S else None


def _firsts(slurm: SlurmCommands, since: float, now: float, names: set[str]) -> dict[str, list[AccountedJob]]:
    """Jobs of one node each, by it: one of several begins when the last of them is there. Read window by window."""
    out: dict[str, dict[tuple[int, float | None], AccountedJob]] = {}
    windows = Windows(time.monotonic)
    for jobs in windows.each(since, now, lambda a, b: slurm.accounting(from_epoch(a), from_epoch(b))):
        for job in jobs:
            node = _only_node(job)
            if node in names:
                out.setdefault(node, {})[job.job_id, job.started_at] = job  # one that is long is in several windows
    return {node: list(found.values()) for node, found in out.items()}


def _only_node(job: AccountedJob) -> str:
    """The node it ran on; "" = on several, or none."""
    try:
        hosts = expand(job.nodes) if job.node_count == 1 else ()
    except SlurmError:
        return ""
    return hosts[0] if len(hosts) == 1 else ""
