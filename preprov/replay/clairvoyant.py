"""The policy `clairvoyant`: it knows all demand to come, though not how long each launch will take.

What it shows can be had; what nobody can get below is in `bound`.
"""

import math
from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np

from preprov.model.offerings import Standby
from preprov.model.plans import ActionKind
from preprov.replay.engine import Binding
from preprov.replay.policy import FloorPolicy, Order, Setting, View, demand_levels

_KEPT: Final = (Standby.HIBERNATED, Standby.STOPPED)
_AS: Final = {Standby.HIBERNATED: ActionKind.HIBERNATE, Standby.STOPPED: ActionKind.STOP}
_HOUR: Final = 3600.0
Kept: TypeAlias = dict[Standby, list[str]]


class Clairvoyant(FloorPolicy):
    """Orders for the most that will be wanted within the lead time; lowers to whatever is cheapest until the next use.

    Knob: the quantile of the lead time that it allows for; the lower, the more it waits and the less it pays.
    """

    def __init__(self, knob: float | None = None) -> None:
        super().__init__(knob=0.95 if knob is None else knob, name="clairvoyant")

    def bind(self, binding: Binding) -> None:
        """Look at the whole trace."""
        room = binding.pool.groups[0].offerings[0].allocatable
        self._times, level = demand_levels(binding.work, room)
        self._nodes = np.ceil(level - 1e-9).astype(np.int64)

    def prepare(self, setting: Setting) -> None:
        """Work out what each way of keeping a node costs."""
        super().prepare(setting)
        group = setting.pool.groups[0]
        usd = group.offerings[0].usd_per_hour or 1.0
        states = [Standby.COLD, *(s for s in _KEPT if s in group.standby_states)]
        q = min(max(self.knob, 1e-3), 1 - 1e-3)
        self._lead = {s: setting.lead(s).quantile(q) for s in states}
        self._price = {s: group.standby_usd_per_hour.get(s, 0.0) for s in states}
        self._back = {s: usd * setting.lead(s).mean_s / _HOUR for s in states}
        self._usd = usd

    def tick(self, now: float, view: View) -> list[Order]:
        """Launch for what is to come, start what is near, put away what is not wanted for a while."""
        kept: Kept = {s: view.standby(s) for s in self._lead if s is not Standby.COLD}
        up = view.ready + view.warming
        soon = self._most(now, self.tick_s + max((self._lead[s] for s in kept), default=0.0))
        later = self._most(now, self.tick_s + self._lead[Standby.COLD])
        pending = math.ceil(view.waiting - 1e-9)
        starting = max(soon, view.ready + pending if pending else 0) - up
        orders = self._raise_from(kept, starting) if starting > 0 else []
        have = up + sum(len(ids) for ids in kept.values())
        missing = max(later, soon, view.ready + pending if pending else 0) - have
        if missing > 0:
            orders.append(Order(ActionKind.LAUNCH, missing))
        if orders or view.waiting > 0:
            return orders
        return [*self._put_away(now, up, soon, view), *self._give_up(now, up, kept)]

    def _raise_from(self, kept: Kept, count: int) -> list[Order]:
        out = []
        for ids in kept.values():
            chosen = tuple(ids[:count])
            if chosen:
                out.append(Order(ActionKind.START, len(chosen), chosen))
                count -= len(chosen)
        return out

    def _most(self, now: float, ahead_s: float) -> int:
        """The most nodes that demand fills at once within the next seconds."""
        a = max(int(np.searchsorted(self._times, now, side="right")) - 1, 0)
        b = int(np.searchsorted(self._times, now + ahead_s, side="right"))
        return int(self._nodes[a:b].max(initial=0))

    def _gap_s(self, now: float, level: int) -> float:
        """Seconds until more than `level` nodes are wanted again; inf if never."""
        a = max(int(np.searchsorted(self._times, now, side="right")) - 1, 0)
        width = 64
        while a < len(self._nodes):
            hit = np.flatnonzero(self._nodes[a : a + width] > level)
            if len(hit):
                return max(float(self._times[a + int(hit[0])]) - now, 0.0)
            a, width = a + width, width * 4
        return math.inf

    def _cheapest(self, gap_s: float) -> Standby:
        """How to keep a node that is wanted again after so long."""
        costs = {s: self._price[s] * gap_s / _HOUR + self._back[s] if gap_s < math.inf else 0.0 for s in self._lead}
        if gap_s == math.inf:
            return Standby.COLD
        costs[Standby.RUNNING] = self._usd * gap_s / _HOUR
        return min(costs, key=lambda s: costs[s])

    def _put_away(self, now: float, up: int, soon: int, view: View) -> list[Order]:
        idle = [i for i, _ in view.idle()][::-1]
        chosen: dict[Standby, list[str]] = {}
        for rank, node_id in enumerate(idle[: max(up - soon, 0)]):
            state = self._cheapest(self._gap_s(now, up - 1 - rank))
            if state is not Standby.RUNNING:
                chosen.setdefault(state, []).append(node_id)
        return [Order(_AS.get(s, ActionKind.TERMINATE), len(ids), tuple(ids)) for s, ids in chosen.items()]

    def _give_up(self, now: float, up: int, kept: Kept) -> list[Order]:
        """End kept nodes that it is cheaper to launch anew."""
        ids: Sequence[str] = [i for held in kept.values() for i in held]
        for rank in range(len(ids)):
            if self._cheapest(self._gap_s(now, up + rank)) is Standby.COLD:
                return [Order(ActionKind.TERMINATE, len(ids) - rank, tuple(ids[rank:]))]
        return []
