"""What a sweep says: the frontier of cost against provision wait, and figures that compare policies along it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

Row: TypeAlias = Mapping[str, Any]
Policies: TypeAlias = Mapping[str, Sequence[Row]]

OURS: Final = "preprov"
_BASE: Final = "reactive"
_DEFAULT_IDLE_S: Final = 600.0
_UNREAL: Final = "clairvoyant"
_RIVAL: Final = "reactive-max"


def frontier(rows: Sequence[Row], cost: str = "cost_usd") -> list[Row]:
    """The settings that no other setting of the same policy beats in both wait and cost, by wait."""
    out: list[Row] = []
    for row in sorted(_priced(rows, cost), key=lambda r: (r["wait_mean_s"], r[cost])):
        if not out or row[cost] < out[-1][cost]:
            out.append(row)
    return out


def cheapest(rows: Sequence[Row], wait_s: float, cost: str = "cost_usd") -> Row | None:
    """The cheapest setting whose mean wait is no longer; None if there is none. Nothing is interpolated."""
    good = [r for r in _priced(rows, cost) if r["wait_mean_s"] <= wait_s]
    return min(good, key=lambda r: float(r[cost]), default=None)


def dominates(ours: Sequence[Row], theirs: Sequence[Row]) -> bool:
    """True if for each of their settings one of ours costs no more and waits no longer."""
    mine = _priced(ours, "cost_usd")
    return bool(mine) and all(
        any(m["cost_usd"] <= t["cost_usd"] and m["wait_mean_s"] <= t["wait_mean_s"] for m in mine)
        for t in _priced(theirs, "cost_usd")
    )


def beaten_somewhere(ours: Sequence[Row], theirs: Sequence[Row]) -> bool:
    """True if one of their settings has both lower cost and lower wait than one on our frontier."""
    return any(
        t["cost_usd"] < m["cost_usd"] and t["wait_mean_s"] < m["wait_mean_s"]
        for t in _priced(theirs, "cost_usd")
        for m in frontier(ours)
    )


def base_wait_s(policies: Policies) -> float | None:
    """Mean wait of the reactive autoscaler with its usual ten minutes of idleness."""
    rows = _priced(policies.get(_BASE, ()), "cost_usd")
    usual = min(rows, key=lambda r: abs(float(r["knob"]) - _DEFAULT_IDLE_S), default=None)
    return None if usual is None else float(usual["wait_mean_s"])


def compared(policies: Policies, bound: Sequence[Mapping[str, float]] = (), ours: str = OURS) -> dict[str, Any]:
    """Figures along the frontier; null where one does not exist.

    Returns:
        reactive_wait_s; overhead_at_quarter_usd: of each policy at a quarter of reactive's mean wait; overhead_ratio:
        ours against the best other's (clairvoyant apart); scheduled_hits: most warm hits of scheduled instances at no
        more overhead than reactive-max with constant 0; dominates, beaten_somewhere_by: policies; over_bound: cost of
        each of our frontier's settings against the clairvoyant bound at its mean delay, least and greatest.
    """
    wait = base_wait_s(policies)
    quarter: dict[str, float | None] = {}
    for name, rows in policies.items():
        best = cheapest(rows, wait / 4, "idle_cost_usd") if wait is not None else None
        quarter[name] = None if best is None else float(best["idle_cost_usd"])
    others = [v for n, v in quarter.items() if n not in (ours, _UNREAL) and v is not None]
    mine = quarter.get(ours)
    rest = {n: rows for n, rows in policies.items() if n not in (ours, _UNREAL)}
    rows = policies.get(ours, ())
    return {
        "reactive_wait_s": wait,
        "overhead_at_quarter_usd": quarter,
        "overhead_ratio": mine / min(others) if mine is not None and others and min(others) > 0 else None,
        "scheduled_hits": _scheduled_hits(policies, ours),
        "dominates": [n for n, r in rest.items() if dominates(rows, r)],
        "beaten_somewhere_by": [n for n, r in rest.items() if beaten_somewhere(rows, r)],
        "over_bound": _over_bound(rows, bound),
    }


def _priced(rows: Sequence[Row], cost: str) -> list[Row]:
    return [r for r in rows if r.get(cost) is not None and r["wait_mean_s"] is not None and not _nan(r["wait_mean_s"])]


def _nan(value: float) -> bool:
    return math.isnan(value)


def _scheduled_hits(policies: Policies, ours: str) -> float | None:
    """Most warm hits of scheduled instances that ours has without more overhead than reactive-max with constant 0."""
    zero = next((r for r in _priced(policies.get(_RIVAL, ()), "idle_cost_usd") if float(r["knob"]) == 0.0), None)
    if zero is None:
        return None
    within = [
        r for r in _priced(policies.get(ours, ()), "idle_cost_usd") if r["idle_cost_usd"] <= zero["idle_cost_usd"]
    ]
    hits = [float(r["warm_hit_ratio_scheduled"]) for r in within if r.get("warm_hit_ratio_scheduled") is not None]
    return max(hits, default=None)


def _over_bound(rows: Sequence[Row], bound: Sequence[Mapping[str, float]]) -> list[float] | None:
    """Least and greatest cost over the bound at the same mean delay, along the frontier."""
    ratios = []
    for row in frontier(rows):
        delay = row.get("delay_mean_s")
        least = _at(bound, float(row["wait_mean_s"] if delay is None else delay))
        if least:
            ratios.append(float(row["cost_usd"]) / least)
    return [min(ratios), max(ratios)] if ratios else None


def _at(bound: Sequence[Mapping[str, float]], delay_s: float) -> float | None:
    """The bound at a mean delay: between two of its points the higher delay's, so that it stays one; None without any.

    What its last point says holds beyond it too.
    """
    beyond = next((b for b in bound if b["mean_delay_s"] >= delay_s), bound[-1] if bound else None)
    return None if beyond is None else float(beyond["cost_usd"])
