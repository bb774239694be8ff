"""Tasks that load on one core and then take eight: packed by what they ask for, and by their curves.

    python -m benchmarks.curves [--nodes 3,4,6] [--tasks 40] [--repeats 3]

The control code on the simulated cloud: nodes of ten cores are warm all the time, tasks arrive at random, each loads
for about ten minutes on one core and then takes eight for about five; how long either takes is drawn anew for each
(lognormal, .1). Twelve runs were watched before. One JSON document: by number of nodes, medians over seeds of minutes
until the last task ended, of the mean wait for room, and the share of busy time in which a node's tasks together
wanted more cores, or more memory, than it has.
"""

import argparse
import json
import logging
import sys
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
import structlog

from benchmarks.machine import machine
from preprov.model.curved import CurvePacking
from preprov.model.offerings import LeadTime, Offering, Standby
from preprov.model.pools import Group, Guards, Within
from preprov.model.resources import Resources
from preprov.model.work import TaskRun, TaskSpec
from preprov.sim.adjustable import AdjustableSim
from tests.unit.control.world import World, dag, make_pool, make_world

NODE = Resources(cpu=10, memory=32)
LITTLE, MUCH = Resources(cpu=1, memory=2), Resources(cpu=8, memory=6)
ASKED = Resources(cpu=8, memory=8)
LOADS_S, WORKS_S, SPREAD = 600.0, 300.0, 0.1
KNOWN = 12
EVERY_S = 30.0


class Ways:
    """How long each run loads and works: the same for the same seed and order of submission."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self.by_run: dict[str, tuple[float, float]] = {}

    def add(self, run_id: str) -> None:
        """One more run."""
        loads, works = np.exp(self._rng.normal(0, SPREAD, 2)) * (LOADS_S, WORKS_S)
        self.by_run[run_id] = float(loads), float(works)

    def seconds(self, task: TaskRun) -> float:
        """How long it runs."""
        return sum(self.by_run[task.run_id])

    def load(self, task: TaskRun, elapsed_s: float) -> Resources:
        """What it uses."""
        return LITTLE if elapsed_s < self.by_run[task.run_id][0] else MUCH


def a_world(nodes: int, packing: CurvePacking | None, ways: Ways) -> World:
    """So many warm nodes."""
    offering = Offering("m", NODE, usd_per_hour=0.4)
    running = frozenset({Standby.RUNNING})
    lead = {Standby.COLD: LeadTime(60, 90)}
    group = Group("g", "sim", (offering,), standby_states=running, max_nodes=nodes, lead=lead)
    guards = Guards(max_nodes=nodes)
    world = make_world(make_pool(groups=(group,), packing=packing, guards=guards, floors=(Within(nodes),)))
    sim = AdjustableSim(world.clock, world.cloud, load=ways.load, seconds=ways.seconds)
    return replace(world, ctx=replace(world.ctx, schedulers={"sim": sim}), scheduler=sim)


def play(nodes: int, packing: CurvePacking | None, tasks: int, seed: int) -> dict[str, float]:
    """Minutes until all have ended, mean wait in minutes, and shares of busy time in which nodes were exceeded."""
    ways = Ways(seed)
    world = a_world(nodes, packing, ways)
    spec = TaskSpec("t", command=("x",), request=ASKED, runtime_hint_s=LOADS_S + WORKS_S)

    def submit() -> str:
        (run,) = world.submit(dag("d", spec))
        ways.add(run.run_id)
        return run.run_id

    def run_for(seconds: float) -> None:
        world.run_for(seconds, every=EVERY_S, plan_every=3600)

    def until_over(runs: list[str]) -> None:
        while not all(world.ctx.ports.work.run(r).state.is_final for r in runs):  # type: ignore[union-attr]
            run_for(300)

    until_over([submit() for _ in range(KNOWN)])
    begun, runs = world.clock.now(), []
    for gap in np.random.default_rng(seed + 1000).exponential(60.0, tasks):
        run_for(max(EVERY_S, round(gap / EVERY_S) * EVERY_S))
        runs.append(submit())
    until_over(runs)
    told = [t for r in runs for t in world.ctx.ports.work.task_runs([r])]
    spans = [
        (t.node_id, *((at - begun).total_seconds() for at in (t.started_at, t.ended_at)), ways.by_run[t.run_id][0])  # type: ignore[operator]
        for t in told
    ]
    return {
        "minutes": max(end for _, _, end, _ in spans) / 60,
        "wait_minutes": float(np.mean([(t.started_at - t.ready_at).total_seconds() for t in told])) / 60,  # type: ignore[operator]
        **exceeded(spans),
    }


def exceeded(spans: list[tuple[Any, ...]]) -> dict[str, float]:
    """Share of the time in which something ran on a node that its tasks wanted more than it has."""
    at = np.arange(0.0, max(end for _, _, end, _ in spans), 5.0)
    busy = cores = memory = 0
    for node in {n for n, *_ in spans}:
        wanted = np.zeros((2, len(at)))
        for name, start, end, loads in spans:
            if name == node:
                amount = np.where(at - start < loads, [[LITTLE.cpu], [LITTLE.memory]], [[MUCH.cpu], [MUCH.memory]])
                wanted += np.where((at >= start) & (at < end), amount, 0.0)
        busy += int((wanted[0] > 0).sum())
        cores += int((wanted[0] > NODE.cpu).sum())
        memory += int((wanted[1] > NODE.memory).sum())
    return {"cores_exceeded": cores / busy, "memory_exceeded": memory / busy}


def main(argv: list[str] | None = None) -> None:
    """Play and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", default="3,4,6")
    parser.add_argument("--tasks", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args(argv)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    out: dict[str, Any] = {"machine": machine(), "tasks": args.tasks, "repeats": args.repeats, "nodes": {}}
    for nodes in map(int, args.nodes.split(",")):
        found: dict[str, Any] = {}
        for name, packing in (("by_request", None), ("by_curve", CurvePacking())):
            played = [play(nodes, packing, args.tasks, seed) for seed in range(1, args.repeats + 1)]
            found[name] = {k: round(median(p[k] for p in played), 4) for k in played[0]}
            print(nodes, name, found[name], file=sys.stderr)
        found["minutes_ratio"] = round(found["by_curve"]["minutes"] / found["by_request"]["minutes"], 3)
        out["nodes"][str(nodes)] = found
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
