"""The figures behind what a reaction does, gathered from what it was decided by. Asked for where something is done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from preprov.model.nodes import Node
from preprov.model.offerings import Offering, Standby
from preprov.model.plans import Action
from preprov.model.pools import Group, Pool
from preprov.planning.ahead import Ahead
from preprov.planning.instead import Course, End, Explained, Figures, Launch, Raise, explain_ends, explain_raises
from preprov.planning.kinds import Kinds

_HOUR: Final = 3600.0
_LEAST: Final = 1e-6


@dataclass(frozen=True)
class Decided:
    """What a reaction was decided by.

    Attributes:
        nodes: by id. have, asleep: nodes of the reference that run or warm before it, and that are kept or on their way
            into standby. level: service level. quickest_s: the quickest way to ready. tick_s: until the next reaction.
    """

    pool: Pool
    kinds: Kinds
    ahead: Ahead
    nodes: Mapping[str, Node]
    have: float
    asleep: float
    level: float
    quickest_s: float
    tick_s: float

    def explain(self, actions: Sequence[Action]) -> Explained:
        """The costs of actions of it, as many as are carried out, and what else there was."""
        moved = [[self.nodes[x] for x in a.node_ids] for a in actions]
        offerings = [o for _, o in self.kinds.ranked] + [n.offering for nodes in moved for n in nodes]
        cores, end_s = self.kinds.reference.allocatable.cpu, self.ahead.end_s
        figures = Figures(self.pool.objective, cores, end_s, self.kinds.priced(offerings))
        if not actions[0].kind.raises:
            return explain_ends(figures, [self._end(a, nodes) for a, nodes in zip(actions, moved, strict=True)])
        have, asleep, raises = self.have, self.asleep, list[Raise]()
        for a, nodes in zip(actions, moved, strict=True):
            # What is launched comes on top of what can be woken in less time.
            found = self._raise(a, nodes, have if nodes else have + asleep)
            raises.append(found)
            have += found.hi - found.lo
            asleep -= found.hi - found.lo if nodes else 0.0
        ways = [self._launch(*which) for which in self.kinds.ranked]
        return explain_raises(figures, raises, ways[0], ways[1:])

    def _raise(self, action: Action, nodes: Sequence[Node], have: float) -> Raise:
        kinds = self.kinds
        if nodes:
            way_s, size = kinds.in_time_s(nodes[0], nodes[0].standby), kinds.sizes(nodes)
            running = sum(kinds.rate(n.offering) for n in nodes)
            kept = sum(kinds.kept_at(n, n.standby) for n in nodes)
        else:
            group, offering = next(x for x in kinds.ranked if (x[0].name, x[1].key) == (action.group, action.offering))
            way_s, size = kinds.cold_s(group, offering), action.count * kinds.size(offering)
            running, kept = action.count * kinds.rate(offering), 0.0
        window_s = way_s + self.tick_s
        futures, floor = self.ahead.futures(window_s), self.ahead.by_floor(window_s, self.level)
        return Raise(action, window_s, futures, have, have + size, running, kept, floor)

    def _launch(self, group: Group, offering: Offering) -> Launch:
        return Launch(
            name=f"{offering.key} in {group.name}",
            window_s=self.kinds.cold_s(group, offering) + self.tick_s,
            usd_per_hour=self.kinds.rate(offering) / max(self.kinds.size(offering), _LEAST),
            minimum_s=offering.minimum_billing_s,
        )

    def _end(self, action: Action, nodes: Sequence[Node]) -> End:
        kinds, hours, chance = self.kinds, self.ahead.end_s / _HOUR, self.ahead.chance
        states = self.pool.group(action.group).standby_states - {Standby.RUNNING} | {Standby.COLD}
        courses = {Standby.RUNNING: Course(sum(kinds.rate(n.offering) for n in nodes) * hours)}
        for s in sorted(states):
            backs = [(kinds.back(n, chance, self.quickest_s, s), kinds.kept_at(n, s)) for n in nodes]
            courses[s] = sum((Course(usd * hours + back.usd, back.wait_core_h) for back, usd in backs), Course())
        back = kinds.back(nodes[0], chance, self.quickest_s)
        figures = {"chance": back.chance, "hold_s": back.hold_s, "back_s": back.back_s}
        return End(action, action.standby_state, courses, {k: round(v, 4) for k, v in figures.items()})
