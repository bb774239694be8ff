"""Ways, sizes and prices of nodes as a reaction looks them up: nodes are many and their kinds few, so once for each."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from preprov.contracts import PriceBook
from preprov.model.nodes import Node
from preprov.model.offerings import LeadTime, Offering, Standby
from preprov.model.pools import Group, Pool
from preprov.planning.leads import Leads
from preprov.planning.offers import relative_size, standby_price
from preprov.planning.scaledown import Return

_KEPT: Final = frozenset({Standby.HIBERNATED, Standby.STOPPED})
_LEAST_USD: Final = 1e-6


class Kinds:
    """Of one reaction.

    Args:
        ranked: what can be launched, the cheapest first; the first is the reference that sizes are in.
        in_time: share of warmings that are to be ready in time.
    """

    def __init__(
        self,
        pool: Pool,
        now: datetime,
        leads: Leads,
        prices: PriceBook,
        ranked: Sequence[tuple[Group, Offering]],
        in_time: float,
    ) -> None:
        self._pool, self._now, self._leads, self._prices = pool, now, leads, prices
        self.ranked, self._in_time = ranked, in_time
        self.reference = ranked[0][1]
        self._ways: dict[tuple[str, int, Standby], tuple[LeadTime, float]] = {}
        self._sizes: dict[int, float] = {}
        self._rates: dict[int, float] = {}
        self._kept: dict[tuple[str, int, Standby], float] = {}
        self._backs: dict[tuple[str, int, Standby | None], Return] = {}

    def lead(self, node: Node, state: Standby) -> LeadTime:
        """From that state to ready."""
        return self._way(node.group, node.offering, state)[0]

    def in_time_s(self, node: Node, state: Standby) -> float:
        """Seconds from that state to ready, at the level of the objective."""
        return self._way(node.group, node.offering, state)[1]

    def cold_s(self, group: Group, offering: Offering) -> float:
        """Seconds from a launch to ready, at the level of the objective."""
        return self._way(group.name, offering, Standby.COLD)[1]

    def _way(self, group: str, offering: Offering, state: Standby) -> tuple[LeadTime, float]:
        kind = (group, id(offering), state)
        if kind not in self._ways:
            lead = self._leads(group, offering, state)
            self._ways[kind] = (lead, lead.quantile(self._in_time))
        return self._ways[kind]

    def quickest_s(self, kept: Iterable[Node]) -> float:
        """Seconds of the quickest way to ready there is, of the kept nodes and of a launch of the reference."""
        kinds = {(n.group, id(n.offering), n.standby): n for n in kept}
        return min([*(self.in_time_s(n, n.standby) for n in kinds.values()), self.cold_s(*self.ranked[0])])

    def size(self, offering: Offering) -> float:
        """In nodes of the reference."""
        if id(offering) not in self._sizes:
            self._sizes[id(offering)] = relative_size(offering, self.reference, self._pool.binding)
        return self._sizes[id(offering)]

    def sizes(self, nodes: Iterable[Node]) -> float:
        """Of nodes together."""
        return float(sum(self.size(n.offering) for n in nodes))

    def priced(self, offerings: Iterable[Offering]) -> bool:
        """True if the price of each is known."""
        kinds = {id(o): o for o in offerings}.values()
        return all(self._prices.usd_per_hour(o, self._now) is not None for o in kinds)

    def rate(self, offering: Offering) -> float:
        """USD per running hour; 1 where no price is known, so that costs are node-hours."""
        if id(offering) not in self._rates:
            usd = self._prices.usd_per_hour(offering, self._now)
            self._rates[id(offering)] = 1.0 if usd is None else usd
        return self._rates[id(offering)]

    def kept_at(self, node: Node, state: Standby) -> float:
        """The same of a node that is kept; 0 for one that does not exist."""
        if state is Standby.COLD:
            return 0.0
        kind = (node.group, id(node.offering), state)
        if kind not in self._kept:
            group = self._pool.group(node.group)
            self._kept[kind] = standby_price(self._prices, group, node.offering, state, self._now)
        return self._kept[kind]

    def back(self, node: Node, chance: float, quickest_s: float, state: Standby | None = None) -> Return:
        """What having a node back takes that is put away, from a state or by the quickest way there is.

        Args:
            chance: that it is wanted after all. quickest_s: that work waits, whichever node it gets.
        """
        kind = (node.group, id(node.offering), state)
        if kind not in self._backs:
            kept = self._pool.group(node.group).standby_states & _KEPT
            states = {state} if state is not None else kept or {Standby.COLD}
            self._backs[kind] = Return(
                chance=chance,
                back_s=max(min(self.lead(node, s).mean_s for s in states), node.offering.minimum_billing_s),
                late_s=quickest_s if state is None else self.in_time_s(node, state),
                rate=max(self.rate(node.offering), _LEAST_USD),
                cores=node.offering.allocatable.cpu,
                shortage_usd=self._pool.objective.shortage_usd_per_core_hour,
            )
        return self._backs[kind]
