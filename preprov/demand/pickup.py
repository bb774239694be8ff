"""What came after past instants like this one: demand of the runs that were submitted after them, as it really was.

Soon after an instant, new demand is mostly none and now and then a burst, and it comes as other work ends: people and
queues submit when there is room. So each sample path of the next hours is what came after a past instant at about this
time of day, with about this much running, of which about as much had ended a quarter of an hour and an hour later as in
this very sample (analogue resampling: Lorenz 1969; its nearest neighbours: Lall and Sharma 1996). Further ahead the
modelled whole takes over, from sample to sample at another lead.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from preprov.demand.draws import key_of, uniforms
from preprov.demand.occupancy import Grid, Intervals, means, peaks
from preprov.demand.remainder import HOUR, Remainder
from preprov.demand.runtime_tables import Floats, Ints, Singles
from preprov.demand.spreading import Cells
from preprov.model.series import wall_ns

_LEADS_S: Final = (900.0, 3_600.0)
_TAKES_OVER_S: Final = (4.0 * HOUR, 8.0 * HOUR)
_APART_S: Final = 1_800.0
_DAYS_BACK: Final = 60.0
_FEWEST_DAYS: Final = 2.0
_NEAREST: Final = 25
_HOURS_ALIKE: Final = 3.0
_OTHER_KIND_OF_DAY: Final = 1.0
_PER_DAY_OF_AGE: Final = 0.01
_ENDED: Final = (
    2.0,
    3.0,
)  # weights of what ended by each of _LEADS_S, against what runs, in units of the latter's spread
_MOST_INTERVALS: Final = 1_500_000
_THURSDAY, _SATURDAY = 3, 5  # of the epoch's first day, and of the first that does not work; Monday is 0


@dataclass(frozen=True)
class Live:
    """What runs now, unannounced, and what is left of it: (S,) each of _LEADS_S, per sample; None = not told apart."""

    left: Floats | None

    @classmethod
    def of(cls, samples: Singles | None, kind: int, begins_s: float, step: float) -> "Live":
        """Read off (S, T, 5) mean demand of steps that begin so many seconds after the instant of knowledge."""
        if samples is None or begins_s > _LEADS_S[0]:
            return cls(None)
        at = [int((lead - begins_s) // step) for lead in _LEADS_S]
        if at[-1] >= samples.shape[1]:
            return cls(None)
        return cls(samples[:, at, kind].T.astype(np.float64))


def blended(
    past: Remainder,
    now: float,
    cells: Cells,
    modelled: tuple[Singles, Singles],
    live: Live,
    kind: int,
    zone: str,
    seed: int,
) -> tuple[Singles, Singles]:
    """(S, cells, 5) mean and peak of new demand.

    Args:
        modelled: (S, cells, 5) mean and peak of new demand as the model has it. kind: number of the leading resource.
        live: what of the work that runs is left, sample by sample. zone: IANA zone of the time of day.
    """
    samples, near = len(modelled[0]), int((cells.leads <= _TAKES_OVER_S[1]).sum())
    origins = _origins(past, now)
    if not len(origins) or not near:
        return modelled
    chosen, columns = _chosen(past, origins, now, samples, live, kind, zone, seed)
    mean, peak = _came_after(past, chosen, cells, near)
    turn = uniforms(key_of(["where the model takes over"], seed), samples)[0]
    lead = _TAKES_OVER_S[0] + turn * (_TAKES_OVER_S[1] - _TAKES_OVER_S[0])
    as_it_was = (cells.leads[None, :near] <= lead[:, None])[:, :, None]
    out = []
    for was, model in zip((mean, peak), modelled, strict=True):
        joined = model.copy()
        joined[:, :near] = np.where(as_it_was, was[columns], model[:, :near])
        out.append(joined)
    return out[0], out[1]


def _origins(past: Remainder, now: float) -> Floats:
    """Past instants after which all that came until the model takes over is known."""
    last = now - _TAKES_OVER_S[1]
    first = max(past.start, now - _DAYS_BACK * 24 * HOUR)
    if last - first < _FEWEST_DAYS * 24 * HOUR or not len(past.submit):
        return np.empty(0)
    return last - np.arange(0.0, last - first, _APART_S)


def _chosen(
    past: Remainder, origins: Floats, now: float, samples: int, live: Live, kind: int, zone: str, seed: int
) -> tuple[Floats, Ints]:
    """Origins that are drawn, as far as they can be afforded, and which of them each sample takes."""
    begin, end = past.intervals.start, past.intervals.end
    amount = past.intervals.amount[:, kind]
    level = _at(begin, end, amount, origins)
    running = float(amount[end >= now].sum())
    unit = max(float(level.std()), 1e-9)
    distance = (_unlike(origins, now, zone) + np.abs(level - running) / unit)[None, :]
    if live.left is not None:
        for lead, weight, left in zip(_LEADS_S, _ENDED, live.left, strict=True):
            was_left = _at(np.maximum(past.submit, begin - lead), end - lead, amount, origins)
            ended = (level - was_left)[None, :] - (running - left)[:, None]
            distance = distance + weight * np.abs(ended) / unit
    nearest = min(_NEAREST, len(origins))
    alike = np.sort(np.argpartition(distance, nearest - 1, axis=1)[:, :nearest], axis=1)
    alike = np.broadcast_to(alike, (samples, nearest))
    pick = (uniforms(key_of(["past instants"], seed), samples)[0] * nearest).astype(np.int64)
    chosen, columns = np.unique(alike[np.arange(samples), pick], return_inverse=True)
    count = np.searchsorted(past.submit, origins[chosen] + _TAKES_OVER_S[1]) - np.searchsorted(
        past.submit, origins[chosen], side="right"
    )
    affordable = max(int((np.cumsum(count) <= _MOST_INTERVALS).sum()), 1)
    return origins[chosen[:affordable]], columns % affordable


def _unlike(origins: Floats, now: float, zone: str) -> Floats:
    """How far the time of day, the kind of day and the age of each origin are from now."""
    minute = wall_ns(np.append(origins, now), zone) // 60_000_000_000
    hour = minute // 60 % 24 + minute % 60 / 60
    weekend = (minute // 1440 + _THURSDAY) % 7 >= _SATURDAY
    apart = np.abs(hour[:-1] - hour[-1])
    apart = np.minimum(apart, 24.0 - apart) / _HOURS_ALIKE
    out: Floats = apart + _OTHER_KIND_OF_DAY * (weekend[:-1] != weekend[-1])
    return out + _PER_DAY_OF_AGE * (now - origins) / (24 * HOUR)


def _at(begin: Floats, end: Floats, amount: Floats, instants: Floats) -> Floats:
    """(O,) what intervals hold at instants."""
    lasting = end > begin
    time = np.concatenate([begin[lasting], end[lasting]])
    order = np.argsort(time, kind="stable")
    change = np.concatenate([amount[lasting], -amount[lasting]])[order]
    held = np.concatenate([[0.0], np.cumsum(change)])
    out: Floats = held[np.searchsorted(time[order], instants, side="right")]
    return out


def _came_after(past: Remainder, origins: Floats, cells: Cells, count: int) -> tuple[Singles, Singles]:
    """(O, count, 5) mean and peak of demand of runs submitted after each origin, at the leads of the first cells."""
    span = float(cells.leads[count - 1]) + cells.base / 2
    first = np.searchsorted(past.submit, origins, side="right")
    each = np.maximum(np.searchsorted(past.submit, origins + span, side="right") - first, 0)
    column = np.repeat(np.arange(len(origins)), each)
    at = np.arange(len(column)) - np.repeat(np.cumsum(each) - each, each) + first[column]
    begins = origins[column] + float(cells.leads[0]) - cells.base / 2
    whole = past.intervals
    intervals = Intervals(whole.start[at] - begins, whole.end[at] - begins, column, whole.amount[at])
    grid = Grid(float(cells.base), count)
    mean, peak = means(intervals, grid, len(origins)), peaks(intervals, grid, len(origins))
    return mean.astype(np.float32), np.maximum(peak, mean).astype(np.float32)
