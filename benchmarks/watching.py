"""How often drift is called and days are found strange, on public hourly series where nobody meddled. Prints JSON.

    python -m benchmarks.watching traces/series/hourly_demand.parquet [--days 150] [--series NAME]

For each series a day-ahead forecast by the naive members every day over the last part, scored as issued forecasts are,
then the alarms over all hours; and the days that the detector would keep out of training. False alarms cost a refit.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.machine import machine
from preprov.demand.forecasting import registry
from preprov.demand.forecasting.quantiles import pinball
from preprov.demand.forecasting.scaler import ScalerConfig, ScalerModel
from preprov.demand.watching.anomalies import anomalous_days
from preprov.demand.watching.drift import alarms
from preprov.demand.watching.scoring import usual_change
from preprov.model.series import SeriesHistory

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
CONFIG = ScalerConfig(members=registry.NAIVE, track_days=20)
HISTORY_SHARE, REFIT_DAYS = 0.45, 14


def losses(history: SeriesHistory) -> list[float]:
    """Standardised losses of daily forecasts over the last 55 % of a history, hour by hour."""
    first = int(len(history) / 24 * HISTORY_SHARE) * 24
    model: ScalerModel | None = None
    found: list[float] = []
    for number, at in enumerate(range(first, len(history) - 24, 24)):
        known = history.window(0, at)
        if model is None or number % REFIT_DAYS == 0:
            model = ScalerModel.fit(known, CONFIG, 0, previous=model)
        said = model.predict(known, 24, LEVELS).values
        each = pinball(history.values[at : at + 24], said, LEVELS).mean(axis=1)
        relative = each / usual_change(history.values[max(0, at - 28 * 24) : at], 24)
        found += relative[np.isfinite(relative)].tolist()
    return found


def watch(history: SeriesHistory) -> dict[str, object]:
    """Alarms and strange days of one series."""
    began = time.process_time()
    standardised = losses(history)
    called = alarms(standardised)
    strange = anomalous_days(history)
    return {
        "days_forecast": len(standardised) // 24,
        "alarms": [
            {"day": a.index // 24, "by": a.by, "from": round(a.before, 2), "to": round(a.after, 2)} for a in called
        ],
        "strange_days": {a.day.isoformat(): a.reason for a in strange},
        "cpu_seconds": round(time.process_time() - began, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--days", type=int, default=150)
    parser.add_argument("--series", action="append")
    args = parser.parse_args()
    table = pd.read_parquet(args.file)
    out: dict[str, object] = {}
    for name, rows in table.groupby("series", sort=False):
        if args.series and name not in args.series:
            continue
        history = SeriesHistory.from_wall_clock(rows, name=str(name))
        out[str(name)] = watch(history.window(max(0, len(history) - 24 * args.days), len(history)))
        print(name, file=sys.stderr, flush=True)
    print(json.dumps({"machine": machine(), "series": out}, indent=2))


if __name__ == "__main__":
    main()
