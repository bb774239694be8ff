"""What exists of each kind of node against what the plan lets exist, and in which state the next idle one is kept."""

from datetime import datetime

from preprov.model.pools import Node, Pool, PoolObservation, Standby
from preprov.planning.optimum import Optimum


class Stock:
    """Nodes by group, offering and standby state; those that are put away are counted as they go.

    Args:
        optimum: how many may exist in which state; None = none may.
    """

    def __init__(self, pool: Pool, observation: PoolObservation, optimum: Optimum | None, now: datetime) -> None:
        self._pool, self._optimum, self._now = pool, optimum, now
        self._there: dict[tuple[str, str], dict[Standby, int]] = {}
        for n in observation.nodes:
            counts = self._there.setdefault((n.group, n.offering.key), {})
            counts[n.standby] = counts.get(n.standby, 0) + 1

    def next_of(self, node: Node) -> Standby | None:
        """The state the node is put in; None = it goes on running: there is nowhere cheaper."""
        key = (node.group, node.offering.key)
        counts, most = self._there[key], self._planned(key)
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
        counts[Standby.RUNNING] -= 1
        if state is not Standby.COLD:
            counts[state] = counts.get(state, 0) + 1
        return state

    def _planned(self, key: tuple[str, str]) -> dict[Standby, int]:
        if self._optimum is None or key not in self._optimum.nodes:
            return {}
        first = self._optimum.index(self._now)
        return {s: int(c[first : first + 2].max(initial=0)) for s, c in self._optimum.nodes[key].items()}
