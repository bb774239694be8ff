"""One pass over very many pools in a cloud whose every call takes a while. Prints JSON.

    python -m benchmarks.many_pools [--pools 1000] [--nodes 10] [--latency-ms 50] [--at-once 32]

The pools' nodes exist and are ready, each pool has work queued for about half of them and more due within the hour. The
cloud is that of the simulation, and each call of it sleeps for real. The first pass knows nothing and plans everything
anew; the second is what comes a minute later, when some work has come. Passes go through the same loop as those of
`preprov up`.
"""

import argparse
import json
import logging
import resource
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from benchmarks.machine import machine
from preprov.contracts import LaunchRequest
from preprov.control.context import Context
from preprov.control.passes import PassResult
from preprov.control.running import Runner
from preprov.control.submitting import submit
from preprov.model.nodes import Phase
from preprov.model.offerings import LeadTime, Offering, Preload, Standby
from preprov.model.pools import Group, Guards, Mode, Pool
from preprov.model.resources import Resources
from preprov.model.work import DagSpec, TaskSpec
from preprov.planning.prices import TablePriceBook
from preprov.sim.clock import VirtualClock
from preprov.sim.cloud import SimCloud
from preprov.sim.ports import memory_ports
from preprov.sim.scheduler import SimScheduler

START = datetime(2025, 3, 3, 1, 0, tzinfo=UTC)
VERBS = ("observe", "launch", "start", "hibernate", "stop", "drain", "terminate")


class Slow:
    """A provider each call of which takes so long, and is counted; one at a time within it, as in one process."""

    def __init__(self, cloud: SimCloud, latency_s: float) -> None:
        self.name, self._cloud, self._latency_s = cloud.name, cloud, latency_s
        self._lock = threading.Lock()
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._cloud, name)
        return self._slowly(name, found) if name in VERBS else found

    def _slowly(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def slow(*args: Any, **kwargs: Any) -> Any:
            time.sleep(self._latency_s)
            with self._lock:
                self.calls[name] += 1
                return call(*args, **kwargs)

        return slow


def make_pool(number: int, nodes: int) -> Pool:
    offering = Offering("m", Resources(cpu=4, memory=16), usd_per_hour=0.2)
    group = Group(
        "g",
        "sim",
        (offering,),
        standby_states=frozenset({Standby.RUNNING, Standby.STOPPED}),
        max_nodes=2 * nodes,
        lead={Standby.COLD: LeadTime(60, 90), Standby.STOPPED: LeadTime(20, 30)},
        standby_usd_per_hour={Standby.STOPPED: 0.01},
    )
    name = f"pool-{number:04d}"
    guards = Guards(max_nodes=2 * nodes)
    return Pool(name, (group,), mode=Mode.FULL, step_seconds=300, horizon_s=4 * 3600, guards=guards)


def work(pool: Pool, nodes: int, due: datetime | None, name: str) -> DagSpec:
    """So many tasks of a node's size, and one after them."""
    tasks = [
        TaskSpec(f"t{i}", command=("true",), request=Resources(cpu=3, memory=4), runtime_hint_s=900.0)
        for i in range(nodes)
    ]
    last = TaskSpec(
        "end",
        command=("true",),
        parents=tuple(t.task_id for t in tasks),
        request=Resources(cpu=1, memory=1),
        runtime_hint_s=60.0,
    )
    return DagSpec(name, (*tasks, last), due=due).in_pool(pool.name)


def world(count: int, nodes: int, latency_s: float) -> tuple[Context, Slow, VirtualClock]:
    """All pools with their nodes ready and their work queued."""
    clock = VirtualClock(START)
    cloud = SimCloud(clock, seed=1)
    slow = Slow(cloud, latency_s)
    pools = {p.name: p for p in (make_pool(i, nodes) for i in range(count))}
    ctx = Context(
        ports=memory_ports(),
        providers={"sim": slow},  # type: ignore[dict-item]
        schedulers={"sim": SimScheduler(clock, cloud)},
        prices=TablePriceBook.from_pools(list(pools.values())),
        clock=clock,
        pools=pools,
        actor="bench",
        n_samples=100,
    )
    for pool in pools.values():
        offering = pool.groups[0].offerings[0]
        cloud.launch(LaunchRequest(pool, "g", offering, nodes, f"first {pool.name}", Preload()))
    clock.sleep(600)
    now = clock.now()
    for pool in pools.values():
        submit(ctx, (work(pool, nodes // 2, None, "now"), work(pool, nodes, now + timedelta(minutes=40), "later")))
    return ctx, slow, clock


def one_pass(ctx: Context, slow: Slow, at_once: int) -> dict[str, object]:
    """Every pool once, planned."""
    done: list[PassResult] = []
    slow.calls.clear()
    began = time.perf_counter()
    cpu = time.process_time()
    Runner(ctx, list(ctx.pools.values()), at_once=at_once, on_pass=done.append).sweep()
    took, used = time.perf_counter() - began, time.process_time() - cpu
    each = sorted(r.seconds for r in done)
    return {
        "seconds": round(took, 1),
        "cpu_seconds": round(used, 1),
        "pools": len(done),
        "planned": sum(r.plan is not None for r in done),
        "nodes": sum(len(r.observation.nodes) for r in done),
        "ready": sum(len(r.observation.in_phase(Phase.READY)) for r in done),
        "actions": dict(Counter(f"{x.action.kind} {x.result}" for r in done for x in r.records)),
        "tasks_started": sum(len(r.dispatched.started) for r in done if r.dispatched),
        "pool_median_s": round(each[len(each) // 2], 3),
        "pool_slowest_s": round(each[-1], 3),
        "calls": dict(slow.calls),
    }


def measure(count: int, nodes: int, latency_s: float, at_once: int) -> dict[str, object]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    ctx, slow, clock = world(count, nodes, latency_s)
    before = _memory_mib()
    first = one_pass(ctx, slow, at_once)
    clock.sleep(60)
    for pool in list(ctx.pools.values())[::5]:
        submit(ctx, (replace(work(pool, 2, None, "more")),))
    second = one_pass(ctx, slow, at_once)
    return {
        "machine": machine(),
        "pools": count,
        "nodes": count * nodes,
        "latency_ms": 1000 * latency_s,
        "at_once": at_once,
        "first_pass": first,
        "second_pass": second,
        "world_mib": before,
        "peak_mib": _memory_mib(),
        "goal": {"seconds": 60, "peak_mib": 1024},
    }


def _memory_mib() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pools", type=int, default=1000)
    parser.add_argument("--nodes", type=int, default=10)
    parser.add_argument("--latency-ms", type=float, default=50.0)
    parser.add_argument("--at-once", type=int, default=32)
    args = parser.parse_args()
    print(json.dumps(measure(args.pools, args.nodes, args.latency_ms / 1000, args.at_once), indent=1))


if __name__ == "__main__":
    sys.exit(main())
