"""Whether it pays to adjust tasks while they run: real tasks in real cgroups, with and without. Prints JSON.

    python -m benchmarks.adjusting [--repeats 5] [--tasks 20] [--mix people] [--speed 12]

Two local nodes are warm. Twenty tasks of scripted loads (steady, step, ramp, sine, sawtooth in cores and memory) are
submitted at once, twice with the same seed: to a pool without [pool.adjust], and to one with it at its defaults. What
counts is how long the last of them takes to end, as a ratio of the two; which of the two goes first alternates. Without
the setting nothing holds a task to what it asked for: it may use what others leave of the node.

The clock runs `speed` times as fast as the wall, so that tasks of some minutes take some seconds; the load of a task is
in real cores and bytes. Mixes say how requests stand to what is used at most: `people` ask for two to six times as much
in seven of ten cases, and for too little in three of twenty (public traces know requests of four to eighty times);
`exact` asks for 1.0 to 1.3 times; `short` for 0.6 to 0.9 times. Cgroups have to be writable: run it as root.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
import structlog

from benchmarks.machine import machine
from preprov.agent.limits import detect
from preprov.app import App, open_app
from preprov.clocks import ScaledClock
from preprov.contracts import LaunchRequest
from preprov.control.passes import pool_pass
from preprov.control.submitting import submit
from preprov.model.adjusting import Adjusting
from preprov.model.nodes import Phase
from preprov.model.offerings import Offering, Standby
from preprov.model.plans import ActionKind
from preprov.model.pools import Group, Mode, Pool
from preprov.model.resources import Resources
from preprov.model.work import DagSpec, State, TaskSpec
from preprov.settings import Settings
from preprov.testing.local_nodes import cleared
from preprov.testing.waiting import wait_until

NODES, NODE = 2, Resources(cpu=0.4, memory=0.75)
TICK_S: Final = 5.0
SHAPES: Final = ("steady", "step", "ramp", "sine", "sawtooth")
MIXES: Final = ("people", "exact", "short")

LOAD = """
import math, sys, time
shape, seconds, cores, mib = sys.argv[1], *map(float, sys.argv[2:5])
level = {"steady": lambda p: 1.0, "step": lambda p: 1.0 if p > 0.5 else 0.3, "ramp": lambda p: 0.2 + 0.8 * p,
         "sine": lambda p: 0.6 + 0.4 * math.sin(6 * math.pi * p), "sawtooth": lambda p: 0.2 + 0.8 * (4 * p % 1)}[shape]
PERIOD = 0.05
periods, held = max(int(seconds / PERIOD), 1), []
due = time.monotonic()
for i in range(periods):
    now = level(i / periods)
    while len(held) < now * mib:
        held.append(b"x" * (1 << 20))
    del held[max(int(now * mib), 0):]
    until = time.thread_time() + now * cores * PERIOD
    while time.thread_time() < until:
        pass
    due = max(due + PERIOD, time.monotonic() - PERIOD)
    time.sleep(max(due - time.monotonic(), 0))
"""
"""At each twentieth of a second so much work: one that is held back takes longer. Memory is written to."""


@dataclass(frozen=True)
class Load:
    """One task. seconds: of the wall, if it gets what it wants. cores, mib: at most. asked: its request."""

    shape: str
    seconds: float
    cores: float
    mib: float
    asked: Resources


@dataclass(frozen=True)
class Night:
    """What came of it. makespan_s: wall. killed: attempts ended by a signal that we did not ask for."""

    makespan_s: float
    waited_s: float
    killed: int
    raised: int
    lowered: int
    moved: int


def draw(seed: int, tasks: int, mix: str) -> list[Load]:
    """The same loads for the same seed."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(tasks):
        cores, mib = float(np.clip(rng.lognormal(np.log(0.05), 0.5), 0.02, 0.2)), float(rng.uniform(16, 96))
        factor = [_factor(rng, mix) for _ in range(2)]
        base = 12.0  # an interpreter's own MiB
        asked = Resources(
            cpu=round(min(cores * factor[0], NODE.cpu), 3),
            memory=round(min((mib + base) / 1024 * factor[1], NODE.memory), 4),
        )
        out.append(Load(str(rng.choice(SHAPES)), float(rng.uniform(8, 24)), cores, mib, asked))
    return out


def _factor(rng: np.random.Generator, mix: str) -> float:
    kind = {"exact": 0.8, "short": 0.9}.get(mix, rng.random())
    if kind < 0.7:
        return float(rng.uniform(2, 6))
    return float(rng.uniform(1.0, 1.3) if kind < 0.85 else rng.uniform(0.6, 0.9))


def pool(adjusting: Adjusting | None) -> Pool:
    node = Offering("m", NODE)
    group = Group("g", "local", (node,), frozenset({Standby.RUNNING}), max_nodes=NODES, options={"sample_s": 0.2})
    return Pool("batch", (group,), mode=Mode.FULL, binding=("cpu", "memory"), adjusting=adjusting)


