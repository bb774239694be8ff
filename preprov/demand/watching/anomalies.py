"""Anomalous days: days that tell nothing of the days to come, and why.

Each day is set against the same kind of day around it: its total and its shape by robust z-scores on the median
absolute deviation (Iglewicz & Hoaglin 1993), and both together by an isolation forest (Liu et al. 2008) over what
days are like. A day is anomalous if a z-score is far out and the forest finds it easy to tell apart, or if the z-score
is so far out that no second opinion is needed. Not anomalous are holidays, days that come back (the same day of the
month) and a new level that stays.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

from preprov.demand.watching.days import Days, days_of, typical
from preprov.model.series import SeriesHistory

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_NORMAL: Final = 0.6745  # of the MAD per standard deviation of a normal


@dataclass(frozen=True)
class AnomalySettings:
    """What counts as strange.

    Attributes:
        z: robust z-score that a second opinion must confirm. sure_z: that needs none.
        apart: score of the isolation forest from which a day is easy to tell apart (0.5 is an average day).
        ratio: a total is strange only if it is so many times its usual, or less than one part of that.
        unlike: a shape is strange only if so much of the day's demand lies in other hours than usual.
        min_days: known days below which nothing is strange yet. look_back: days judged.
        rare: share of days above which nothing is strange. some: part of the mean day that is usual demand at all.
        stays: strange days in a row that are how it is now, not an anomaly.
    """

    z: float = 3.5
    sure_z: float = 8.0
    apart: float = 0.6
    ratio: float = 1.6
    unlike: float = 0.35
    min_days: int = 21
    look_back: int = 90
    rare: float = 0.1
    some: float = 0.25
    stays: int = 5


@dataclass(frozen=True, slots=True)
class AnomalousDay:
    """A strange day in the series' zone. kind: "high", "low" or "shape". score: of the forest."""

    day: date
    kind: str
    reason: str
    z: float
    score: float


def anomalous_days(
    history: SeriesHistory, *, holidays: Collection[date] = (), settings: AnomalySettings | None = None, seed: int = 0
) -> tuple[AnomalousDay, ...]:
    """The anomalous days of a history, oldest first.

    Args:
        history: until now; only whole days are judged.
        holidays: days that are strange for a known reason: they come back, and are learnt from.
        settings: see there. seed: of the forest.
    """
    chosen = settings or AnomalySettings()
    days = days_of(history)
    if len(days) < chosen.min_days:
        return ()
    first = max(0, len(days) - chosen.look_back)
    found = _judged(days, chosen, seed)
    found = _without_new_level(found, days, chosen.stays)
    if len(found) > chosen.rare * len(days):
        return ()
    found = [f for f in found if f.day not in holidays and f.day >= days.day[first]]
    return tuple(_without_returning(found, days))


def _judged(days: Days, settings: AnomalySettings, seed: int) -> list[AnomalousDay]:
    usual_total, usual_shape = typical(days)
    floor = 0.02 * float(np.median(days.total)) + 1e-9
    log_ratio = np.log((days.total + floor) / (usual_total + floor))
    unlike = 0.5 * np.abs(days.shape - usual_shape).sum(axis=1)
    z_total, z_shape = _robust_z(log_ratio), _robust_z(unlike)
    apart = _isolation(np.stack([log_ratio, unlike, days.peak_share, days.night_share], axis=1), seed)
    judged = usual_total >= settings.some * float(days.total.mean())
    out = []
    for i, day in enumerate(days.day):
        if not judged[i]:
            continue
        of_total = abs(float(z_total[i])) if abs(log_ratio[i]) >= np.log(settings.ratio) else 0.0
        of_shape = float(z_shape[i]) if unlike[i] >= settings.unlike else 0.0
        z = max(of_total, of_shape)
        if z < settings.z or (z < settings.sure_z and apart[i] < settings.apart):
            continue
        if of_total >= of_shape:
            times = (days.total[i] + floor) / (usual_total[i] + floor)
            kind = "high" if times > 1 else "low"
            reason = f"demand was {times:.3g} times what is usual on such a day"
        else:
            kind, reason = "shape", f"{unlike[i]:.0%} of the demand lay in other hours than is usual on such a day"
        out.append(AnomalousDay(day, kind, f"{reason} (robust z {z:.1f})", z, float(apart[i])))
    return out


def _robust_z(values: Floats) -> Floats:
    """(N,) modified z-scores; where more than half of all are equal, the mean deviation stands in for the MAD."""
    away = values - np.median(values)
    spread = float(np.median(np.abs(away)))
    if spread > 0:
        out: Floats = _NORMAL * away / spread
        return out
    mean = float(np.abs(away).mean())
    return away / (1.2533 * mean) if mean > 0 else np.zeros_like(values)


def _isolation(features: Floats, seed: int) -> Floats:
    """(N,) anomaly scores in (0, 1] of the isolation forest."""
    from sklearn.ensemble import IsolationForest

    forest = IsolationForest(n_estimators=100, random_state=seed, n_jobs=1).fit(features)
    out: Floats = -forest.score_samples(features)
    return out


def _without_returning(found: list[AnomalousDay], days: Days) -> list[AnomalousDay]:
    """Leave out days whose place in the month is strange every month: what comes back is worth learning."""
    strange = {f.day for f in found}

    def returns(day: date) -> bool:
        for place in (lambda d: d.day, _from_the_end):
            others = [d for d in days.day if place(d) == place(day) and d != day]
            if len(others) >= 2 and sum(d in strange for d in others) >= 0.6 * len(others):
                return True
        return False

    return [f for f in found if not returns(f.day)]


def _from_the_end(day: date) -> int:
    """0 on the last day of the month."""
    next_month = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    return (next_month - day).days - 1


def _without_new_level(found: list[AnomalousDay], days: Days, stays: int) -> list[AnomalousDay]:
    """Leave out stretches of strange days that last: that is how it is now."""
    strange = {f.day for f in found}
    place = {day: i for i, day in enumerate(days.day)}

    def lasts(one: AnomalousDay) -> bool:
        at, length = place[one.day], 1
        for step in (-1, 1):
            i = at + step
            while 0 <= i < len(days.day) and days.day[i] in strange:
                length, i = length + 1, i + step
        return length >= stays

    return [f for f in found if not lasts(f)]
