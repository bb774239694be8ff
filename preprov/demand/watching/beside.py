"""Champion and challenger at the same past origins, out of sample for both."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from preprov.demand.forecasting import calibration
from preprov.demand.forecasting.quantiles import GRID, pinball
from preprov.demand.forecasting.scaler import Record, ScalerModel
from preprov.model.errors import ForecastError
from preprov.model.series import SeriesHistory
from preprov.model.time import from_epoch

Floats = NDArray[np.float64]

ORIGINS: Final = 14

Fit = Callable[[SeriesHistory, ScalerModel | None], ScalerModel]
"""Fits the challenger's design on a history; given the model whose record goes on, or None."""


@dataclass(frozen=True)
class Beside:
    """Both at O common origins.

    Attributes:
        origins: instants. champion, challenger: (O,) mean pinball loss over hours and quantiles, in the series' unit.
        coverage: "champion_80", "challenger_80", "champion_90", "challenger_90" -> share inside, NaN without any.
    """

    origins: tuple[datetime, ...] = ()
    champion: tuple[float, ...] = ()
    challenger: tuple[float, ...] = ()
    coverage: dict[str, float] | None = None


def beside(champion: ScalerModel, fit: Fit, history: SeriesHistory, *, origins: int = ORIGINS) -> Beside:
    """Compare the champion with a challenger's design at the champion's last origins.

    The champion's forecasts are its record, which is out of sample however lately it was fitted. The challenger's are
    those of its twin: the same design, fitted on what was known at the first of these origins. So a refit on newer data
    shows what newer data is worth, and sees nothing of what it is judged on.

    Args:
        champion: the model in use. fit: of the challenger's design. history: until now.
        origins: how many, at most.

    Returns:
        Without origins if the champion has no record yet, or the twin cannot be fitted on what was known so early.

    Raises:
        ForecastError: the champion cannot be asked about this history.
    """
    champion = champion.caught_up(history)
    theirs = _scored(champion.record(), origins)
    if not len(theirs.origins):
        return Beside()
    base = int(history.start.timestamp()) // history.step_seconds
    until = int(theirs.origins[0]) - base + 1
    try:
        twin = fit(history.window(0, max(until, 0)), _until(champion, int(theirs.origins[0])))
    except ForecastError:  # too little was known by then: there is nothing to compare
        return Beside()
    ours = _at(twin.asked(history, theirs.origins).record(), theirs.origins)
    theirs = replace(theirs, came=ours.came)  # the same truth for both: as the history has it today
    common = np.isfinite(_losses(ours)) & np.isfinite(_losses(theirs))
    ours, theirs = _only(ours, common), _only(theirs, common)
    return Beside(
        tuple(from_epoch((int(o) + 1) * history.step_seconds) for o in theirs.origins),
        tuple(_losses(theirs).tolist()),
        tuple(_losses(ours).tolist()),
        {
            f"{who}_{level}": share
            for who, record in (("champion", theirs), ("challenger", ours))
            for level, share in calibration.coverage(record.came, record.said).items()
            if level != "points"
        },
    )


def _until(champion: ScalerModel, origin: int) -> ScalerModel | None:
    """The champion with only that part of its record that was known at `origin`: the twin goes on from there.

    Its members are never asked: the record reaches as far as it can, and its fit is dated to the origin.
    """
    known = champion.track.origins + champion.track.horizon <= origin
    if not known.any() or origin - int(champion.track.origins[known][-1]) > champion.track.horizon + _day(champion):
        return None
    track = replace(
        champion.track,
        origins=champion.track.origins[known],
        said=champion.track.said[known],
        came=champion.track.came[known],
    )
    return replace(champion, track=track, trained_until=origin)


def _day(model: ScalerModel) -> int:
    return 86_400 // model.step_seconds


def _scored(record: Record, count: int) -> Record:
    """The last origins of which anything is known."""
    usable = np.flatnonzero(np.isfinite(_losses(record)))[-count:]
    keep = np.zeros(len(record.origins), dtype=bool)
    keep[usable] = True
    return _only(record, keep)


def _at(record: Record, origins: NDArray[np.int64]) -> Record:
    place = {int(o): i for i, o in enumerate(record.origins)}
    chosen = np.array([place.get(int(o), -1) for o in origins], dtype=np.int64)
    missing = (chosen < 0)[:, None, None]
    said = np.where(missing, np.nan, record.said[np.maximum(chosen, 0)])
    return Record(origins, record.came[np.maximum(chosen, 0)], said)


def _only(record: Record, keep: NDArray[np.bool_]) -> Record:
    return Record(record.origins[keep], record.came[keep], record.said[keep])


def _losses(record: Record) -> Floats:
    """(O,) mean pinball loss of each origin; NaN where nothing is known, or nothing was said."""
    if not len(record.origins):
        return np.zeros(0)
    each = pinball(record.came, record.said, GRID).mean(axis=2)
    known = np.isfinite(each)
    count = known.sum(axis=1)
    total = np.where(known, each, 0.0).sum(axis=1)
    out: Floats = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return out
