"""Targets of a plan, and what several lanes come to as one plan."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import groupby

from preprov.model.offerings import Standby
from preprov.model.plans import Alternative, Target
from preprov.planning.situation import Decision, Move, Situation


def targets_of(s: Situation, d: Decision, later: Sequence[Move]) -> tuple[Target, ...]:
    """Counts per group and state, now and wherever they change."""
    now = s.inputs.now
    counts: dict[tuple[str, Standby], int] = {(g.name, Standby.RUNNING): 0 for g in s.inputs.pool.groups}
    for n in (*s.supply.ready, *(w for w, _ in s.supply.warming), *s.supply.standby):
        counts[(n.group, n.standby)] = counts.get((n.group, n.standby), 0) + 1
    for m in d.moves:
        if m.hi > m.lo or m.kind.raises:
            _shift(counts, m)
    out = [Target(now, g, state, n) for (g, state), n in sorted(counts.items())]
    for at_s, group in groupby(later, key=lambda m: m.at_s):
        before = dict(counts)
        for m in group:
            _shift(counts, m)
        at = now + timedelta(seconds=at_s)
        out.extend(Target(at, k[0], k[1], n) for k, n in sorted(counts.items()) if before.get(k, 0) != n)
    return tuple(out)


def _shift(counts: dict[tuple[str, Standby], int], m: Move) -> None:
    group = m.choice.group.name
    for state, sign in ((m.came_from, -1), (m.state, 1)):
        if state is not Standby.COLD:
            counts[(group, state)] = max(0, counts.get((group, state), 0) + sign * m.count)


def joined_targets(lanes: Sequence[tuple[Target, ...]]) -> tuple[Target, ...]:
    """Counts per group and state over all lanes, now and wherever they change."""
    if len(lanes) == 1:
        return lanes[0]
    held: list[dict[tuple[str, Standby], int]] = [{} for _ in lanes]
    last: dict[tuple[str, Standby], int] = {}
    events = sorted(((t.at, i, t) for i, lane in enumerate(lanes) for t in lane), key=lambda e: e[0])
    out: list[Target] = []
    for at, group in groupby(events, key=lambda e: e[0]):
        touched: dict[tuple[str, Standby], datetime] = {}
        for _, i, t in group:
            held[i][(t.group, t.standby_state)] = t.count
            touched[(t.group, t.standby_state)] = at
        for key in sorted(touched):
            count = sum(h.get(key, 0) for h in held)
            if last.get(key) != count:
                out.append(Target(at, key[0], key[1], count))
                last[key] = count
    return tuple(out)


def joined_courses(
    lanes: Sequence[tuple[Alternative, ...]], cost: float, wait: float, *, priced: bool
) -> tuple[Alternative, ...]:
    """The courses not taken, each over all lanes, against the plan's own cost and waiting."""
    out = []
    for same in zip(*lanes, strict=True):
        waits = sum(a.wait_core_hours for a in same)
        usd = sum(a.cost_usd or 0.0 for a in same) if priced else None
        name = " + ".join(dict.fromkeys(a.name for a in same))
        less = f"{usd - cost:+.2f} USD and " if usd is not None else ""
        out.append(Alternative(name, usd, waits, f"{less}{waits - wait:+.1f} core-h of waiting against this plan"))
    return tuple(out)
