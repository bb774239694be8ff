"""Which offering a node is launched as: the cheapest per unit of what binds, among those that hold the largest task."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from preprov.contracts import PriceBook
from preprov.model.offerings import CapacityType, LeadTime, Offering, Standby
from preprov.model.pools import Group, Pool
from preprov.model.resources import KINDS, Resources
from preprov.planning.inputs import PlanInputs
from preprov.planning.placement import misfit, usable_capacity

INTERRUPTIONS_PER_HOUR: Final = 0.002
"""Of a spot node, where nobody says better."""
STANDBY_SHARE: Final = {Standby.HIBERNATED: 0.025, Standby.STOPPED: 0.015}
"""Price of a kept node as a share of a running one where none is known: 100 GiB of disk beside 16 cores."""
_EPS: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Choice:
    """An offering of a group as the planner sees it.

    Attributes:
        usd: per running node-hour; None = not known. lead: from cold.
        standby_usd: state -> USD per kept node-hour. standby_lead: state -> lead time back to ready.
        share: of the typical demand that one node holds (larger = fewer nodes). cores: allocatable.
        holds_largest: the largest known task fits on it. risk: USD per running node-hour that interruptions cost.
    """

    group: Group
    offering: Offering
    usd: float | None
    lead: LeadTime
    standby_usd: dict[Standby, float]
    standby_lead: dict[Standby, LeadTime]
    share: float
    cores: float
    available: bool
    holds_largest: bool
    risk: float = 0.0

    @property
    def key(self) -> tuple[str, str]:
        """(group, offering key)."""
        return (self.group.name, self.offering.key)

    @property
    def rate(self) -> float:
        """USD per running node-hour; 1 where no price is known, so that costs are node-hours."""
        return 1.0 if self.usd is None else self.usd

    def in_state(self, state: Standby) -> float:
        """`rate` of a node kept in that state; 0 for COLD."""
        return self.rate if state is Standby.RUNNING else self.standby_usd.get(state, 0.0)

    @property
    def billed_minimum_s(self) -> float:
        """A launch costs at least this many seconds."""
        return max(self.offering.minimum_billing_s, self.lead.mean_s)


def choices(inputs: PlanInputs, typical: Resources) -> tuple[list[Choice], list[str]]:
    """All offerings of the pool, best first, and what a reader should know about them.

    Args:
        typical: demand whose proportions decide which resource binds.

    Order: holds the largest task; available lately; priced; price per unit of the binding resource, what interruptions
    cost included (nodes per unit if no price is known); shorter lead; then as configured. All are returned: a node of a
    poor one may exist.
    """
    found = [c for g in inputs.pool.groups for c in _launchable(inputs, g, typical)]
    notes = []
    if inputs.largest is not None and not any(c.holds_largest for c in found):
        why = misfit(inputs.largest, [c.offering for c in found], inputs.pool.binding)
        notes.append(f"the largest task fits on no offering: {why}")
    if any(c.usd is None for c in found):
        nameless = ", ".join(sorted({c.offering.instance_type for c in found if c.usd is None}))
        notes.append(f"no price known for {nameless}: planned by node-hours")
    set_back = sorted({c.offering.key for c in found if not c.available})
    if set_back:
        notes.append(f"had no capacity a short while ago, tried last: {', '.join(set_back)}")
    ranked = sorted(enumerate(found), key=lambda ic: _rank(ic[1], ic[0]))
    return [c for _, c in ranked], notes


def _launchable(inputs: PlanInputs, group: Group, typical: Resources) -> list[Choice]:
    """What a launch may name; a group that chooses by itself is counted on for the least of what it has."""
    found = [choice_of(inputs, group, o, typical) for o in group.offerings]
    return found if group.chooses_offering else [min(found, key=lambda c: (c.holds_largest, c.share))]


def relative_size(offering: Offering, reference: Offering, binding: Sequence[str]) -> float:
    """Nodes of `reference` that one node of `offering` stands for: the scarcest binding resource decides."""
    if offering.allocatable == reference.allocatable:
        return 1.0
    have, want = offering.allocatable.as_tuple(), reference.allocatable.as_tuple()
    shares = [have[KINDS.index(k)] / want[KINDS.index(k)] for k in binding if want[KINDS.index(k)] > 0]
    return min(shares) if shares else 1.0


def choice_of(inputs: PlanInputs, group: Group, offering: Offering, typical: Resources) -> Choice:
    """What the planner needs to know of one offering of a group."""
    pool, leads = inputs.pool, inputs.leads
    usable = usable_capacity(offering, pool.binding, inputs.grain)
    wanted = typical.as_tuple()
    shares = [usable[KINDS.index(k)] / wanted[KINDS.index(k)] for k in pool.binding if wanted[KINDS.index(k)] > 0]
    kept = sorted(group.standby_states & {Standby.HIBERNATED, Standby.STOPPED})
    usd, lead = inputs.prices.usd_per_hour(offering, inputs.now), leads(group.name, offering, Standby.COLD)
    return Choice(
        group=group,
        offering=offering,
        usd=usd,
        lead=lead,
        standby_usd={s: standby_price(inputs.prices, group, offering, s, inputs.now) for s in kept},
        standby_lead={s: leads(group.name, offering, s) for s in kept},
        share=min(shares) if shares else usable[0],
        cores=offering.allocatable.cpu,
        available=leads.available(group.name, offering),
        holds_largest=inputs.largest is None or inputs.largest.fits_in(offering.allocatable, pool.binding),
        risk=risk_usd(pool, offering, usd, lead, inputs.interruptions, inputs.rework_s),
    )


def risk_usd(
    pool: Pool,
    offering: Offering,
    usd: float | None,
    lead: LeadTime,
    interruptions: Mapping[str, float],
    rework_s: float,
) -> float:
    """USD per running hour that interruptions of a spot node are expected to cost; 0 for what is not taken back.

    After each, a node is paid for the way back and for what has to be done anew, and the work of its cores waits so
    long.

    Args:
        usd: price of a running hour; None = not known, costs are node-hours.
        interruptions: offering key -> times per running hour. rework_s: work that one loses, expected.
    """
    if offering.capacity_type is not CapacityType.SPOT:
        return 0.0
    per_hour = interruptions.get(offering.key, INTERRUPTIONS_PER_HOUR)
    waiting = offering.allocatable.cpu * pool.objective.shortage_usd_per_core_hour
    return per_hour * ((1.0 if usd is None else usd) + waiting) * (lead.mean_s + rework_s) / 3600.0


def standby_price(prices: PriceBook, group: Group, offering: Offering, state: Standby, now: datetime) -> float:
    """USD per hour of a node kept in that state; a share of a running one where none is known."""
    known = group.standby_usd_per_hour.get(state)
    if known is None:
        known = prices.standby_usd_per_hour(offering, state, now)
    if known is None:
        running = prices.usd_per_hour(offering, now)
        known = STANDBY_SHARE[state] * (1.0 if running is None else running)
    return known


def _rank(c: Choice, position: int) -> tuple[bool, bool, bool, float, float, int]:
    cost = (c.rate + c.risk) / c.share if c.share > _EPS else math.inf
    return (not c.holds_largest, not c.available, c.usd is None, cost, c.lead.median_s, position)
