"""Keep nodes from Slurm's idle timer, for as long as somebody says so, and no longer.

Slurm suspends a node that has been idle for SuspendTime. Clearing a drain that is not there begins its idle time anew;
nothing else that is true of a node changes. So whoever stops saying so lets the timer run: a dead controller costs
SuspendTime, not a weekend. Only idle nodes are touched, and only once half of their time has run off.

A drain that somebody sets between our look and our touch would be lost. It is seen by its reason, and set again.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import structlog

from preprov.pools.slurm.options import SlurmGroup
from preprov.pools.slurm.view import REFUSED, Place
from preprov.slurm.commands import SlurmCommands
from preprov.slurm.errors import SlurmError
from preprov.slurm.records import SlurmNode
from preprov.slurm.shapes import number

log = structlog.get_logger(__name__)

_SETTINGS_FRESH_S: Final = 300.0
_SHARE: Final = 0.5
_CLOCKS_S: Final = 2.0
"""Slurm counts whole seconds, and another host's clock may differ."""


class Toucher:
    """Touches; remembers when, to notice where that has no effect."""

    def __init__(self) -> None:
        self._touched: dict[str, float] = {}
        self._suspend: dict[str, tuple[float, float | None]] = {}

    def touch(self, group: SlurmGroup, slurm: SlurmCommands, names: Sequence[str]) -> list[str]:
        """Begin the idle time of these nodes anew where half of it is over; returns which."""
        limit = self._suspend_s(group, slurm)
        if limit is None:
            return []
        now = time.time()
        before = {n.name: n for n in slurm.nodes() if n.name in set(names)}
        due = [n for n in before.values() if _is_idle(n) and now - (n.last_busy or 0.0) > limit * _SHARE]
        if not due:
            return []
        slurm.update_nodes((n.name for n in due), state="undrain")
        self._touched.update({n.name: now for n in due})
        self._restore(slurm, before, [n.name for n in due])
        return [n.name for n in due]

    def _restore(self, slurm: SlurmCommands, before: Mapping[str, SlurmNode], touched: Sequence[str]) -> None:
        """Set drains again that came between the look and the touch."""
        for n in slurm.nodes():
            if n.name in touched and not n.is_drained and n.reason and n.reason_at != before[n.name].reason_at:
                log.warning("a drain came as the node was touched, and is set again", node=n.name, reason=n.reason)
                slurm.update_nodes([n.name], state="drain", reason=n.reason)

    def _suspend_s(self, group: SlurmGroup, slurm: SlurmCommands) -> float | None:
        """The shortest time after which Slurm suspends a node of this cluster; None = never."""
        key, now = str(group.conf), time.monotonic()
        held = self._suspend.get(key)
        if held is None or now - held[0] > _SETTINGS_FRESH_S:
            said = slurm.settings().get("SuspendTime", "")
            found = number(said.split()[0]) if said else None
            held = (now, found if found is not None and found > 0 else None)
            self._suspend[key] = held
        return held[1]

    def failed(self, places: Iterable[Place]) -> list[str]:
        """Names whose idle time a touch did not begin anew, though they are idle still."""
        out = []
        for p in places:
            at = self._touched.get(p.name)
            if at is None or p.slurm is None:
                continue
            if p.slurm.last_busy is not None and p.slurm.last_busy + _CLOCKS_S >= at:
                self._touched.pop(p.name)
            elif _is_idle(p.slurm) and time.time() - at > _CLOCKS_S:
                out.append(p.name)
        return out


def _is_idle(n: SlurmNode) -> bool:
    flags = n.is_gone or n.is_going or n.is_coming or n.is_drained or n.is_down
    return n.state == "IDLE" and not flags and not n.is_used


def give_back(
    group: SlurmGroup, slurm: SlurmCommands, nodes: Iterable[SlurmNode], at: float | None = None
) -> list[str]:
    """Let Slurm try those of `nodes` again whose vendor refused them `retry_s` ago or more; returns which."""
    now = time.time() if at is None else at
    due = [
        n.name
        for n in nodes
        if n.name in group.names
        and n.is_down
        and n.reason.startswith(REFUSED)
        and now - (n.reason_at or 0.0) >= group.retry_s
    ]
    for name in due:
        try:
            slurm.update_nodes([name], state="resume")
        except SlurmError as e:  # it is on its way already
            log.info("not given back yet", node=name, said=e.said)
    return due
