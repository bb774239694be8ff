"""What the launch order is worth where capacity is short.

    OMP_NUM_THREADS=1 python -m benchmarks.launch_order [--days 5] [--share 0.6] [--knob 0.25]

`nights`, schedules declared, with no more nodes than a share of what its judged days want at most. The same policy
twice, in launch order and first come first served, and beside it the reactive autoscaler, first come first served.
One JSON document: deadlines met (`land_by` = usual end + 20 %), runs late and by how much, seconds from due to end of a
run, and for each night (runs due between midnight and six) the seconds from the first due time to the last end.
"""

import argparse
import json
import logging
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import structlog

from benchmarks.machine import machine, traces
from benchmarks.replay import case_of
from preprov.replay.engine import replay
from preprov.replay.policy import Policy
from preprov.replay.production import Preprov
from preprov.replay.registry import make_policy
from preprov.replay.result import ReplayResult
from preprov.replay.sweep import landed
from preprov.replay.yardstick import Case

NIGHT_ENDS = 6


def needed_nodes(case: Case) -> float:
    """Nodes' worth of demand that the judged days want at most, if nothing waits."""
    history, first, last = case.history, case.judged_from.timestamp(), case.until.timestamp()
    at = history.start + np.arange(len(history.peak)) * history.step_s
    return float(history.peak[(at >= first) & (at < last)].max())


def figures_of(result: ReplayResult, zone: str) -> dict[str, Any]:
    """How the runs of one play ended."""
    work, parts = result.work, result.per_instance
    of_part = parts["task"].to_numpy()
    end = parts["start"].to_numpy() + work.tasks["runtime_s"].to_numpy(dtype=np.float64)[of_part]
    ends = np.full(len(work.runs), -np.inf)
    np.maximum.at(ends, work.tasks["run"].to_numpy()[of_part], end)
    due = work.runs["due"].to_numpy(dtype=np.float64)
    land_by = work.runs["land_by"].to_numpy(dtype=np.float64)
    judged = np.isfinite(ends) & (due >= result.judged[0])
    late = np.where(judged & (ends > land_by), ends - land_by, 0.0)
    local = pd.to_datetime(due, unit="s", utc=True).tz_convert(ZoneInfo(zone))
    night = judged & (local.hour < NIGHT_ENDS)
    frame = pd.DataFrame({"day": local.date[night], "due": due[night], "end": ends[night]}).groupby("day")
    makespan = (frame["end"].max() - frame["due"].min()).to_numpy()
    return {
        **landed(result),
        "late_runs": int((late > 0).sum()),
        "late_minutes": round(float(late.sum()) / 60, 1),
        "due_to_end_mean_s": round(float((ends - due)[judged].mean()), 1),
        "makespan_s": [round(float(s), 1) for s in makespan],
        "makespan_median_s": round(float(np.median(makespan)), 1),
        "delay_mean_s": round(result.waits.delay_mean, 2),
        "cost_usd": round(result.cost_usd or 0.0, 2),
        "unstarted": result.unstarted,
        "evicted": result.evicted,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=float, default=5.0, help="judge only the last so many days")
    parser.add_argument("--share", type=float, default=0.6, help="of the nodes wanted at most")
    parser.add_argument("--knob", type=float, default=0.25, help="of preprov")
    args = parser.parse_args(argv)
    folder = traces()
    if folder is None:
        print("SKIPPED: the public traces are not here (set PREPROV_TRACES)", file=sys.stderr)
        return 1
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    case = case_of("nights", folder)
    case = replace(case, judged_from=max(case.judged_from, case.until - timedelta(days=args.days)))
    nodes = max(math.floor(needed_nodes(case) * args.share), 1)
    pool = case.pool
    groups = tuple(replace(g, max_nodes=nodes) for g in pool.groups)
    pool = replace(pool, groups=groups, guards=replace(pool.guards, max_nodes=nodes))
    makers: dict[str, Callable[[], Policy]] = {
        "preprov": lambda: Preprov(args.knob),
        "preprov, first come first served": lambda: Preprov(args.knob, in_turn=True),
        "reactive, first come first served": lambda: make_policy("reactive"),
    }
    out: dict[str, Any] = {"machine": machine(), "nodes": nodes, "of": round(needed_nodes(case), 1), "policies": {}}
    memo: dict[tuple[object, ...], object] = {}
    for name, make in makers.items():
        print(f"   {name}", file=sys.stderr, flush=True)
        result = replay(
            case.work,
            pool,
            make(),
            judged_from=case.judged_from,
            until=case.until,
            schedules=case.schedules,
            history=case.history,
            most_cores=case.most_cores,
            memo=memo,
        )
        out["policies"][name] = figures_of(result, pool.zone)
    print(json.dumps(out, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
