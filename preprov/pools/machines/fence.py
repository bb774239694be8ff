"""Make sure that machines run nothing and begin nothing, before they are put to sleep or ended.

The controller writes a fence on the machine, the agent sees it, begins no task any more, and says so in its next
report together with the tasks that run there. Only a report that names the fence and no task lets the machine be ended:
the check and the end are one step on the node itself. A fence ends by itself, so a controller that dies here leaves a
node that soon takes tasks again.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from preprov.contracts import Clock
from preprov.model.errors import ConflictError, NodeBusyError
from preprov.model.nodes import Node, Phase
from preprov.model.notes import FENCE, fence
from preprov.model.time import epoch
from preprov.pools.machines.lender import Lender
from preprov.pools.machines.machine import Heard, Machine, node

_LOOK_S: Final = 1.0
_HOLDS_S: Final = 180.0
"""A fence holds this much longer than it is waited for: time to send the end, and for clocks to differ."""
_SERVING: Final = frozenset({Phase.READY, Phase.DRAINING})


@dataclass(frozen=True)
class Fences:
    """Puts fences up and takes them down."""

    clock: Clock
    heard: Heard

    def close(self, lender: Lender, machines: Mapping[str, Machine], *, lost_too: bool) -> None:
        """All these machines begin no task from now on and run none.

        Args:
            lender: whose they are.
            machines: by id, as just listed.
            lost_too: one that is lost counts as idle.

        Raises:
            NodeBusyError: one runs a task, or nobody can say; all of them take tasks as before.
            ConflictError: an agent did not confirm in time; likewise.
        """
        nodes = self._nodes(lender, machines)
        busy = [i for i, n in nodes.items() if n.is_busy and not (lost_too and n.phase is Phase.LOST)]
        if busy:
            raise _busy(lender, busy)
        awake = [i for i, m in machines.items() if m.awake and i in nodes and nodes[i].phase is not Phase.LOST]
        if not awake:
            return
        nonce = secrets.token_hex(6)
        until = epoch(self.clock.now()) + lender.fence_s
        try:
            lender.note(awake, {FENCE: fence(nonce, until + _HOLDS_S)})
            self._confirmed(lender, awake, [i for i in awake if nodes[i].phase in _SERVING], nonce, until)
        except Exception:
            self.open(lender, awake)
            raise

    def open(self, lender: Lender, ids: Sequence[str]) -> None:
        """The machines may begin tasks again."""
        lender.note(list(lender.machines(ids)), {FENCE: None})

    def _nodes(self, lender: Lender, machines: Mapping[str, Machine]) -> dict[str, Node]:
        now = self.clock.now()
        found = {i: node(lender.pool, lender.group, m, self.heard, now) for i, m in machines.items()}
        return {i: n for i, n in found.items() if n is not None}

    def _confirmed(
        self, lender: Lender, fenced: Sequence[str], serving: Sequence[str], nonce: str, until: float
    ) -> None:
        """Wait until each serving machine has said that it keeps the fence and runs nothing."""
        waiting = list(serving)
        while True:
            now = lender.machines(fenced)
            busy = [i for i, m in now.items() if m.said and any(t.ended_at is None for t in m.said.health.tasks)]
            if busy:
                raise _busy(lender, busy)
            waiting = [i for i in waiting if i in now and not _acked(now[i], nonce)]
            if not waiting:
                return
            if epoch(self.clock.now()) > until:
                silent = ", ".join(waiting)
                raise ConflictError(
                    f"no answer from the agent of {silent}", where=lender.where, hint="the next pass tries again"
                )
            self.clock.sleep(_LOOK_S)


def _acked(machine: Machine, nonce: str) -> bool:
    return machine.said is not None and machine.said.ack == nonce


def _busy(lender: Lender, ids: Sequence[str]) -> NodeBusyError:
    return NodeBusyError(
        f"{', '.join(ids)} runs a task, or nobody can say", where=lender.where, hint="drain it; its work ends by itself"
    )
