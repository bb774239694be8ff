"""Where the demand of each step comes from: its parts, and what moved the model of the learnt one."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from preprov.model.demand import PARTS, DemandCurve
from preprov.model.resources import KINDS

_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class StepExplained:
    """A step of a forecast, taken apart.

    Attributes:
        ts: the step's beginning. mean: expected mean demand within it. p50, p90: of its peak.
        parts: in_flight, queued, scheduled, recurring, learnt -> their share of the mean, in the resource's unit.
        moved_by: feature -> how far it moved the forest's forecast of the learnt part from its average, the largest
            first; empty where no forest spoke.
    """

    ts: datetime
    mean: float
    p50: float
    p90: float
    parts: Mapping[str, float]
    moved_by: Mapping[str, float]


def explain(curve: DemandCurve, kind: str = "cpu") -> tuple[StepExplained, ...]:
    """Each step of the curve, taken apart for one resource."""
    column = KINDS.index(kind)
    mean = (curve.samples if curve.mean is None else curve.mean)[:, :, column].mean(axis=0, dtype=np.float64)
    half, most = curve.quantile((0.5, 0.9), kind).T
    parts = {p: np.asarray(curve.parts[p])[:, column] for p in PARTS if p in curve.parts}
    moved = _by_instant(curve.basis.get("moved_by"))
    return tuple(
        StepExplained(
            at,
            float(mean[i]),
            float(half[i]),
            float(most[i]),
            {p: float(v[i]) for p, v in parts.items()},
            _within(moved, at),
        )
        for i, at in enumerate(curve.times())
    )


def _by_instant(told: object) -> list[tuple[datetime, Mapping[str, float]]]:
    if not isinstance(told, Mapping):
        return []
    return sorted((datetime.fromisoformat(str(at)), effects) for at, effects in told.items())


def _within(moved: list[tuple[datetime, Mapping[str, float]]], at: datetime) -> Mapping[str, float]:
    """The effects of the hour that `at` lies in."""
    return next((effects for begin, effects in moved if begin <= at < begin + _HOUR), {})