def night(loads: Sequence[Load], adjusting: Adjusting | None, speed: float, past: int = 0) -> Night:
    """Submit them all to two warm nodes, and serve until the last has ended; the same `past` times before."""
    clock = ScaledClock(datetime(2026, 3, 2, 1, tzinfo=UTC), speed)
    made = pool(adjusting)
    with ExitStack() as stack:
        home = stack.enter_context(cleared(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="adj-")))))
        app = stack.enter_context(open_app(Settings(home=home), clock=clock, pools={made.name: made}))
        _warm(app, made)
        tasks = tuple(_task(i, load, speed) for i, load in enumerate(loads))
        for _ in range(past + 1):
            (run,) = submit(app.ctx, (DagSpec("loads", tasks, pool=made.name),))
            began = time.monotonic()
            while not _over(app, run.run_id):
                due = time.monotonic() + TICK_S / speed
                pool_pass(app.ctx, made, plan=False, react=False)
                time.sleep(max(due - time.monotonic(), 0.0))
        return _came(app, run.run_id, time.monotonic() - began, speed)


def _warm(app: App, made: Pool) -> None:
    provider = app.ctx.providers["local"]
    provider.launch(LaunchRequest(made, "g", made.groups[0].offerings[0], NODES, "warm", made.preload))
    wait_until(lambda: len(provider.observe(made).in_phase(Phase.READY)) == NODES, what="the nodes", deadline_s=60)


def _task(i: int, load: Load, speed: float) -> TaskSpec:
    words = (load.shape, f"{load.seconds:.3f}", f"{load.cores:.4f}", f"{load.mib:.1f}")
    command = (sys.executable, "-S", "-E", "-c", LOAD, *words)
    return TaskSpec(f"t{i:02}", command=command, request=load.asked, runtime_hint_s=load.seconds * speed)


def _over(app: App, run_id: str) -> bool:
    run = app.ctx.ports.work.run(run_id)
    return run is not None and run.state.is_final


def _came(app: App, run_id: str, makespan_s: float, speed: float) -> Night:
    tasks = app.ctx.ports.work.task_runs([run_id])
    rows = [r for r in app.ctx.ports.audit.records("batch") if r.result == "done"]
    rows = [r for r in rows if r.action.task.startswith(f"{run_id}/")]
    moved = [r for r in rows if r.action.kind is ActionKind.MOVE]
    resized = [r.action.numbers for r in rows if r.action.kind is ActionKind.RESIZE]

    def counted(better: Callable[[float, float], bool]) -> int:
        return sum(better(n[f"{k}_after"], n[f"{k}_before"]) for n in resized for k in ("cpu", "memory"))

    attempts = sum(t.attempt - 1 + (t.state is not State.SUCCEEDED) for t in tasks)
    waited = [(t.started_at - t.ready_at).total_seconds() / speed for t in tasks if t.started_at and t.ready_at]
    return Night(
        makespan_s,
        sum(waited) / max(len(waited), 1),
        attempts - len(moved),
        counted(lambda a, b: a > b),
        counted(lambda a, b: a < b),
        len(moved),
    )


def compare(mix: str, repeats: int, tasks: int, speed: float, past: int = 0, seed: int = 0) -> dict[str, object]:
    """Pairs of nights of the same seed."""
    pairs = []
    for i in range(repeats):
        loads = draw(seed + i, tasks, mix)
        arms = [("without", None), ("with", Adjusting())]
        order = arms if i % 2 == 0 else arms[::-1]
        # what past runs used is of no use to the pool without
        found = {name: night(loads, manner, speed, past if manner else 0) for name, manner in order}
        ratio = found["with"].makespan_s / found["without"].makespan_s
        pairs.append({"seed": seed + i, "ratio": ratio, **{k: asdict(v) for k, v in found.items()}})
        print(f"{mix} {i + 1}/{repeats}: {ratio:.3f}", file=sys.stderr, flush=True)
    ratios = [float(p["ratio"]) for p in pairs]  # type: ignore[arg-type]
    killed = {arm: sum(p[arm]["killed"] for p in pairs) for arm in ("without", "with")}  # type: ignore[index]
    return {
        "median_makespan_ratio": median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "killed": killed,
        "pairs": pairs,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else "")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=20)
    parser.add_argument("--mix", action="append", choices=MIXES)
    parser.add_argument("--speed", type=float, default=12.0)
    parser.add_argument("--past", type=int, default=0, help="runs of the same tasks before, so that curves are known")
    args = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    kind = detect()
    if kind == "rlimit":
        print("SKIPPED: cgroups cannot be written here", file=sys.stderr)
        print(json.dumps({"machine": machine(), "limits": kind, "mixes": {}}))
        return 0
    mixes = {m: compare(m, args.repeats, args.tasks, args.speed, args.past) for m in args.mix or MIXES}
    told = {"machine": machine(), "limits": kind, "tasks": args.tasks, "repeats": args.repeats, "speed": args.speed}
    told["past"] = args.past
    print(json.dumps({**told, "node": asdict(NODE), "nodes": NODES, "mixes": mixes}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
