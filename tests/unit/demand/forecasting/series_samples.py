"""Small histories that the forecasting tests share."""

from datetime import UTC, datetime
from typing import Any

import numpy as np

from preprov.demand.forecasting.registry import Effort
from preprov.demand.forecasting.scaler import ScalerConfig
from preprov.model.series import SeriesHistory

START = datetime(2025, 3, 3, tzinfo=UTC)
SMALL = Effort(trees=12, rows=1_500)
CONFIG = ScalerConfig(effort=SMALL, track_days=14, fold_days=7, samples=60)


def daily(days: int, *, seed: int = 0, per_day: int = 24) -> np.ndarray:
    """A daily wave with weekends and noise that persists."""
    rng = np.random.default_rng(seed)
    hours = np.arange(days * per_day) * 24 / per_day
    wave = 40 + 25 * np.sin(2 * np.pi * (hours % 24) / 24) - 12 * ((hours // 24) % 7 >= 5)
    noise = np.zeros(len(hours))
    for i, shock in enumerate(rng.normal(0, 3, len(hours))):
        noise[i] = 0.9 * noise[i - 1] + shock if i else shock
    return np.maximum(wave + noise, 0.0)


def history(values: np.ndarray, *, step_seconds: int = 3600, **more: Any) -> SeriesHistory:
    """A history that begins at START."""
    return SeriesHistory("pool", "Europe/Zurich", step_seconds, START, np.asarray(values, dtype=float), **more)
