"""All that a decision looks at, and what it comes to before it is priced and put into words."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from preprov.model.nodes import Node
from preprov.model.offerings import LeadTime, Offering, Standby
from preprov.model.plans import ActionKind
from preprov.planning.inputs import PlanInputs
from preprov.planning.need import Horizon, Need, window_max
from preprov.planning.offers import Choice
from preprov.planning.optimum import Optimum
from preprov.planning.scaledown import Fate
from preprov.planning.supply import Supply

Array: TypeAlias = NDArray[Any]

_EPS: Final = 1e-6
LOWER: Final = {
    Standby.HIBERNATED: ActionKind.HIBERNATE,
    Standby.STOPPED: ActionKind.STOP,
    Standby.COLD: ActionKind.TERMINATE,
}


@dataclass(frozen=True)
class Situation:
    """All that a decision looks at, read once.

    Attributes:
        choices: offerings, best first; the first is the reference in whose nodes need and supply are counted.
        by_offering: (group, offering key) -> choice, also of nodes whose offering is no longer configured.
        sizes: same key -> one node of it in nodes of the reference.
        optimum: how many nodes in which state is best; None = by rule of thumb.
    """

    inputs: PlanInputs
    horizon: Horizon
    choices: list[Choice]
    by_offering: Mapping[tuple[str, str], Choice]
    supply: Supply
    need: Need
    sizes: Mapping[tuple[str, str], float]
    notes: tuple[str, ...] = ()
    optimum: Optimum | None = None

    @property
    def reference(self) -> Choice:
        """The offering that counts are in."""
        return self.choices[0]

    @property
    def tick_s(self) -> float:
        """Seconds until the next plan."""
        return self.inputs.tick_s or float(self.horizon.step_s)

    def choice(self, group: str, offering: Offering) -> Choice:
        """Of a node."""
        return self.by_offering[(group, offering.key)]

    def window(self, lead: LeadTime) -> int:
        """Steps that an order given now has to cover: until one given at the next tick would be ready.

        The lead time counts at the service level too, within its median and its 95th percentile: who does not mind
        waiting need not pay for being early.
        """
        level = min(max(self.need.level, 0.5), 0.95)
        return self.horizon.window(lead.quantile(level) + self.tick_s)

    def target(self, lead: LeadTime) -> Array:
        """(T,) nodes to be ready or on the way at each step, for a way to ready of that lead time."""
        if self.optimum is None:
            return self.need.order_up_to(self.window(lead))
        return self._ahead(self.optimum, self.optimum.running, lead)

    def cold_target(self) -> Array:
        """`target` for a launch of the reference offering."""
        return self.target(self.reference.lead)

    def existing(self, lead: LeadTime) -> Array:
        """(T,) nodes that should run, be kept, or be on the way."""
        return self.target(lead) if self.optimum is None else self._ahead(self.optimum, self.optimum.kept, lead)

    def planned(self, key: tuple[str, str], state: Standby, lead: LeadTime) -> int:
        """Nodes of a choice that the optimum keeps in a state now or within a lead window."""
        if self.optimum is None or key not in self.optimum.nodes:
            return 0
        first = self.optimum.index(self.inputs.now)
        counts = self.optimum.nodes[key][state][first : first + self.window(lead)]
        return int(counts.max(initial=0))

    def _ahead(self, optimum: Optimum, counts: Array, lead: LeadTime) -> Array:
        """(T,) maximum of the optimum's counts over the lead window, and what has to be there whatever it says."""
        window, steps = self.window(lead), self.horizon.steps
        ahead = counts[optimum.index(self.inputs.now) :][:steps]
        ahead = np.append(ahead, np.repeat(ahead[-1:], steps - len(ahead)))
        least = self.need.floor.astype(np.int64)
        least[:window] = np.maximum(least[:window], self.need.waiting)
        out: Array = window_max(np.maximum(ahead, least)[None, :], window)[0]
        return out

    def size(self, choice: Choice) -> float:
        """One node of it in nodes of the reference."""
        return self.sizes[choice.key]

    def way_back(self, node: Node, state: Standby) -> LeadTime:
        """Lead time of the node from that state."""
        choice = self.choice(node.group, node.offering)
        return choice.standby_lead.get(state, choice.lead)


@dataclass
class Move:
    """Part of a plan before it is priced and put into words.

    Attributes:
        at_s: seconds from now. lo, hi: the levels [lo, hi) of running nodes (in nodes of the reference) it concerns.
        state: the nodes end in. came_from: the nodes were in. due_s: when they are needed (raises).
        fate: the comparison behind an end. why: what else to say.
        cost_usd, saves_core_h: filled in by pricing.
    """

    kind: ActionKind
    choice: Choice
    count: int
    lo: int
    hi: int
    state: Standby
    at_s: float = 0.0
    came_from: Standby = Standby.COLD
    node_ids: tuple[str, ...] = ()
    due_s: float = 0.0
    fate: Fate | None = None
    why: str = ""
    cost_usd: float = 0.0
    saves_core_h: float = 0.0


@dataclass
class Decision:
    """Moves due now, the votes, and what to tell the reader.

    Attributes:
        running: size of running nodes after the moves; standby: nodes left in standby, quickest back first.
        filled: size of new nodes that the vendor launches into standby.
    """

    running: float
    standby: list[Node]
    filled: float = 0.0
    moves: list[Move] = field(default_factory=list)
    votes: dict[str, datetime] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
