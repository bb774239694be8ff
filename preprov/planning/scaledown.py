"""What becomes of a node that is not needed now: keep, hibernate, stop or terminate, by break-even.

Ski rental with predictions (Purohit, Svitkina, Kumar 2018), lambda = 0.5: if the prediction says that the gap outlasts
the break-even, the node is given up after lambda times the break-even of unbroken disuse; if it says that the node is
worth keeping, only after the break-even divided by lambda. The cost is then at most (1 + lambda) times the best where
the prediction holds and (1 + 1/lambda) times where it does not.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from preprov.model.offerings import Standby
from preprov.planning.offers import Choice

LAMBDA: Final = 0.5
MIN_HOLD_S: Final = 60.0
"""A node is never given up on one sight alone."""
MAX_HOLD_S: Final = 6 * 3600.0
_HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Fate:
    """The cheapest course for an idle node until its next use.

    Attributes:
        state: RUNNING = keep it. costs: state -> expected USD until its next use (node-hours where no price is known).
        hold_s: unbroken disuse before `instead` is done. instead: the cheapest state that is not RUNNING.
        break_even_s: disuse whose price equals coming back.
    """

    state: Standby
    instead: Standby
    hold_s: float
    break_even_s: float
    costs: Mapping[Standby, float]


@dataclass(frozen=True, slots=True)
class Return:
    """What it takes to have a node back that was put away, should it be wanted after all.

    Attributes:
        chance: that it is. back_s: of running that its way back is billed. late_s: that work waits for it.
        rate: USD per hour of running. cores: that wait. shortage_usd: per core-hour of waiting.
    """

    chance: float
    back_s: float
    late_s: float
    rate: float
    cores: float
    shortage_usd: float

    @property
    def hold_s(self) -> float:
        """Disuse after which keeping it on has cost half of its way back and the waiting for it (ski rental)."""
        return self.chance * (LAMBDA * self.back_s + self.cores * self.shortage_usd / self.rate * self.late_s)

    @property
    def usd(self) -> float:
        """Of the way back, in expectation."""
        return self.chance * self.rate * self.back_s / _HOUR

    @property
    def wait_core_h(self) -> float:
        """Of waiting for it, in expectation."""
        return self.chance * self.cores * self.late_s / _HOUR


def fate(
    choice: Choice,
    *,
    gap_s: float | None,
    horizon_s: float,
    surprise: float,
    shortage_usd_per_core_hour: float,
    states: Iterable[Standby],
    now_in: Standby = Standby.RUNNING,
    decided: Standby | None = None,
) -> Fate:
    """Compare the courses for one node.

    Args:
        gap_s: seconds until the plan wants it again; None = not within the horizon.
        surprise: probability in [0, 1] that a future wants it before that: it then waits for the way back.
        states: standby states the group can keep it in. now_in: RUNNING, or the standby state it is in (then only that
            state and COLD are compared).
        decided: what becomes of it, where the optimum has said so; the comparison then gives reasons and patience only.

    Expected cost of state x over the gap g: price(x) g + use (billed way back) + surprise (waiting of its cores on the
    way back), where use is 1 if the plan wants it again and else the surprise.
    """
    gap_h = (horizon_s if gap_s is None else gap_s) / _HOUR
    use = 1.0 if gap_s is not None else surprise
    waiting = choice.cores * shortage_usd_per_core_hour * surprise
    back = {Standby.COLD: _back(choice, Standby.COLD)}
    kept = {Standby.COLD: 0.0}
    for s in (now_in,) if now_in is not Standby.RUNNING else tuple(states):
        if s in choice.standby_usd:
            back[s], kept[s] = _back(choice, s), choice.standby_usd[s]
    costs = {s: kept[s] * gap_h + use * back[s][0] + waiting * back[s][1] for s in back}
    instead = min(costs, key=lambda s: (costs[s], s is not Standby.COLD, s))
    if decided is not None and decided is not now_in and decided in costs:
        instead = decided
    if now_in is Standby.RUNNING:
        costs[Standby.RUNNING] = choice.rate * gap_h
        rent, stay = choice.rate - kept[instead], 0.0
    else:
        rent, stay = kept[now_in], back[now_in][0] + waiting * back[now_in][1]
        instead = Standby.COLD
    buy = back[instead][0] + waiting * back[instead][1] - stay
    even_s = max(buy, 0.0) / rent * _HOUR if rent > 0 else MAX_HOLD_S
    gives_up = costs[instead] < costs[now_in] if decided is None else decided is not now_in
    hold = even_s * LAMBDA if gives_up else even_s / LAMBDA
    return Fate(
        state=instead if gives_up else now_in,
        instead=instead,
        hold_s=min(max(hold, MIN_HOLD_S), MAX_HOLD_S),
        break_even_s=even_s,
        costs=costs,
    )


def _back(choice: Choice, state: Standby) -> tuple[float, float]:
    """(USD billed, hours) on the way back to ready; a new launch is billed its minimum at least."""
    if state is Standby.COLD:
        return choice.rate * choice.billed_minimum_s / _HOUR, choice.lead.mean_s / _HOUR
    lead_h = choice.standby_lead[state].mean_s / _HOUR
    return choice.rate * lead_h, lead_h
