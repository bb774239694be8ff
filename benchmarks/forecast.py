"""Day-ahead demand against its peers, on every series of a table: `preprov backtest forecast` and two options more.

    python -m benchmarks.forecast traces/series/hourly_demand.parquet [--series NAME ...] [--days N] [--quick]
        [--workers 2] [--resume DIR] [--picture forecast.png] [--speed]

Daily origins at local midnight, 24 hours ahead, the last 40 % of the days and at most 60; everybody is refitted every
seven days on at most 400 days. With --speed instead: seconds to refit from a year of hours and to issue a day ahead
from stored bytes; set OMP_NUM_THREADS=1 for it to be one thread.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from preprov.control.backtest_forecast import run_forecast_backtest
from preprov.demand.forecasting.scaler import ScalerModel
from preprov.demand.forecasting.storage import from_bytes, to_bytes
from preprov.figures import forecast_backtest
from preprov.model.series import SeriesHistory
from preprov.sources.series import read_series


def speed(histories: list[SeriesHistory]) -> dict[str, Any]:
    """Wall and CPU seconds on the longest series: the cost of a first fit, of a weekly one, and of a forecast."""
    history = max(histories, key=len)
    year, later = history.window(0, 365 * 24), history.window(0, 372 * 24)
    out: dict[str, Any] = {"series": history.name, "hours": len(year)}
    began = _now()
    model = ScalerModel.fit(year, seed=0)
    out["first_fit"], began = _since(began), _now()
    weekly = ScalerModel.fit(later, seed=1, previous=model)
    out["weekly_fit"] = _since(began)
    data = to_bytes(weekly)
    out["stored_bytes"], began = len(data), _now()
    from_bytes(data).predict(later)
    out["issue_from_stored"] = _since(began)
    return out


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(began: tuple[float, float]) -> dict[str, float]:
    wall, cpu = _now()
    return {"wall_seconds": round(wall - began[0], 3), "cpu_seconds": round(cpu - began[1], 3)}


def main() -> None:
    """Read the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--series", nargs="*")
    parser.add_argument("--days", type=int)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--peers", nargs="*")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--resume", type=Path)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--skip-days", type=int, default=0, help="leave so many days at the end alone")
    parser.add_argument("--speed", action="store_true")
    given = parser.parse_args()
    histories = read_series(given.table)
    if given.speed:
        print(json.dumps({**speed(histories), "machine": machine()}, indent=2))
        return
    report = run_forecast_backtest(
        histories,
        series=given.series,
        days=given.days,
        quick=given.quick,
        peers=given.peers,
        workers=given.workers,
        resume_dir=given.resume,
        skip_days=given.skip_days,
        progress=lambda what, done, total: print(f"{done} of {total}: {what}", file=sys.stderr),
    )
    if given.picture:
        given.picture.write_bytes(forecast_backtest(report, fmt=given.picture.suffix.lstrip(".")))
    print(json.dumps({**report, "machine": machine()}, indent=2))


if __name__ == "__main__":
    main()
