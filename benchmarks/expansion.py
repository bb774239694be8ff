"""Expand a million queued task instances, and the same by a networkx loop. Prints JSON.

    python -m benchmarks.expansion [--runs 50000] [--accuracy]

The work is drawn: DAG runs of 20 tasks in 5 levels, due over 24 hours, runtimes lognormal per task signature with a
history of 100,000 ended tasks to learn from. Steps of five minutes over a day, three resources, 200 samples. The peer
draws the same runtimes, walks every DAG in topological order and adds each task to the steps it covers; it is timed
on a hundredth of the runs, one sample, and scaled. With --accuracy, quantiles of 200 samples are compared with those
of 5,000 samples in which every task is drawn for every sample, on a tenth of the runs (fewer average out less).
"""

import argparse
import json
import resource
import sys
import time
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd

from preprov.demand import expansion
from preprov.demand.known import KnownDemand, expand
from preprov.demand.runtimes import RuntimeModel
from preprov.model.resources import KINDS
from preprov.model.time import epoch
from preprov.model.worktable import WorkTable, nominal_ready

AT = datetime(2026, 3, 2, tzinfo=UTC)
LEVELS, WIDTH, DAGS = 5, 4, 500
TASKS = LEVELS * WIDTH
STEP, STEPS = 300, 288


def work(runs: int, first: float, last: float, seed: int, *, queued: bool) -> WorkTable:
    """Runs due between two instants; queued ones were all submitted before AT and have not begun."""
    rng = np.random.default_rng(seed)
    dag = rng.integers(0, DAGS, runs)
    due = np.sort(rng.uniform(first, last, runs))
    position = np.tile(np.arange(TASKS), runs)
    run = np.repeat(np.arange(runs), TASKS)
    signature = dag[run] * TASKS + position
    scale = np.random.default_rng(1).lognormal(np.log(240), 0.8, DAGS * TASKS)
    runtime = scale[signature] * rng.lognormal(0, 0.3, len(run)) * rng.lognormal(0, 0.25, runs)[run]
    parents, children = edges(runs, rng)
    cpu = np.random.default_rng(2).choice([1.0, 2.0, 4.0], DAGS * TASKS, p=[0.7, 0.2, 0.1])[signature]
    table = {
        "run": run,
        "task_id": np.array([f"t{i}" for i in range(TASKS)], dtype=object)[position],
        "signature": np.array([f"d{i // TASKS}/t{i % TASKS}" for i in range(DAGS * TASKS)], dtype=object)[signature],
        "operator": "sh",
        "instances": 1,
        **dict.fromkeys(KINDS, 0.0),
        "cpu": cpu,
        "memory": 2.0 * cpu,
        "network": 5.0,
        "gang": False,
        "hint_s": np.nan,
        "ready_at": np.nan if queued else nominal_ready(due, runtime, run, parents, children),
        "started_at": np.nan,
        "ended_at": np.nan,
        "runtime_s": np.nan if queued else runtime,
    }
    frame = {
        "run_id": [f"r{seed}-{i}" for i in range(runs)],
        "dag_id": np.array([f"d{i}" for i in range(DAGS)], dtype=object)[dag],
        "tenant": "t",
        "priority": 0,
        "schedule": "",
        "zone": "UTC",
        "trigger": "manual",
        "scheduled_for": np.nan,
        "submit": epoch(AT) - 60 if queued else due,
        "due": due,
        "land_by": np.nan,
        "timing": "nominal",
    }
    return WorkTable(pd.DataFrame(frame), pd.DataFrame(table), parents, children)


