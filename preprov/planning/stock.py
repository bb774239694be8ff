"""What exists of each kind of node against what the optimum lets exist, and in which state the next idle one is kept.

Two questions, so two rules. A plan knows how many run: what is idle beyond that goes where one more is planned, the
quickest back first. Between plans nobody knows: there are as many as were planned in all, and what is idle may have to
run in a moment, so that it sleeps lightly once what was planned to sleep deeply does.
"""

from collections.abc import Iterable
from datetime import datetime

from preprov.model.nodes import Node, PoolObservation
from preprov.model.offerings import Standby
from preprov.model.pools import Pool
from preprov.planning.optimum import Optimum


class _Counted:
    """Nodes by group, offering and standby state; those that are put away are counted as they go."""

    def __init__(self, nodes: Iterable[Node], optimum: Optimum | None, now: datetime, steps: int) -> None:
        self._optimum, self._steps = optimum, steps
        self._first = 0 if optimum is None else optimum.index(now)
        self._there: dict[tuple[str, str], dict[Standby, int]] = {}
        self._most: dict[tuple[str, str], dict[Standby, int]] = {}
        for n in nodes:
            self.take(n, n.standby)

    def take(self, node: Node, state: Standby, by: int = 1) -> None:
        """Count a node into (or out of) a state."""
        counts = self._of(node)
        counts[state] = counts.get(state, 0) + by

    def _of(self, node: Node) -> dict[Standby, int]:
        return self._there.setdefault((node.group, node.offering.key), {})

    def _planned(self, node: Node) -> dict[Standby, int]:
        """State -> most nodes of its kind within the steps from now on."""
        key = (node.group, node.offering.key)
        if key not in self._most:
            ahead = slice(self._first, self._first + self._steps)
            planned = {} if self._optimum is None else self._optimum.nodes.get(key, {})
            self._most[key] = {s: int(c[ahead].max(initial=0)) for s, c in planned.items()}
        return self._most[key]


class PlannedStock(_Counted):
    """Of standby nodes, as a plan looks at them.

    Args:
        steps: of the optimum until the next plan is made.
    """

    def next_of(self, node: Node) -> Standby | None:
        """The state in which one more of its kind is wanted, COLD if none; None = there is no optimum."""
        if self._optimum is None:
            return None
        counts, most = self._of(node), self._planned(node)
        kept = (Standby.HIBERNATED, Standby.STOPPED)
        return next((s for s in kept if most.get(s, 0) > counts.get(s, 0)), Standby.COLD)

    def spare(self, node: Node) -> bool:
        """True if there are more of its kind in its state than wanted."""
        return self._of(node).get(node.standby, 0) > self._planned(node).get(node.standby, 0)


class Stock(_Counted):
    """Of all nodes, as they are looked at between plans.

    Args:
        optimum: how many may exist in which state; None = none may.
    """

    def __init__(self, pool: Pool, observation: PoolObservation, optimum: Optimum | None, now: datetime) -> None:
        super().__init__(observation.nodes, optimum, now, 2)
        self._pool = pool

    def next_of(self, node: Node) -> Standby | None:
        """The state the node is put in; None = it goes on running: there is nowhere cheaper."""
        counts, most = self._of(node), self._planned(node)
        allowed = self._pool.group(node.group).standby_states
        if sum(counts.values()) > sum(most.values()):
            state = Standby.COLD
        elif Standby.HIBERNATED in allowed and (
            Standby.STOPPED not in allowed or counts.get(Standby.STOPPED, 0) >= most.get(Standby.STOPPED, 0)
        ):
            state = Standby.HIBERNATED
        elif Standby.STOPPED in allowed:
            state = Standby.STOPPED
        else:
            return None
        self.take(node, Standby.RUNNING, -1)
        if state is not Standby.COLD:
            self.take(node, state)
        return state
