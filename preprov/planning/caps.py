"""Hard caps. They stop launches and starts only; nothing here ends a node."""

import math
from datetime import timedelta
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from preprov.model.pools import Mode
from preprov.planning.inputs import PlanInputs, Use
from preprov.planning.lately import disruption_budget
from preprov.planning.need import Horizon
from preprov.planning.offers import Choice
from preprov.planning.room import nodes_left

_NO_LIMIT: Final = 10**9


class Allowance:
    """How many more nodes the guards let us raise in this pass; each grant uses some of it up.

    Args:
        rates: USD per hour of what is billed now, running and standby together; None = a price is not known.
    """

    def __init__(self, inputs: PlanInputs, rate_usd: float | None) -> None:
        self.inputs = inputs
        self.guards = inputs.pool.guards
        self.rate = rate_usd
        self.notes: list[str] = []
        self.short: list[str] = []
        """Names of the guards that said no to something."""
        self.nodes = len(inputs.observation.nodes)
        self.launched = inputs.launched_last_minute
        self.in_group: dict[str, int] = {}
        self.cpu_in_group: dict[str, float] = {}
        self.steps = {g.name: inputs.lately.steps_left(g) for g in inputs.pool.groups}
        self.later = False
        """True if a ramp or a disruption budget leaves something for the next minute."""
        self.disruptions = inputs.lately.disruptions_left(inputs.pool, inputs.now)
        for n in inputs.observation.nodes:
            self._count(n.group, 1, n.offering.capacity.cpu)
        self.blocked = self._blocked()
        priced = self.guards.max_usd_per_hour is not None or self.guards.max_usd_per_day is not None
        if priced and rate_usd is None:
            self._say("max_usd_per_hour and max_usd_per_day cannot be kept where no price is known")

    def _blocked(self) -> str:
        """Why nothing at all may be raised; "" if something may."""
        i = self.inputs
        if i.halted:
            return f"halted: {i.halted}"
        if i.source_age_s > self.guards.stale_source_s:
            return f"the source of work is {i.source_age_s:.0f} s old (stale_source {self.guards.stale_source_s:.0f} s)"
        if i.mode is Mode.FLOOR and not i.pool.window.contains(i.now.astimezone(ZoneInfo(i.pool.zone))):
            return "outside the pool's window (mode floor)"
        return ""

    def grant(self, choice: Choice, wanted: int, *, launch: bool, standby_usd: float = 0.0) -> int:
        """How many of `wanted` nodes may be launched (or started), noting the guard that says no to the rest."""
        if wanted <= 0:
            return 0
        if self.blocked:
            self._say(f"nothing is raised: {self.blocked}")
            return 0
        if launch and not self.inputs.observation.complete:
            self._say("nothing is launched: the pool could not be listed completely, absent nodes prove nothing")
            return 0
        limits = self._limits(choice, launch=launch, standby_usd=standby_usd)
        granted = max(0, min([wanted, *limits.values()]))
        self.later = self.later or self.steps[choice.group.name] < wanted
        for name, limit in limits.items():
            if limit < wanted and limit == min(limits.values()):
                self.short.append(name)
                self._say(f"{name} lets {granted} of {wanted} x {choice.offering.instance_type} be raised")
        self._use(choice, granted, launch=launch, standby_usd=standby_usd)
        return granted

    def gives_up(self) -> bool:
        """True if the disruption budgets of this hour let one more node be given up, which is noted if not."""
        if self.disruptions >= 1:
            return True
        self.later = True
        budget = disruption_budget(self.inputs.pool, self.inputs.now)
        self._say(f"disruption budget {budget:g}: what is superfluous beyond it goes later")
        return False

    def given_up(self) -> None:
        """One more is."""
        self.disruptions -= 1

    def _limits(self, choice: Choice, *, launch: bool, standby_usd: float) -> dict[str, int]:
        g, group = self.guards, choice.group
        limits = {f"max_step of {group.name}": self.steps[group.name]}
        if launch:
            limits["max_nodes"] = g.max_nodes - self.nodes
            limits[f"max_nodes of {group.name}"] = group.max_nodes - self.in_group.get(group.name, 0)
            limits.update(self._shared(choice))
            if g.max_launches_per_minute is not None:
                limits["max_launches_per_minute"] = g.max_launches_per_minute - self.launched
        if self.rate is None or choice.usd is None:
            return limits
        if g.max_usd_per_hour is not None:
            limits["max_usd_per_hour"] = _fits(g.max_usd_per_hour - self.rate, choice.usd - standby_usd)
        if g.max_usd_per_day is not None:
            hours = committed_hours(self.inputs, choice)
            left = g.max_usd_per_day - self.inputs.spent_today_usd - self.rate * hours
            limits["max_usd_per_day"] = _fits(left, (choice.usd - standby_usd) * hours)
        for room in self.inputs.shared:
            if room.limit.max_usd_per_day is not None and self.inputs.pool.name in room.limit.pools:
                hours, others = committed_hours(self.inputs, choice), room.outside()
                spent = others.spent_today_usd + self.inputs.spent_today_usd
                left = room.limit.max_usd_per_day - spent - (others.usd_per_hour + self.rate) * hours
                limits[f"max_usd_per_day of {room.limit.name}"] = _fits(left, (choice.usd - standby_usd) * hours)
        return limits

    def _shared(self, choice: Choice) -> dict[str, int]:
        """Nodes that limits across pools leave for a launch of this choice."""
        pool, out = self.inputs.pool.name, {}
        for room in self.inputs.shared:
            if (pool, choice.group.name) in room.limit.groups:
                mine = {g: n for g, n in self.in_group.items() if (pool, g) in room.limit.groups}
                cpu = sum(self.cpu_in_group.get(g, 0.0) for g in mine)
                left = nodes_left(room, sum(mine.values()), cpu, choice.offering.capacity.cpu)
                out[room.limit.name] = int(min(left, _NO_LIMIT))
        return out

    def _use(self, choice: Choice, n: int, *, launch: bool, standby_usd: float) -> None:
        group = choice.group.name
        self.steps[group] -= n
        if self.rate is not None and choice.usd is not None:
            self.rate += n * (choice.usd - standby_usd)
        if launch:
            self.nodes += n
            self.launched += n
            self._count(group, n, choice.offering.capacity.cpu)

    def _count(self, group: str, n: int, cpu: float) -> None:
        self.in_group[group] = self.in_group.get(group, 0) + n
        self.cpu_in_group[group] = self.cpu_in_group.get(group, 0.0) + n * cpu

    def _say(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)


