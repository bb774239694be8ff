"""How long planning takes: one pool a tick, many groups, and placing thousands of tasks.

    OMP_NUM_THREADS=1 python benchmarks/planning.py [--repeat 30] [--json FILE]

Times are CPU seconds of this process. Goals: a tick of one pool (24 h at 5 min, 200 samples) in a median of 30 ms; one
pool with 20 samples, 8 groups and 4 states in 1 s.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np

from preprov.model.demand import DemandCurve
from preprov.model.nodes import Node, Phase, PoolObservation
from preprov.model.offerings import LeadTime, Offering, Standby
from preprov.model.pools import Group, Mode, Pool
from preprov.model.resources import Resources
from preprov.planning.leads import Leads
from preprov.planning.optimise import optimise
from preprov.planning.placement import NodeRoom, PlacementRequest, first_fit
from preprov.planning.plan import PlanInputs, make_plan, situation
from preprov.planning.prices import TablePriceBook

NOW = datetime(2025, 10, 30, tzinfo=UTC)
LEADS = {
    Standby.COLD: LeadTime(180, 420),
    Standby.STOPPED: LeadTime(45, 90),
    Standby.HIBERNATED: LeadTime(20, 45),
}


def pool_of(groups: int) -> Pool:
    """A pool of like groups, all with the whole ladder; each is a little dearer than the one before."""
    made = tuple(
        Group(
            f"g{i}",
            "sim",
            (Offering(f"m{i}", Resources(16, 64), usd_per_hour=0.8064 * (1 + i / 50)),),
            frozenset({Standby.RUNNING, Standby.HIBERNATED, Standby.STOPPED}),
            standby_usd_per_hour={Standby.STOPPED: 0.011, Standby.HIBERNATED: 0.018},
            lead=LEADS,
            max_nodes=1000 if groups == 1 else 25,
        )
        for i in range(groups)
    )
    return Pool("bench", made, mode=Mode.FULL)


def demand_of(peak_cores: float, samples: int, steps: int = 288) -> DemandCurve:
    """Waves over a noisy base, every sample on a level of its own."""
    rng = np.random.default_rng(7)
    at = np.arange(steps)
    wave = np.where((at % 96 > 20) & (at % 96 < 40), peak_cores, peak_cores / 40)
    cores = wave * rng.lognormal(0, 0.2, (samples, 1)) + rng.gamma(1, peak_cores / 40, (samples, steps))
    out = np.zeros((samples, steps, 5), dtype=np.float32)
    out[:, :, 0], out[:, :, 1] = cores, 3 * cores
    return DemandCurve("bench", NOW, NOW, 300, out)


def inputs_of(nodes: int, groups: int, samples: int) -> PlanInputs:
    """A pool of which a third runs work, a third idles and a third is stopped."""
    pool = pool_of(groups)
    phases = (Phase.READY, Phase.READY, Phase.STOPPED)
    there = tuple(
        Node(
            f"n{i:04d}",
            "bench",
            f"g{i % groups}",
            pool.groups[i % groups].offerings[0],
            phases[i % 3],
            NOW - timedelta(hours=2),
            NOW - timedelta(hours=1),
            running=("r/t#0",) if i % 3 == 0 else (),
        )
        for i in range(nodes)
    )
    return PlanInputs(
        pool,
        Mode.FULL,
        NOW,
        PoolObservation("bench", NOW, there),
        demand_of(16.0 * max(nodes, 10), samples),
        Leads(pool),
        TablePriceBook.from_pools([pool]),
    )


def timed(repeat: int, run: Callable[[], object]) -> dict[str, float]:
    """Median and 95th percentile of CPU milliseconds."""
    run()
    took = []
    for _ in range(repeat):
        began = time.process_time()
        run()
        took.append((time.process_time() - began) * 1000)
    return {"median_ms": round(float(np.median(took)), 2), "p95_ms": round(float(np.quantile(took, 0.95)), 2)}


def place(requests: int, nodes: int) -> Callable[[], object]:
    """Unlike neighbours, the worst case of the batching."""
    rooms = [NodeRoom(f"n{i}", Resources(16, 64), Resources(16, 64)) for i in range(nodes)]
    wanted = [PlacementRequest(f"r{i}", Resources(1 + i % 5, 2 + i % 7)) for i in range(requests)]
    return lambda: first_fit(wanted, rooms, ("cpu", "memory"))


def main() -> int:
    """Run all, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=30)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    cases: dict[str, Callable[[], object]] = {
        f"tick: {nodes} nodes, {groups} groups, {samples} samples": partial(
            make_plan, inputs_of(nodes, groups, samples)
        )
        for nodes, groups, samples in ((10, 1, 200), (100, 1, 200), (1000, 1, 200), (100, 8, 20), (100, 8, 200))
    }
    solved = situation(inputs_of(100, 8, 20))
    cases["optimise: 24 h at 5 min, 20 samples, 8 groups x 4 states"] = lambda: optimise([solved])
    one = inputs_of(100, 1, 200)
    cases["tick: 100 nodes, optimum held"] = partial(
        make_plan, replace(one, held=make_plan(one).optimum, foresee=False)
    )
    thumb = replace(one, optimise=False)
    cases["tick: 100 nodes, rule of thumb"] = partial(make_plan, thumb)
    now_only = replace(inputs_of(100, 1, 200), foresee=False)
    cases["tick: 100 nodes, what is due now only"] = partial(make_plan, now_only)
    cases["place: 5000 tasks on 500 nodes"] = place(5000, 500)
    results = {name: timed(args.repeat, run) for name, run in cases.items()}
    for name, r in results.items():
        print(f"{name:<56} median {r['median_ms']:8.2f} ms   p95 {r['p95_ms']:8.2f} ms")
    if args.json:
        args.json.write_text(json.dumps({"schema": "bench-planning/1", "results": results}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
