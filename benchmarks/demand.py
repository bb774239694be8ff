"""The joined demand curve against peers that see the aggregate alone, on the public traces. Prints JSON.

    python -m benchmarks.demand traces [--quick] [--origins 48] [--workers 2] [--resume DIR]

Each trace is judged by `preprov backtest demand`: nights with schedules declared and hidden, the Alibaba DAG table, and
the NASA job log.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.machine import machine

NIGHTS = "dags/nights.parquet"
CASES = {
    "nights, declared": (NIGHTS, "declared"),
    "nights, hidden": (NIGHTS, "hidden"),
    "alibaba": ("dags/alibaba2018_dag_tasks.parquet", "hidden"),
    "nasa": ("swf/NASA-iPSC-1993-3.1-cln.swf.gz", "hidden"),
}


def judged(trace: Path, schedules: str, options: list[str]) -> dict[str, Any]:
    words = ["preprov", "backtest", "demand", str(trace), "--schedules", schedules, "-o", "json", *options]
    done = subprocess.run([sys.executable, "-m", *words], stdout=subprocess.PIPE, check=True)
    report: dict[str, Any] = json.loads(done.stdout)
    return {"command": " ".join(words), **report}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("traces", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--origins", type=int)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--resume", type=Path)
    args = parser.parse_args()
    options = ["--quick"] if args.quick else []
    for name in ("origins", "workers", "resume"):
        if getattr(args, name) is not None:
            options += [f"--{name}", str(getattr(args, name))]
    cases = {
        name: judged(args.traces / file, schedules, options)
        for name, (file, schedules) in CASES.items()
        if (args.traces / file).exists()
    }
    print(json.dumps({"machine": machine(), "cases": cases}, indent=2))


if __name__ == "__main__":
    main()
