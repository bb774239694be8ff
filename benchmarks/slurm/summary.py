"""The nights put side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from benchmarks.machine import machine
from benchmarks.slurm.side import Terms
from benchmarks.slurm.workload import DAY_S, SPEED

TARGETS: Final = {"p95_wait_less_by": 0.8, "node_minutes_ratio": 1.1, "whatif_within": 0.15}
_OURS: Final = "preprov"


def summary(trials: Sequence[Mapping[str, Any]], terms: Terms, history: int) -> dict[str, Any]:
    """The document: every night of every side, all of them together, and preprov against each of the others."""
    sides = _sides(trials, history)
    totals = {name: _total(rows) for name, rows in sides.items()}
    ours = totals.get(_OURS)
    others = {n: t for n, t in totals.items() if n != _OURS}
    best = min(others, key=lambda n: others[n]["wait_p95_s"] * others[n]["node_minutes"], default="")
    return {
        "machine": machine(),
        "terms": asdict(terms),
        "targets": TARGETS,
        "totals": totals,
        "preprov_against": {n: _against(ours, t) for n, t in others.items()} if ours else {},
        "best_other": best,
        "best_other_is": "that of the least product of p95 wait and node-minutes over all paired nights",
        "whatif": [_whatif(t, history) for t in trials],
        "nights": {name: [_brief(r) for r in rows] for name, rows in sides.items()},
        "ended": sum(len(r["not_completed"]) for rows in sides.values() for r in rows),
        "errors": [t["errors"] for t in trials if t["errors"]],
    }


def night_table(nights: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Side by side, night by night: median and 95th percentile of the waits, and node-minutes; in Markdown.

    Args:
        nights: side -> its nights, as `summary` has them.
    """
    sides = sorted(nights, key=lambda name: (name != _OURS, len(name), name))
    keys = sorted({(r["seed"], r["night"]) for rows in nights.values() for r in rows})
    lines = [f"| seed, night | {' | '.join(sides)} |", f"|---|{'---|' * len(sides)}"]
    for seed, night in keys:
        found = [next((r for r in nights[s] if (r["seed"], r["night"]) == (seed, night)), None) for s in sides]
        cells = ["-" if r is None else _cell(r) for r in found]
        lines.append(f"| {seed}, {night} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(row: Mapping[str, Any]) -> str:
    return f"{row['wait_median_s']:.1f} s, {row['wait_p95_s']:.1f} s, {row['node_minutes']:.1f}"


def _brief(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in row.items() if k != "waits_s"}


def _sides(trials: Sequence[Mapping[str, Any]], history: int) -> dict[str, list[dict[str, Any]]]:
    """Paired nights of all seeds, by side."""
    out: dict[str, list[dict[str, Any]]] = {}
    for t in trials:
        for name, rows in t["nights"].items():
            side = name.removeprefix(f"s{t['seed']}")
            out.setdefault(side, []).extend({"seed": t["seed"], **r} for r in rows if r["night"] >= history)
    return out


def _total(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    waits = np.concatenate([np.array(r["waits_s"], dtype=float) for r in rows]) if rows else np.zeros(0)
    if not len(waits):
        waits = np.zeros(1)
    return {
        "nights": len(rows),
        "jobs": sum(r["jobs"] for r in rows),
        "wait_median_s": float(np.median(waits)),
        "wait_p95_s": float(np.quantile(waits, 0.95)),
        "wait_mean_s": round(float(waits.mean()), 2),
        "waited_over_5s": round(float((waits > 5).mean()), 4),
        "node_minutes": round(sum(r["node_minutes"] for r in rows), 1),
        "core_minutes": round(sum(r["core_minutes"] for r in rows), 1),
        "boots": sum(r["boots"] for r in rows),
    }


def _against(ours: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    less = 1 - ours["wait_p95_s"] / other["wait_p95_s"] if other["wait_p95_s"] else None
    ratio = ours["node_minutes"] / other["node_minutes"] if other["node_minutes"] else None
    met = less is not None and ratio is not None
    return {
        "p95_wait_less_by": None if less is None else round(less, 3),
        "mean_wait_less_by": round(1 - ours["wait_mean_s"] / other["wait_mean_s"], 3) if other["wait_mean_s"] else None,
        "node_minutes_ratio": None if ratio is None else round(ratio, 3),
        "target_met": bool(met and less >= TARGETS["p95_wait_less_by"] and ratio <= TARGETS["node_minutes_ratio"]),
    }


def _whatif(trial: Mapping[str, Any], history: int) -> dict[str, Any]:
    """What was promised of a night, against what came."""
    asked = trial["whatif"]
    if "options" not in asked:
        return {"seed": trial["seed"], "error": asked.get("error", "not asked")}
    rows = [r for r in trial["nights"][f"s{trial['seed']}preprov"] if r["night"] >= history]
    came = _total(rows)
    ours = next(o for o in asked["options"] if o["policy"] == _OURS)
    per_night = came["node_minutes"] / max(len(rows), 1)
    promised = ours["node_hours_per_day"] * 60 / SPEED
    return {
        "seed": trial["seed"],
        "node_minutes_promised": round(promised, 1),
        "node_minutes_came": round(per_night, 1),
        "node_minutes_off_by": round(promised / per_night - 1, 3) if per_night else None,
        "wait_mean_promised_s": _wall(ours["wait_mean_s"]),
        "wait_mean_came_s": came["wait_mean_s"],
        "wait_p95_promised_s": _wall(ours["wait_p95_s"]),
        "wait_p95_came_s": came["wait_p95_s"],
        "day_s": DAY_S,
    }


def _wall(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds / SPEED, 2)
