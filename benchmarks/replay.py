"""Policies on public traces, and how fast the replay is.

    OMP_NUM_THREADS=1 python -m benchmarks.replay [NAME ...] [--policies a,b] [--lead-scale 0.5,1,2] [--quick]

NAME: nights, nights-hidden, alibaba, nasa, lanl, hpc2n; all of them, if none is given. One JSON document: for each
trace what `preprov replay` prints, what it says when compared, and the speed of the engine alone under the policy
reactive (CPU seconds, task instances and parts a second). `--quick` judges two days of nights only, at lead scale 1,
four settings a policy.

With --resume FOLDER replays are kept as they are played, and not played again.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.machine import machine, traces
from preprov import figures
from preprov.contracts import WorkSource
from preprov.logs import configure
from preprov.model.time import from_epoch
from preprov.model.work import Schedule
from preprov.model.worktable import RUN_COLUMNS, TASK_COLUMNS, WorkTable, nominal_ready
from preprov.replay.frontier import compared
from preprov.replay.sweep import Sweep, sweep, wanted_runs
from preprov.replay.yardstick import LEAD_SCALES, POLICIES, Case, judged_window, knobs, yardstick_pool
from preprov.sources.swf import SwfSource
from preprov.sources.tables import DagTableSource


@dataclass(frozen=True)
class Trace:
    """Where a trace is and how it is judged."""

    path: str
    hidden: bool = False
    last_days: bool = False
    days: float | None = 14.0


TRACES = {
    "nights": Trace("dags/nights.parquet", last_days=True),
    "nights-hidden": Trace("dags/nights.parquet", hidden=True, last_days=True),
    "alibaba": Trace("dags/alibaba2018_dag_tasks.parquet", days=None),
    "nasa": Trace("swf/NASA-iPSC-1993-3.1-cln.swf.gz"),
    "lanl": Trace("swf/LANL-CM5-1994-4.1-cln.swf.gz"),
    "hpc2n": Trace("swf/HPC2N-2002-2.2-cln.swf.gz"),
}


def case_of(name: str, folder: Path) -> Case:
    """Read a trace."""
    trace = TRACES[name]
    path = folder / trace.path
    source: WorkSource = SwfSource(path) if ".swf" in path.name else DagTableSource(path)
    batches = list(source.read())
    work = WorkTable.concat([b.work for b in batches])
    schedules: tuple[Schedule, ...] = () if trace.hidden else tuple(s for b in batches for s in b.schedules)
    first, until = judged_window(work, zone=source.zone, days=trace.days, last_days=trace.last_days)
    if any(b.schedules for b in batches):
        work = with_usual_deadlines(work, first)
    return Case(name, work, yardstick_pool(name, zone=source.zone), first, until, schedules)


def with_usual_deadlines(work: WorkTable, before: datetime) -> WorkTable:
    """A run is to have ended a fifth later than runs of its DAG usually did, by the median over history."""
    _, ends = work.spans()
    last = np.full(len(work.runs), -np.inf)
    np.maximum.at(last, work.tasks["run"].to_numpy(), np.nan_to_num(ends, nan=-np.inf))
    took = pd.Series(last - work.runs["due"].to_numpy())
    past = (work.runs["due"] < before.timestamp()).to_numpy() & np.isfinite(took)
    usual = took[past].groupby(work.runs["dag_id"].astype(str)[past]).median()
    allowed = 1.2 * usual.reindex(work.runs["dag_id"].astype(str)).to_numpy()
    return WorkTable(work.runs.assign(land_by=work.runs["due"] + allowed), work.tasks, work.parents, work.children)


def million(parts: int) -> dict[str, float]:
    """A made-up trace of so many instances under reactive: memory before and during play, and speed."""
    rng, width = np.random.default_rng(0), 10
    runs = parts // width
    submit = np.sort(rng.uniform(0, 60 * 86_400.0, runs))
    run = np.repeat(np.arange(runs), width)
    position = np.arange(parts) % width
    parents = np.flatnonzero(position < width - 1)
    runtime = rng.lognormal(5.5, 1.0, parts).round(3)
    ready = nominal_ready(submit, runtime, run, parents, parents + 1)
    columns = {"run_id": np.arange(runs).astype(str), "dag_id": "d", "tenant": "t", "priority": 0, "schedule": ""}
    columns |= {"zone": "UTC", "trigger": "manual", "scheduled_for": np.nan, "submit": submit, "due": submit}
    frame = pd.DataFrame({**columns, "land_by": np.nan, "timing": "nominal"})[list(RUN_COLUMNS)].astype(RUN_COLUMNS)
    columns = {"run": run, "task_id": position.astype(str), "signature": "s", "operator": "", "instances": 1}
    columns |= {"cpu": rng.choice([1.0, 2.0, 4.0], parts), "memory": 2.0, "gpu": 0.0, "disk_io": 0.0, "network": 0.0}
    columns |= {"gang": False, "hint_s": np.nan, "ready_at": ready, "started_at": np.nan, "ended_at": np.nan}
    tasks = pd.DataFrame({**columns, "runtime_s": runtime})[list(TASK_COLUMNS)].astype(TASK_COLUMNS)
    work = WorkTable(frame, tasks, parents, parents + 1)
    first = from_epoch(0.0)
    case = Case("million", work, yardstick_pool("million"), first, first + timedelta(days=61), warm_up_s=0.0)
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    result = case.play("reactive")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "parts": parts,
        "instances": result.waits.instances,
        "instances_per_s": result.waits.instances / result.cpu_seconds,
        "loaded_mib": loaded,
        "peak_mib": peak,
        "play_bytes_per_instance": (peak - loaded) * 2**20 / parts,
    }


def memory(sizes: Sequence[int] = (250_000, 500_000, 1_000_000)) -> list[dict[str, float]]:
    """`million` at each size, each in a process of its own, for the most that a process held never sinks again."""
    out = []
    for parts in sizes:
        words = [sys.executable, "-m", "benchmarks.replay", "--parts", str(parts)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        out.append(json.loads(done.stdout))
    return out


def engine_speed(case: Case) -> dict[str, float]:
    """The engine alone: the best of three replays under reactive, CPU seconds of play."""
    best = min((case.play("reactive") for _ in range(3)), key=lambda r: r.cpu_seconds)
    instances = int((best.per_instance["weight"]).sum())
    return {
        "cpu_seconds": best.cpu_seconds,
        "instances_per_s": instances / best.cpu_seconds,
        "parts_per_s": best.events / best.cpu_seconds,
        "instances": instances,
    }


def play(name: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """One trace: speed, sweep, and what it says."""
    began = time.perf_counter()
    case = case_of(name, folder)
    if args.most_cores is not None:
        case = replace(case, most_cores=args.most_cores or None)
    if args.days:
        case = replace(case, judged_from=max(case.judged_from, case.until - timedelta(days=args.days)))

    def progress(share: float, what: str) -> None:
        print(f"   {name} {share:4.0%} {what} ({time.perf_counter() - began:.0f} s)", file=sys.stderr, flush=True)

    few = {p: knobs(p, case.peak_nodes)[1::2] for p in args.policies} if args.quick else {}
    runs = wanted_runs(case, args.policies, args.lead_scale, {**few, **args.knob})
    done = sweep(case, runs, workers=args.workers, resume=args.resume, progress=progress)
    if args.pictures:
        draw(done, args.pictures)
    said = {f"{s:g}": compared(done.rows(s), bound) for s, bound in done.clairvoyant.items()}
    return {
        **done.document(),
        "compared": said,
        "engine": engine_speed(case),
        "seconds": round(time.perf_counter() - began, 1),
    }


def draw(done: Sweep, folder: Path) -> None:
    """The frontier at each lead scale."""
    folder.mkdir(parents=True, exist_ok=True)
    for scale, bound in done.clairvoyant.items():
        title = f"{done.trace}, lead times x {scale:g}"
        file = folder / f"frontier-{done.trace}-{scale:g}.png"
        file.write_bytes(figures.frontiers(done.rows(scale), bound, title=title))


def names(text: str) -> list[str]:
    """Comma-separated."""
    return [p for p in text.split(",") if p]


def scales(text: str) -> list[float]:
    """Comma-separated numbers."""
    return [float(p) for p in names(text)]


def knob(text: str) -> tuple[str, list[float]]:
    """POLICY=VALUE[,VALUE]."""
    name, _, values = text.partition("=")
    return name, scales(values)


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("traces", nargs="*", metavar="NAME", help=", ".join(TRACES))
    parser.add_argument("--policies", type=names, default=list(POLICIES))
    parser.add_argument("--lead-scale", type=scales, default=list(LEAD_SCALES))
    parser.add_argument("--knob", type=knob, action="append", default=[], help="POLICY=VALUE[,VALUE]; repeat it")
    parser.add_argument("--days", type=float, help="judge only the last so many of the judged days")
    parser.add_argument("--most-cores", type=float, help="leave out rows that want more in all (2000; 0 = none is)")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--resume", type=Path, help="folder of replays already played")
    parser.add_argument("--million", action="store_true", help="only the engine, on up to a million made-up instances")
    parser.add_argument("--parts", type=int, help="only the engine, on so many made-up instances, in this process")
    parser.add_argument("--pictures", type=Path, help="folder for the frontier pictures")
    args = parser.parse_args(argv)
    if args.parts:
        print(json.dumps(million(args.parts)))
        return 0
    if args.million:
        print(json.dumps({"machine": machine(), "million": memory()}, indent=2))
        return 0
    folder = traces()
    if folder is None:
        print("SKIPPED: the public traces are not here (set PREPROV_TRACES)", file=sys.stderr)
        return 1
    configure("warning")  # on stderr: the document alone is on stdout
    args.knob = dict(args.knob)
    if args.quick:
        args.lead_scale, args.days = [1.0], args.days or 2.0
    out: dict[str, Any] = {"machine": machine(), "traces": {}}
    for name in args.traces or (["nights"] if args.quick else list(TRACES)):
        out["traces"][name] = play(name, folder, args)
    print(json.dumps(out, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
