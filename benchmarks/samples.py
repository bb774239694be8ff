"""A hundred million usage samples in the store, on one machine.

    python -m benchmarks.samples [--million 100] [--folder DIR] [--seed 0]

Runs of half an hour, a sample every five seconds, of 200 DAGs of ten tasks each, spread evenly over the last ninety
days. Instants and cores are any numbers, memory is whole pages, of operations and page faults most are few, network and
GPUs are not observed. First `append` keeps some of them, as a controller does; how many a second is the ingest rate.
The others are written in columns, as files like those that it writes (it would take an hour), and all are merged. Then
typical questions are asked, each of a store that was just opened, three times with other names; the median counts. At
last everything is thinned as by default, and the same is asked again. One JSON document; all files are removed.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.machine import machine
from preprov.model.agent import Usage
from preprov.model.usage import Thinning
from preprov.store.samples import ParquetSampleStore
from preprov.store.thinning import COLUMNS

DAY_S = 86_400.0
DAYS, EVERY_S, PER_RUN = 90, 5.0, 360
DAGS, TASKS = 200, 10
PORTION = 1_000
"""Runs in one file."""
THROUGH_APPEND = 500_000
"""At most so many samples are kept by `append`."""
KEPT_AT_ONCE = 5_000
"""Samples in one append: of a thousand tasks every five seconds."""
RUNS_OF_A_CURVE = 64
"""Runs of a signature that its curve rests on."""
REPEATS = 3


def claimant(run: int) -> str:
    """Name of the run-th run: they go round the tasks of all DAGs."""
    turn, which = divmod(run, DAGS * TASKS)
    return f"dag-{which // TASKS}-{turn}/task-{which % TASKS}#0"


def columns(first: int, count: int, step_s: float, rng: np.random.Generator) -> dict[str, Any]:
    """Samples of `count` runs, one begun every `step_s`, in columns; what is left out was not observed."""
    n = count * PER_RUN
    begun = np.repeat((first + np.arange(count)) * step_s, PER_RUN)
    ticks = np.tile(np.arange(PER_RUN) * EVERY_S, count)
    pages = np.repeat(rng.integers(20_000, 2_000_000, count), PER_RUN) * rng.uniform(0.5, 1.0, n)
    names = pa.array([claimant(first + i) for i in range(count)])
    busy = rng.random(n) < 0.2
    return {
        "claimant": names.take(pa.array(np.repeat(np.arange(count), PER_RUN))),
        "ts": begun + ticks + rng.uniform(0, 0.01, n),
        "cpu": rng.lognormal(0, 0.3, n),
        "memory": np.floor(pages) * 4096 / 2**30,
        "disk_io": np.where(busy, rng.lognormal(2, 1, n), 0.0),
        "working_set": np.floor(pages * 0.9) * 4096 / 2**30,
        "page_faults": np.where(rng.random(n) < 0.02, rng.integers(1, 500, n), 0) / EVERY_S,
        "read_ops": np.where(busy, rng.integers(1, 20_000, n), 3) / EVERY_S,
        "write_ops": np.where(busy, rng.integers(1, 2_000, n), 2) / EVERY_S,
    }


def told(made: dict[str, Any]) -> Iterator[tuple[str, Usage]]:
    """The same as objects, in time order, as they come from agents."""
    order = np.argsort(made["ts"], kind="stable")
    names = made["claimant"].to_pylist()
    amounts = {k: v[order].tolist() for k, v in made.items() if k not in ("claimant", "ts")}
    for i, (row, at) in enumerate(zip(order.tolist(), made["ts"][order].tolist(), strict=True)):
        yield names[row], Usage(at, **{k: v[i] for k, v in amounts.items()})


def table(made: dict[str, Any]) -> pa.Table:
    """As `append` writes it."""
    n = len(made["ts"])
    schema = pa.schema([("claimant", pa.string()), *((c, pa.float64()) for c in COLUMNS[1:])])
    return pa.table({c: made.get(c, pa.nulls(n, pa.float64())) for c in COLUMNS}, schema=schema)


def keep(store: ParquetSampleStore, samples: list[tuple[str, Usage]]) -> float:
    """Samples a second through `append`, its merges included."""
    begun = time.perf_counter()
    for first in range(0, len(samples), KEPT_AT_ONCE):
        store.append("p", samples[first : first + KEPT_AT_ONCE])
    return len(samples) / (time.perf_counter() - begun)


def settle(folder: Path, thinning: Thinning, now: float) -> float:
    """Merge and thin until nothing is left to do; seconds."""
    begun = time.perf_counter()
    store, before = ParquetSampleStore(folder, thinning, lambda: now), None
    while (after := size(folder)) != before:
        store.compact("p")
        before = after
        say(f"{after['files']} files, {after['bytes'] / 1e9:.2f} GB")
    return time.perf_counter() - begun


def size(folder: Path) -> dict[str, int]:
    """Files, their bytes and rows."""
    files = list(folder.glob("p/*.parquet"))
    rows = sum(pq.read_metadata(f).num_rows for f in files)
    return {"files": len(files), "bytes": sum(f.stat().st_size for f in files), "rows": rows}


def ask(folder: Path, runs: int, per_day: float) -> dict[str, float]:
    """Question -> seconds, the median over other names."""
    round_ = DAGS * TASKS

    def timed(question: Callable[[ParquetSampleStore, int], object]) -> float:
        spent = []
        for i in range(REPEATS):
            begun = time.perf_counter()
            question(ParquetSampleStore(folder), i)
            spent.append(time.perf_counter() - begun)
        return median(spent)

    def one_run(store: ParquetSampleStore, i: int) -> None:
        assert store.samples(claimant(runs * (i + 1) // (REPEATS + 1)))

    def curve(store: ParquetSampleStore, i: int) -> None:
        latest = range(runs - 1 - i, -1, -round_)[:RUNS_OF_A_CURVE]
        assert len(store.series([claimant(r) for r in latest])) == len(latest)

    def dag(store: ParquetSampleStore, i: int) -> None:
        week = range(max(runs - int(7 * per_day), 0), runs)
        mine = [claimant(r) for r in week if r % round_ // TASKS == i]
        assert len(store.summaries(mine)) == len(mine)

    return {
        "samples_of_one_run_s": timed(one_run),
        "curve_of_one_signature_s": timed(curve),
        "usage_of_a_dag_7_days_s": timed(dag),
    }


def measure(folder: Path, million: float, seed: int) -> dict[str, Any]:
    """The whole document but the machine."""
    rng = np.random.default_rng(seed)
    runs = max(int(million * 1e6 / PER_RUN), 1)
    step_s = DAYS * DAY_S / runs
    whole = Thinning(())
    store = ParquetSampleStore(folder, whole)
    door = min(THROUGH_APPEND // PER_RUN, runs)
    rate = keep(store, list(told(columns(0, door, step_s, rng))))
    say(f"append: {rate:,.0f} samples/s")
    begun = time.perf_counter()
    for first in range(door, runs, PORTION):
        made = table(columns(first, min(PORTION, runs - first), step_s, rng))
        pq.write_table(made, folder / "p" / f"made-{first:09}.parquet", compression="zstd")
        if first // PORTION % 20 == 0:
            say(f"{first / runs:.0%} written")
    written = time.perf_counter() - begun
    now, per_day = DAYS * DAY_S, runs / DAYS
    out: dict[str, Any] = {
        "samples": runs * PER_RUN,
        "observed_columns": 8,
        "append_samples_per_s": rate,
        "append_samples": door * PER_RUN,
        "bulk_write_s": written,
    }
    for name, thinning in (("whole", whole), ("thinned", Thinning())):
        if thinning.steps:  # a pool in use has something to merge what is small and old with
            store.append("p", [("last", Usage(now))])
        spent = settle(folder, thinning, now)
        found = size(folder)
        out[name] = {
            "merge_and_thin_s": spent,
            **found,
            "bytes_per_row": found["bytes"] / found["rows"],
            "bytes_per_sample": found["bytes"] / out["samples"],
            **ask(folder, runs, per_day),
        }
        say(f"{name}: {out[name]}")
    return out


def say(text: str) -> None:
    """Progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--million", type=float, default=100.0, help="how many million samples")
    parser.add_argument("--folder", type=Path, default=None, help="where there is room; else the folder for such files")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="preprov-samples-", dir=args.folder) as folder:
        found = measure(Path(folder), args.million, args.seed)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"machine": machine(), **found, "peak_memory_gib": round(peak, 2)}, indent=1))


if __name__ == "__main__":
    main()
