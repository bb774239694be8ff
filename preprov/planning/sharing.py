"""Limits across pools: rows of the programme, and what is left of them for one pool now."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final, TypeAlias
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from preprov.model.limits import SharedLimit
from preprov.planning.inputs import PlanInputs, SharedRoom, Use
from preprov.planning.offers import Choice
from preprov.planning.rows import Row, Weights
from preprov.planning.situation import Situation

Array: TypeAlias = NDArray[Any]
_DAY_H: Final = 24.0


def own_use(inputs: PlanInputs, limit: SharedLimit, usd_per_hour: float = 0.0) -> Use:
    """What the pool itself has of the limit: all nodes of the groups that count, whatever their state."""
    mine = [n for n in inputs.observation.nodes if (inputs.pool.name, n.group) in limit.groups]
    counts = inputs.pool.name in limit.pools
    return Use(
        len(mine),
        sum(n.offering.capacity.cpu for n in mine),
        inputs.spent_today_usd if counts else 0.0,
        usd_per_hour if counts else 0.0,
    )


def shared_rows(members: Sequence[tuple[Situation, Sequence[Choice]]]) -> list[Row]:
    """Rows over the pools that are planned together; what other pools have is taken off.

    Args:
        members: each pool's situation and its choices, by its index in the programme.
    """
    rooms: dict[str, SharedRoom] = {}
    for s, _ in members:
        for room in s.inputs.shared:
            rooms.setdefault(room.limit.name, room)
    names = {s.inputs.pool.name for s, _ in members}
    return [row for room in rooms.values() for row in _rows(room.limit, room.outside(names), members)]


def _rows(limit: SharedLimit, outside: Use, members: Sequence[tuple[Situation, Sequence[Choice]]]) -> list[Row]:
    out = []
    counted = [np.array([(s.inputs.pool.name, c.group.name) in limit.groups for c in cs]) for s, cs in members]
    there = sum((own_use(s.inputs, limit) for s, _ in members), Use())
    if limit.max_nodes is not None:
        weights = {i: Weights(levels=mine.astype(float)) for i, mine in enumerate(counted) if mine.any()}
        out.append(Row(f"{limit.name}: max_nodes", max(limit.max_nodes - outside.nodes, there.nodes), weights))
    if limit.max_cpu is not None:
        cores = [np.array([c.offering.capacity.cpu for c in cs]) for _, cs in members]
        weights = {i: Weights(levels=mine * cores[i]) for i, mine in enumerate(counted) if mine.any()}
        out.append(Row(f"{limit.name}: max_cpu", max(limit.max_cpu - outside.cpu, there.cpu), weights))
    if limit.max_usd_per_day is not None:
        out.extend(_money(limit, outside, members))
    return out


def _money(limit: SharedLimit, outside: Use, members: Sequence[tuple[Situation, Sequence[Choice]]]) -> list[Row]:
    """A row per calendar day; what other pools run now is taken to run on."""
    cap = float(limit.max_usd_per_day or 0.0)
    per_day: dict[str, dict[int, Weights]] = {}
    spent, hours, first = outside.spent_today_usd, 0.0, ""
    for i, (s, _) in enumerate(members):
        if s.inputs.pool.name not in limit.pools:
            continue
        spent += s.inputs.spent_today_usd
        for day, mask, _ in days_of(s, cap, 0.0):
            per_day.setdefault(day, {})[i] = Weights(spend=mask)
            if not first or day <= first:
                first, hours = day, max(hours, float(mask @ s.horizon.lengths_h))
    return [
        Row(
            f"{limit.name}: max_usd_per_day {day}",
            max(
                cap - (spent if day == first else 0.0) - outside.usd_per_hour * (hours if day == first else _DAY_H), 0.0
            ),
            weights,
        )
        for day, weights in per_day.items()
    ]


def days_of(s: Situation, cap: float, spent: float) -> list[tuple[str, Array, float]]:
    """(date, (T,) 1 for its steps, money left) per local day of the horizon.

    Of a day that the horizon cuts off the whole cap is left: what comes after it has its turn when it comes into sight.
    """
    zone = ZoneInfo(s.inputs.pool.zone)
    starts = [s.inputs.now + timedelta(seconds=s.horizon.seconds_to(i)) for i in range(s.horizon.steps)]
    dates = [x.astimezone(zone).date() for x in starts]
    out = []
    for day in dict.fromkeys(dates):
        mask = np.array([d == day for d in dates], dtype=float)
        left = max(cap - spent, 0.0) if day == dates[0] else cap
        out.append((day.isoformat(), mask, left))
    return out