def edges(runs: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """Every task below the first level waits for one or two tasks of the level above."""
    child = np.tile(np.arange(WIDTH, TASKS), runs)
    base = np.repeat(np.arange(runs) * TASKS, TASKS - WIDTH)
    above = (child // WIDTH - 1) * WIDTH
    one = above + rng.integers(0, WIDTH, len(child))
    two = above + rng.integers(0, WIDTH, len(child))
    keep = (two != one) & (rng.random(len(child)) < 0.4)
    return np.concatenate([base + one, (base + two)[keep]]), np.concatenate([base + child, (base + child)[keep]])


def ours(seen: WorkTable, runtimes: RuntimeModel, samples: int) -> tuple[float, KnownDemand]:
    """Seconds of one core, and the demand."""
    begin = time.process_time()
    demand = expand(seen, (), AT, runtimes, horizon_s=STEP * STEPS, step_seconds=STEP, n_samples=samples, seed=0)
    return time.process_time() - begin, demand


def peer(seen: WorkTable, runtimes: RuntimeModel) -> float:
    """Seconds that a networkx loop takes for one sample."""
    import networkx as nx

    rng = np.random.default_rng(0)
    begin = time.process_time()
    drawn = runtimes.draw(seen.tasks, np.zeros(len(seen.tasks)), 1, rng)[:, 0]
    due = seen.runs["due"].to_numpy() - epoch(AT)
    wants = seen.tasks[["cpu", "memory", "network"]].to_numpy()
    run = seen.tasks["run"].to_numpy()
    first = np.searchsorted(run, np.arange(len(seen.runs) + 1))
    graphs = [nx.DiGraph() for _ in range(len(seen.runs))]
    for r, graph in enumerate(graphs):
        graph.add_nodes_from(range(first[r], first[r + 1]))
    for p, c in zip(seen.parents.tolist(), seen.children.tolist(), strict=True):
        graphs[run[c]].add_edge(p, c)
    grid = np.zeros((STEPS + 1, 3))
    for r, graph in enumerate(graphs):
        end: dict[int, float] = {}
        for task in nx.topological_sort(graph):
            start = max((end[p] for p in graph.predecessors(task)), default=due[r])
            end[task] = start + float(drawn[task])
            lo, hi = int(start // STEP), int(end[task] // STEP)
            grid[min(lo, STEPS) : min(hi, STEPS) + 1] += wants[task]
    return time.process_time() - begin


def error(few: KnownDemand, many: KnownDemand) -> dict[str, float]:
    """Largest and typical relative difference of quantiles .05 to .95 of cores, where there is any demand."""
    levels = (0.05, 0.25, 0.5, 0.75, 0.95)
    a = np.quantile(few.samples[:, :, 0], levels, axis=0)
    b = np.quantile(many.samples[:, :, 0], levels, axis=0)
    busy = b[2] > 0.01 * b[2].max()
    difference = np.abs(a - b)[:, busy] / b[:, busy]
    worst, usual = float(difference.max()), float(difference.mean())
    return {"max": worst, "p99": float(np.quantile(difference, 0.99)), "mean": usual}


def drawn_for_every_sample(seen: WorkTable, runtimes: RuntimeModel, samples: int) -> tuple[float, KnownDemand]:
    """The same without recombination."""
    usual, expansion.DIRECT = expansion.DIRECT, sys.maxsize
    try:
        return ours(seen, runtimes, samples)
    finally:
        expansion.DIRECT = usual


def against_peer(tasks: int, samples: int, seconds: float, runtimes: RuntimeModel) -> dict[str, object]:
    """The loop on a hundredth of the runs and one sample, scaled to all of them."""
    if find_spec("networkx") is None:
        return {"name": "networkx loop", "skipped": "networkx is not installed"}
    now = epoch(AT)
    small = work(max(tasks // TASKS // 100, 1), now, now + 86_400, 12, queued=True)
    one = peer(small, runtimes)
    scaled = one * tasks / len(small.tasks) * samples
    return {
        "name": "networkx loop",
        "tasks": len(small.tasks),
        "samples": 1,
        "seconds": round(one, 3),
        "seconds_scaled": round(scaled),
        "times_slower": round(scaled / seconds),
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50_000)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--accuracy", action="store_true")
    asked = parser.parse_args()
    now = epoch(AT)
    runtimes = RuntimeModel.learn(work(5_000, now - 20 * 86_400, now - 86_400, 7, queued=False), AT)
    seen = work(asked.runs, now, now + 86_400, 11, queued=True)
    seconds, demand = ours(seen, runtimes, asked.samples)
    out: dict[str, object] = {
        "task_instances": len(seen.tasks),
        "dags": asked.runs,
        "steps": STEPS,
        "resources": 3,
        "samples": asked.samples,
        "seconds": round(seconds, 2),
        "peak_memory_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2, 2),
        "cores_p50_max": round(float(np.quantile(demand.samples[:, :, 0], 0.5, axis=0).max()), 1),
    }
    del demand
    out["peer"] = against_peer(len(seen.tasks), asked.samples, seconds, runtimes)
    hundred = work(5_000, now, now + 86_400, 13, queued=True)
    out["seconds_100k"] = round(ours(hundred, runtimes, asked.samples)[0], 2)
    if asked.accuracy:
        few, many = ours(hundred, runtimes, asked.samples)[1], drawn_for_every_sample(hundred, runtimes, 5_000)[1]
        out["error_against_5000_samples"] = {"tasks": len(hundred.tasks), **error(few, many)}
    print(json.dumps(out, indent=2))


if __name__ == "__main__":
    main()
