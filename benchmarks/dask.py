"""Issuing forecasts for many pools in one flow: threads of one process against a Dask cluster. Prints JSON.

    python -m benchmarks.dask [--pools 4] [--days 40] [--workers 2] [--again]

A real Prefect server, a store on SQLite, pools whose history is an hourly series. Each runner gets the same store as it
was before; the first forecast of a pool fits its model, so a fit and a forecast per pool are timed, from the call of
the flow to its result, the start of the cluster included. `--again` times forecasts of fitted pools instead.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from benchmarks.machine import machine
from preprov.prefect_server import quiet_environment, serving

RUNNERS = {"one thread": ("threads", 1), "threads": ("threads", None), "dask": ("dask", None)}
FLOW = """
import json, sys, time
from flows.forecast_demand import forecast_demand

if __name__ == "__main__":
    began = time.perf_counter()
    issued = forecast_demand(json.loads(sys.argv[1]))
    print(json.dumps({"seconds": time.perf_counter() - began, "issued": sum(map(bool, issued.values()))}))
"""


def series(days: int, seed: int) -> str:
    """Hourly demand until now, busy by day and quiet at weekends, as CSV."""
    rng = np.random.default_rng(seed)
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    hours = [end - timedelta(hours=h) for h in range(24 * days, 0, -1)]
    level = [(30 if 8 <= t.hour < 18 else 8) * (0.4 if t.weekday() >= 5 else 1) for t in hours]
    values = np.array(level) * rng.lognormal(0, 0.15, len(hours))
    rows = [f"s,{t:%Y-%m-%d %H:%M:%S},{v:.3f}" for t, v in zip(hours, values, strict=True)]
    return "series,ts,demand\n" + "\n".join(rows) + "\n"


def filled(home: Path, folder: Path, pools: list[str], days: int) -> None:
    """A store with so many pools of history."""
    env = {**os.environ, "PREPROV_HOME": str(home)}
    for number, pool in enumerate(pools):
        file = folder / f"{pool}.csv"
        file.write_text(series(days, number))
        words = [sys.executable, "-m", "preprov.cli.main", "ingest", "series", str(file), "--pool", pool, "--tz", "UTC"]
        subprocess.run(words, env=env, cwd=folder, check=True, capture_output=True)


def run(home: Path, folder: Path, url: str, pools: list[str], runner: str, workers: int) -> dict[str, float]:
    """One run of the flow in a process of its own."""
    env = {
        **quiet_environment(home, url),
        "PREPROV_HOME": str(home),
        "PREPROV_TASK_RUNNER": runner,
        "PREPROV_TASK_WORKERS": str(workers),
        "OMP_NUM_THREADS": "1",
    }
    script = folder / "flow.py"
    script.write_text(FLOW)
    words = [sys.executable, str(script), json.dumps(pools)]
    done = subprocess.run(words, env=env, cwd=folder, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def measure(pools: list[str], days: int, workers: int, again: bool) -> dict[str, object]:
    """Seconds of each runner on the same store."""
    out: dict[str, object] = {"machine": machine(), "pools": len(pools), "days": days, "workers": workers}
    with tempfile.TemporaryDirectory(prefix="pp") as name:
        folder = Path(name)
        filled(folder / "made", folder, pools, days)
        with serving(folder / "server") as url:
            if again:
                run(folder / "made", folder, url, pools, "threads", workers)
            for label, (runner, count) in RUNNERS.items():
                home = folder / label.replace(" ", "-")
                shutil.copytree(folder / "made", home)
                found = run(home, folder, url, pools, runner, count or workers)
                assert found["issued"] == len(pools), f"{label}: {found}"
                out[label] = {
                    "seconds": round(found["seconds"], 1),
                    "per_pool": round(found["seconds"] / len(pools), 2),
                }
                print(f"{label}: {found['seconds']:.1f} s", file=sys.stderr)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pools", type=int, default=4)
    parser.add_argument("--days", type=int, default=40)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--again", action="store_true")
    args = parser.parse_args()
    pools = [f"pool-{n}" for n in range(args.pools)]
    print(json.dumps(measure(pools, args.days, args.workers, args.again), indent=2))


if __name__ == "__main__":
    main()