def committed_hours(inputs: PlanInputs, choice: Choice) -> float:
    """Hours that a raise spends for certain: its lease, its minimum billing, or the way to ready."""
    return max(inputs.pool.lease_s, choice.offering.minimum_billing_s, choice.lead.p95_s) / 3600.0


def running_cap(inputs: PlanInputs, choice: Choice) -> tuple[int, str]:
    """Most running nodes of the reference offering at any later time, and the guard that says so."""
    g = inputs.pool.guards
    limits = {"max_nodes": g.max_nodes, "max_nodes of the groups": sum(x.max_nodes for x in inputs.pool.groups)}
    if g.max_usd_per_hour is not None and choice.usd:
        limits["max_usd_per_hour"] = _fits(g.max_usd_per_hour, choice.usd)
    there = {x.name: sum(n.group == x.name for n in inputs.observation.nodes) for x in inputs.pool.groups}
    for room in inputs.shared:
        mine = {g: n for g, n in there.items() if (inputs.pool.name, g) in room.limit.groups}
        if len(mine) == len(there):  # else the other groups may grow
            nodes = sum(mine.values())
            cpu = sum(n.offering.capacity.cpu for n in inputs.observation.nodes if n.group in mine)
            limits[room.limit.name] = int(
                min(nodes + nodes_left(room, nodes, cpu, choice.offering.capacity.cpu), _NO_LIMIT)
            )
    name = min(limits, key=lambda k: limits[k])
    return limits[name], name


def within_day(
    inputs: PlanInputs, horizon: Horizon, levels: NDArray[np.int64], choice: Choice
) -> tuple[NDArray[np.int64], str]:
    """Running nodes per step that the budgets of the day let be raised to, and the one that holds something back; "".

    Walks the days of the pool's zone: a rise needs money left for what it is committed to; what runs stays. Of a budget
    across pools, what the others run now is taken to run on.
    """
    if not choice.usd:
        return levels, ""
    budgets = []
    if inputs.pool.guards.max_usd_per_day is not None:
        budgets.append(("max_usd_per_day", inputs.pool.guards.max_usd_per_day, Use()))
    for room in inputs.shared:
        if room.limit.max_usd_per_day is not None and inputs.pool.name in room.limit.pools:
            budgets.append((f"max_usd_per_day of {room.limit.name}", room.limit.max_usd_per_day, room.outside()))
    binding = ""
    for name, cap, others in budgets:
        within = _within(inputs, horizon, levels, choice, cap, others)
        binding = name if (within < levels).any() else binding
        levels = within
    return levels, binding


def _within(
    inputs: PlanInputs, horizon: Horizon, levels: NDArray[np.int64], choice: Choice, cap: float, others: Use
) -> NDArray[np.int64]:
    zone = ZoneInfo(inputs.pool.zone)
    usd = choice.usd or 0.0
    commitment = usd * committed_hours(inputs, choice)
    day, previous = inputs.now.astimezone(zone).date(), int(levels[0])
    left = cap - inputs.spent_today_usd - others.spent_today_usd
    out = levels.copy()
    for i in range(1, len(levels)):
        left -= (previous * usd + others.usd_per_hour) * float(horizon.lengths_h[i - 1])
        today = (horizon.start + timedelta(seconds=i * horizon.step_s)).astimezone(zone).date()
        if today != day:
            day, left = today, cap
        previous = min(int(levels[i]), max(previous, _fits(left, commitment)))
        out[i] = previous
    return out


def _fits(money: float, price: float) -> int:
    if price <= 0:
        return _NO_LIMIT
    return max(0, math.floor(money / price + 1e-9))
