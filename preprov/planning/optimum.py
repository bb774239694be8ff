"""The programme's answer, held from tick to tick, and the one rule for when it is no longer good."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from preprov.model.offerings import Standby

Array: TypeAlias = NDArray[Any]

TOLERANCE: Final = 0.1
"""Share by which an input may move before the programme is solved again."""
MOST_AGE_S: Final = 1800.0
NEAR_S: Final = 3600.0
"""Within this a change counts step by step, beyond it as a whole."""


@dataclass(frozen=True)
class Signals:
    """What an optimum depends on, as far as a later one is compared with it.

    Attributes:
        start: of the first step. step_s: its length.
        demand: (Q, T) nodes: mean over the futures and what the service level covers.
        fixed: name -> number: prices, lead times, limits, the price of waiting.
        have: nodes there are, by what they are good for.
    """

    start: datetime
    step_s: int
    demand: Array
    fixed: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    have: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


def moved(previous: Signals, now: Signals, tolerance: float = TOLERANCE) -> str:
    """What moved beyond the tolerance since an optimum was found; "" if it still holds.

    Demand moves if at a step within the next hour it differs by more than the tolerance and half a node, or beyond that
    hour in sum; numbers move by more than the tolerance; nodes move by more than the tolerance and half a node.
    """
    if previous.step_s != now.step_s:
        return "the step"
    late = round((now.start - previous.start).total_seconds() / now.step_s)
    if late < 0 or late * now.step_s > MOST_AGE_S or late >= previous.demand.shape[1]:
        return "time"
    if previous.fixed.keys() != now.fixed.keys():
        return "what there is to choose from"
    for name, value in now.fixed.items():
        if abs(value - previous.fixed[name]) > tolerance * max(abs(value), abs(previous.fixed[name])):
            return name
    if demand := _demand_moved(previous.demand[:, late:], now, tolerance):
        return demand
    for name in {*previous.have, *now.have}:
        was, has = previous.have.get(name, 0.0), now.have.get(name, 0.0)
        if abs(was - has) > max(0.5, tolerance * max(was, has)):
            return f"nodes {name}"
    return ""


def _demand_moved(then: Array, now: Signals, tolerance: float) -> str:
    n = min(then.shape[1], now.demand.shape[1])
    then, new = then[:, :n], now.demand[:, :n]
    near = max(1, int(NEAR_S // now.step_s))
    off = np.abs(new - then) - np.maximum(0.5, tolerance * np.maximum(new, then))
    if (off[:, :near] > 0).any():
        return "demand"
    was, has = then[:, near:].sum(axis=1), new[:, near:].sum(axis=1)
    far = np.abs(was - has) > np.maximum(0.5 * near, tolerance * np.maximum(was, has))
    return "later demand" if far.any() else ""


@dataclass(frozen=True)
class Optimum:
    """Nodes per step by the programme.

    Attributes:
        signals: what it was found for.
        running, kept: (T,) in nodes of the reference: to run; to exist at all.
        nodes: (group, offering key) -> state -> (T,) nodes.
        cost_usd: expected, waiting included (node-hours where no price is known). gap: share that a better plan could
        save at most. seconds: it took. binding: what holds it back. beyond: limits that it does not keep, for want of
        time. unserved: levels nobody may serve, or that have to run and may not, where most are.
        together: pools that it was found with. others: lane of the same pool -> its optimum.
    """

    signals: Signals
    running: Array
    kept: Array
    nodes: Mapping[tuple[str, str], Mapping[Standby, Array]]
    solver: str
    cost_usd: float
    gap: float
    seconds: float
    binding: tuple[str, ...] = ()
    beyond: tuple[str, ...] = ()
    unserved: int = 0
    together: tuple[str, ...] = ()
    others: "Mapping[str, Optimum]" = field(default_factory=lambda: MappingProxyType({}))

    def index(self, now: datetime) -> int:
        """The step that holds an instant."""
        late = (now - self.signals.start).total_seconds() // self.signals.step_s
        return int(min(max(late, 0), len(self.running) - 1))

    def basis(self, why: str) -> dict[str, object]:
        """For the plan: how its figures were found. why: what made it solve again, "" if it was held."""
        return {
            "solver": self.solver,
            "gap": round(self.gap, 6),
            "seconds": round(self.seconds, 4),
            "solved": bool(why),
            "because": why or "held: nothing moved beyond the tolerance",
            "optimum_usd": round(self.cost_usd, 4),
            "binding": list(self.binding),
            "beyond": list(self.beyond),
            "together": list(self.together),
            "solved_for": self.signals.start.isoformat(),
        }
