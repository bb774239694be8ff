"""Curves that are borrowed from kin: what is foretold of a task by others is never surer than these were alike."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from preprov.model.usage import ResourceCurve, UsageRun

Floats = NDArray[np.float64]

_MIDDLE: Final = 0.5


def widened(curve: ResourceCurve, runs: Sequence[UsageRun]) -> ResourceCurve:
    """The curve with each quantile at least as far from the middle as that of the runs that it rests on."""
    used = [(u.at, u.used(curve.resource), u.duration_s) for u in runs]
    used = [u for u in used if np.isfinite(u[1]).any()]
    over_time = np.array([_at(curve.at, *u) for u in used])
    peaks = np.array([float(np.nanmax(u[1])) for u in used])
    lasted = np.array([u[2] for u in used])
    values = curve.values.copy()
    for t in np.flatnonzero(np.isfinite(over_time).any(axis=0)):
        values[t] = _wider(curve.values[t], over_time[:, t], curve.levels)
    return replace(
        curve,
        values=values,
        peak=_wider(curve.peak, peaks, curve.levels),
        runtime_s=_wider(curve.runtime_s, lasted, curve.levels),
    )


def _at(when: Floats, at: Floats, values: Floats, seconds: float) -> Floats:
    """(T,) what a run used at these times, NaN after its end."""
    place = np.clip(np.searchsorted(at, when, side="right") - 1, 0, len(at) - 1)
    out: Floats = np.where(when <= seconds, values[place], np.nan)
    return out


def _wider(told: Floats, came: Floats, levels: Floats) -> Floats:
    """(Q,) quantiles told, moved out to those of what came."""
    seen = np.quantile(came[np.isfinite(came)], levels)
    out: Floats = np.where(
        levels > _MIDDLE, np.maximum(told, seen), np.where(levels < _MIDDLE, np.minimum(told, seen), told)
    )
    return out
