"""Every policy at every setting and lead time over one trace: in parallel, and taken up where it stopped."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from preprov.contracts import Progress
from preprov.model.worktable import Array
from preprov.replay.played import Played, Run
from preprov.replay.result import ReplayResult, weighted_quantiles
from preprov.replay.shelf import Shelf
from preprov.replay.yardstick import LEAD_SCALES, POLICIES, Case, judged_of, knobs

_SLOW: Final = "preprov"
_TENANTS: Final = 12
_POINTS: Final = 1_500


@dataclass(frozen=True)
class Sweep:
    """All replays of a sweep, and the clairvoyant bound (rows of `LowerBound.curve`) by lead scale."""

    trace: str
    judged: Mapping[str, Any]
    played: Mapping[Run, Played]
    clairvoyant: Mapping[float, Sequence[Mapping[str, float]]]

    def rows(self, lead_scale: float) -> dict[str, list[Mapping[str, Any]]]:
        """Policy -> figures of each setting."""
        out: dict[str, list[Mapping[str, Any]]] = {}
        for run, played in self.played.items():
            if run.lead_scale == lead_scale:
                out.setdefault(run.policy, []).append(played.row)
        return out

    def document(self) -> dict[str, Any]:
        """trace, judged, lead_scale -> {policies: {name: [row, …]}, clairvoyant: [row of the bound, …]}."""
        return {
            "trace": self.trace,
            "judged": dict(self.judged),
            "lead_scale": {
                f"{scale:g}": {"policies": self.rows(scale), "clairvoyant": list(bound)}
                for scale, bound in self.clairvoyant.items()
            },
        }

    def capacity(self) -> pd.DataFrame:
        """Capacity rows of all replays that have them, with the replay they belong to."""
        frames = [
            p.capacity.assign(policy=r.policy, knob=r.knob, lead_scale=r.lead_scale)
            for r, p in self.played.items()
            if p.capacity is not None
        ]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def wanted_runs(
    case: Case,
    policies: Sequence[str] = POLICIES,
    lead_scales: Sequence[float] = LEAD_SCALES,
    settings: Mapping[str, Sequence[float]] | None = None,
) -> list[Run]:
    """The replays of a sweep in the order of their rows; `settings`: policy -> knobs instead of the usual ones."""
    return [
        Run(scale, name, knob)
        for scale in lead_scales
        for name in policies
        for knob in (settings or {}).get(name, knobs(name, case.peak_nodes))
    ]


def sweep(
    case: Case,
    runs: Sequence[Run],
    *,
    workers: int = 1,
    resume: Path | None = None,
    capacity: bool = False,
    progress: Progress | None = None,
) -> Sweep:
    """Play them all.

    Args:
        case: the trace.
        runs: see `wanted_runs`.
        workers: how many replays go on at once, each in a process.
        resume: folder in which each finished replay is kept, and from which it is taken again.
        capacity: keep the capacity rows too.
        progress: told after each replay.
    """
    shelf = Shelf(resume, case, capacity) if resume is not None else None
    found = {r: kept for r in runs if shelf is not None and (kept := shelf.take(r)) is not None}
    missing = sorted((r for r in dict.fromkeys(runs) if r not in found), key=lambda r: r.policy != _SLOW)
    for i, (run, played) in enumerate(_play_all(case, missing, workers, capacity), start=1):
        found[run] = played
        if shelf is not None:
            shelf.put(run, played)
        if progress is not None:
            progress(i / len(missing), run.key)
    ordered = {r: found[r] for r in runs}
    judged = next(iter(ordered.values())).judged if ordered else judged_of(case, None)
    bounds = {s: case.bound(s) for s in dict.fromkeys(r.lead_scale for r in runs)}
    return Sweep(case.name, judged, ordered, bounds)


def _play_all(case: Case, runs: Sequence[Run], workers: int, capacity: bool) -> Iterator[tuple[Run, Played]]:
    if workers <= 1 or len(runs) <= 1:
        for run in runs:
            yield run, play(case, run, capacity=capacity)
        return
    with ProcessPoolExecutor(min(workers, len(runs)), initializer=_take_case, initargs=(case,)) as pool:
        waiting = {pool.submit(_play_case, run, capacity): run for run in runs}
        for done in as_completed(waiting):
            yield waiting[done], done.result()


_CASE: list[Case] = []


def _take_case(case: Case) -> None:
    _CASE[:] = [case]


def _play_case(run: Run, capacity: bool) -> Played:
    return play(_CASE[0], run, capacity=capacity)


def play(case: Case, run: Run, *, capacity: bool = False) -> Played:
    """One replay, boiled down."""
    result = case.play(run.policy, run.knob, run.lead_scale)
    return Played(
        row={**result.row(), **landed(result)},
        judged=judged_of(case, result),
        tenants=tenants_of(case, result),
        nodes=_phases(result.nodes, case.judged_from.timestamp(), case.until.timestamp()),
        capacity=result.capacity if capacity else None,
    )


def landed(result: ReplayResult) -> dict[str, Any]:
    """land_by_runs: judged runs that are to have ended by some time; land_by_met: share of them that had."""
    work, parts = result.work, result.per_instance
    run = work.tasks["run"].to_numpy()[parts["task"].to_numpy()]
    end = parts["start"].to_numpy() + work.tasks["runtime_s"].to_numpy(dtype=np.float64)[parts["task"].to_numpy()]
    ends = np.full(len(work.runs), -np.inf)
    np.maximum.at(ends, run, end)
    land_by = work.runs["land_by"].to_numpy(dtype=np.float64)
    first, last = result.judged
    counts = (ends > -np.inf) & (work.runs["due"].to_numpy(dtype=np.float64) >= first) & (land_by < last)
    count = int(counts.sum())
    met = float((ends <= land_by)[counts].mean()) if count else None
    return {"land_by_runs": count, "land_by_met": met}


def tenants_of(case: Case, result: ReplayResult, most: int = _TENANTS) -> list[dict[str, Any]]:
    """Waits by tenant, those with the most core-hours first."""
    parts, tasks = result.per_instance, result.work.tasks
    at = parts["task"].to_numpy()
    tenant = result.work.runs["tenant"].astype(str).to_numpy()[tasks["run"].to_numpy()[at]]
    weight, wait = parts["weight"].to_numpy(dtype=np.float64), parts["provision_wait"].to_numpy()
    started = np.isfinite(parts["start"].to_numpy())
    hours = (tasks["cpu"] * tasks["runtime_s"]).to_numpy(dtype=np.float64)[at] * weight / 3600
    names, of = np.unique(tenant, return_inverse=True)
    total = np.bincount(of, hours, len(names))
    out = []
    for i in np.argsort(-total, kind="stable")[:most].tolist():
        mine = (of == i) & (weight > 0)
        count = float(weight[mine].sum())
        out.append(
            {
                "tenant": str(names[i]),
                "instances": int(count),
                "core_hours": float(total[i]),
                "wait_mean_s": float((wait * weight)[mine].sum() / count) if count else None,
                "wait_p95_s": weighted_quantiles(wait[mine], weight[mine], (0.95,))[0] if count else None,
                "warm_hit_ratio": float(weight[mine & (wait <= 1e-6) & started].sum() / count) if count else None,
            }
        )
    return out


def _phases(nodes: pd.DataFrame, first: float, last: float) -> dict[str, list[float]]:
    """Nodes by phase over the judged window, the most within each of a picture's points."""
    at = np.linspace(first, last, _POINTS + 1)
    out = {"at": at[:-1].tolist()}
    for phase, rows in nodes.groupby("phase", sort=True):
        out[str(phase)] = _most(rows["start"].to_numpy(), rows["end"].to_numpy(), at).tolist()
    return out


def _most(start: Array, end: Array, at: Array) -> Array:
    """(P,) the most intervals open at once between each instant and the next."""
    times, place = np.unique(np.concatenate([start, end, at]), return_inverse=True)
    change = np.concatenate([np.ones(len(start)), -np.ones(len(end)), np.zeros(len(at))])
    level = np.cumsum(np.bincount(place, change))
    edges = np.searchsorted(times, at)
    most: Array = np.maximum.reduceat(level, edges[:-1])
    return most
