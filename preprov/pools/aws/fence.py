"""Make sure that a node runs nothing and begins nothing, before it is stopped or ended.

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
from preprov.model.nodes import Phase
from preprov.model.notes import FENCE, fence
from preprov.model.time import epoch
from preprov.pools.aws.clients import Clients, as_tags, batches
from preprov.pools.aws.errors import calling
from preprov.pools.aws.listing import Listing
from preprov.pools.aws.options import AwsGroup
from preprov.pools.aws.view import Heard, Seen, node

_LOOK_S: Final = 1.0
_HOLDS_S: Final = 180.0
"""A fence holds this much longer than it is waited for: time to send the end, and for clocks to differ."""
_SERVING: Final = frozenset({Phase.READY, Phase.DRAINING})
TAGGED_AT_ONCE: Final = 500


@dataclass(frozen=True)
class Fences:
    """Puts fences up and takes them down."""

    clients: Clients
    listing: Listing
    clock: Clock
    heard: Heard

    def close(self, group: AwsGroup, seen: Mapping[str, Seen], *, lost_too: bool) -> None:
        """All these nodes begin no task from now on and run none.

        Args:
            group: theirs.
            seen: the nodes, by id, as just listed.
            lost_too: a node that is lost counts as idle.

        Raises:
            NodeBusyError: one runs a task, or nobody can say; all of them take tasks as before.
            ConflictError: an agent did not confirm in time; likewise.
        """
        nodes = {i: n for i, s in seen.items() if (n := node(s, self.heard, self.clock.now())) is not None}
        busy = [i for i, n in nodes.items() if n.is_busy and not (lost_too and n.phase is Phase.LOST)]
        if busy:
            self.listing.forget(group.place)  # it may be older than what was found out here
            raise NodeBusyError(f"{', '.join(busy)} runs a task", where=group.where)
        awake = [i for i, n in nodes.items() if seen[i].state in ("pending", "running") and n.phase is not Phase.LOST]
        if not awake:
            return
        nonce = secrets.token_hex(6)
        value = fence(nonce, epoch(self.clock.now()) + group.fence_s + _HOLDS_S)
        ec2 = self.clients.get("ec2", group.place)
        for some in batches(awake, TAGGED_AT_ONCE):
            with calling(group.where):
                ec2.create_tags(Resources=list(some), Tags=as_tags({FENCE: value}))
        try:
            self._confirmed(group, awake, [i for i in awake if nodes[i].phase in _SERVING], nonce)
        except (NodeBusyError, ConflictError):
            self.open(group, awake)
            raise

    def open(self, group: AwsGroup, ids: Sequence[str]) -> None:
        """The nodes may begin tasks again."""
        ec2 = self.clients.get("ec2", group.place)
        for some in batches(ids, TAGGED_AT_ONCE):
            with calling(group.where):
                ec2.delete_tags(Resources=list(some), Tags=[{"Key": FENCE}])
        self.listing.forget(group.place)

    def _confirmed(self, group: AwsGroup, fenced: Sequence[str], serving: Sequence[str], nonce: str) -> None:
        """Wait until each serving node has said that it keeps the fence and runs nothing."""
        until = epoch(self.clock.now()) + group.fence_s
        waiting = list(serving)
        while True:
            found = self.listing.of_ids(group.place, fenced)
            now = {i: Seen.of(group, found[i]) for i in fenced if i in found}
            busy = [i for i, s in now.items() if s.report and any(t.ended_at is None for t in s.report.health.tasks)]
            if busy:
                raise NodeBusyError(f"{', '.join(busy)} runs a task", where=group.where)
            waiting = [i for i in waiting if i in now and not _acked(now[i], nonce)]
            if not waiting:
                return
            if epoch(self.clock.now()) > until:
                raise ConflictError(
                    f"no answer from the agent of {', '.join(waiting)}",
                    where=group.where,
                    hint="the next pass tries again",
                )
            self.clock.sleep(_LOOK_S)


def _acked(seen: Seen, nonce: str) -> bool:
    return seen.report is not None and seen.report.ack == nonce
