"""`python -m benchmarks`: the figures that take minutes, as JSON files in benchmarks/results (or --out).

Those that take hours have commands of their own: `benchmarks.replay`, `benchmarks.launch_order`, `benchmarks.slurm`.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.machine import traces

SERIES = "series/hourly_demand.parquet"


def commands(quick: bool) -> dict[str, list[str]]:
    """name -> the module and its arguments; what needs traces is left out where there are none."""
    out = {
        "control_plane": ["benchmarks.control_plane"],
        "planning": ["benchmarks.planning"],
        "expansion": ["benchmarks.expansion"],
        "ledger": ["benchmarks.ledger", *(["--seconds", "3"] if quick else [])],
        "many_pools": ["benchmarks.many_pools", *(["--pools", "100"] if quick else [])],
        "sizing_speed": ["benchmarks.sizing_speed"],
        "adjusting": ["benchmarks.adjusting", *(["--mix", "people", "--repeats", "1"] if quick else [])],
        "samples": ["benchmarks.samples", *(["--million", "1"] if quick else [])],
        "dask": ["benchmarks.dask", *(["--pools", "2", "--days", "8"] if quick else [])],
    }
    data = traces()
    if data is not None:
        out["demand"] = ["benchmarks.demand", str(data), *(["--quick"] if quick else [])]
        out["watching"] = ["benchmarks.watching", str(data / SERIES), *(["--days", "60"] if quick else [])]
        out["forecast"] = ["benchmarks.forecast", str(data / SERIES), *(["--quick"] if quick else [])]
        out |= {name: ["preprov.cli.main", "backtest", *words, "-o", "json"] for name, words in profiles(data).items()}
    return out


def profiles(data: Path) -> dict[str, list[str]]:
    """name -> words after `preprov backtest`."""
    usage = data / "usage"
    curves = [str(usage / "ksegments_series.parquet"), "--tasks", str(usage / "ksegments_tasks.parquet")]
    return {
        "sizing": ["sizing", str(usage / "nextflow_traces.parquet")],
        "curves": ["curves", *curves],
        "runtime_hpc2n": ["runtime", str(data / "swf" / "HPC2N-2002-2.2-cln.swf.gz")],
        "runtime_nextflow": ["runtime", str(usage / "nextflow_traces.parquet")],
        "runtime_lotaru": ["runtime", str(usage / "lotaru_executions.parquet")],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    todo = commands(args.quick)
    if traces() is None:
        print("SKIPPED: what needs the public traces (set PREPROV_TRACES)", file=sys.stderr)
    failed = []
    for name in args.names or todo:
        print(f"-> {name}", file=sys.stderr, flush=True)
        part = args.out / f"{name}.json.part"
        with part.open("wb") as out:
            done = subprocess.run([sys.executable, "-m", *todo[name]], stdout=out, env=dict(os.environ), check=False)
        if done.returncode:
            failed.append(name)
            continue
        part.replace(args.out / f"{name}.json")
        print(f"   {args.out / name}.json", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
