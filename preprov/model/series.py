"""SeriesHistory: what a pool used per step until now, cleaned at the door and honest about what was dirty."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

from preprov.model.errors import ForecastError
from preprov.model.time import aware

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class SeriesDirt:
    """What was wrong with the rows a history was made from; counts of rows, or of steps for gaps."""

    duplicates: int = 0
    gaps: int = 0
    negative: int = 0
    not_a_number: int = 0
    nonexistent: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.duplicates + self.gaps + self.negative + self.not_a_number + self.nonexistent


@dataclass(frozen=True, eq=False)
class SeriesHistory:
    """One quantity of one pool at a fixed step, oldest first.

    Attributes:
        name: the pool or series. zone: IANA zone its calendar follows.
        step_seconds: length of a step; a day holds a whole number of steps.
        start: instant at which values[0]'s step begins (kept in UTC).
        values: (T,) float64, mean demand within the step; NaN = not known. Read-only.
        quarantined: (T,) bool or None: steps that happened but must not be learnt from.
        exogenous: name -> (T,) float64 observed beside the demand (system load); known up to `end` only.
        dirt: what was wrong with the rows this was made from.
    """

    name: str
    zone: str
    step_seconds: int
    start: datetime
    values: Floats
    quarantined: Bools | None = None
    exogenous: Mapping[str, Floats] = field(default_factory=dict)
    dirt: SeriesDirt = field(default_factory=SeriesDirt)

    def __post_init__(self) -> None:
        if not self.name:
            raise ForecastError("a series needs a name")
        zone_of(self.zone, self.name)
        if self.step_seconds <= 0 or 86_400 % self.step_seconds:
            raise ForecastError(f"step of {self.step_seconds} s does not divide a day", where=self.name)
        object.__setattr__(self, "start", aware(self.start, f"start of {self.name}"))
        values = _frozen(self.values, np.float64, "values", self.name)
        if np.isinf(values).any():
            raise ForecastError("values hold an infinity", where=self.name, hint="give NaN for what is not known")
        object.__setattr__(self, "values", values)
        if self.quarantined is not None:
            object.__setattr__(self, "quarantined", _frozen(self.quarantined, np.bool_, "quarantined", self.name))
            self._same_length("quarantined", self.quarantined)
        exogenous = {k: _frozen(v, np.float64, k, self.name) for k, v in sorted(self.exogenous.items())}
        for key, column in exogenous.items():
            self._same_length(key, column)
        object.__setattr__(self, "exogenous", exogenous)

    def _same_length(self, what: str, column: NDArray[Any]) -> None:
        if len(column) != len(self.values):
            raise ForecastError(f"{what} has {len(column)} steps, values has {len(self.values)}", where=self.name)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def end(self) -> datetime:
        """The instant after the last step: the earliest time at which all of this is known."""
        return self.start + timedelta(seconds=self.step_seconds * len(self.values))

    @property
    def per_day(self) -> int:
        """Steps in 24 hours."""
        return 86_400 // self.step_seconds

    def index(self) -> "pd.DatetimeIndex":
        """(T,) beginning of each step, in UTC."""
        import pandas as pd

        return pd.date_range(self.start, periods=len(self.values), freq=pd.Timedelta(seconds=self.step_seconds))

    def local_index(self) -> "pd.DatetimeIndex":
        """(T,) beginning of each step in the series' own zone (DST right)."""
        return self.index().tz_convert(self.zone)

    def until(self, cutoff: datetime) -> "SeriesHistory":
        """The history as it was known at `cutoff`: steps that had ended by then, nothing of what came after."""
        span = (aware(cutoff, "cutoff") - self.start).total_seconds()
        return self.window(0, max(0, min(len(self.values), int(span // self.step_seconds))))

    def window(self, first: int, last: int) -> "SeriesHistory":
        """Steps first..last-1 as a history of its own (copied: nothing else stays reachable)."""
        return replace(
            self,
            start=self.start + timedelta(seconds=self.step_seconds * int(first)),
            values=self.values[first:last].copy(),
            quarantined=None if self.quarantined is None else self.quarantined[first:last].copy(),
            exogenous={k: v[first:last].copy() for k, v in self.exogenous.items()},
        )

    @classmethod
    def from_wall_clock(
        cls,
        frame: "pd.DataFrame",
        *,
        name: str,
        zone: str = "UTC",
        step_seconds: int = 3600,
        ts: str = "ts",
        demand: str = "demand",
        exogenous: tuple[str, ...] = (),
    ) -> "SeriesHistory":
        """Read rows of (wall clock or aware time, demand), in any order, dirty or not.

        The hour that a change of clocks repeats may stand twice (the first is taken as summer time), the one it skips
        not at all. Rows of one step are averaged; steps without a row, negative and non-numeric demand become NaN. All
        of it is counted in `dirt`.

        Raises:
            ForecastError: no row has both a time and a usable demand, or the zone is unknown.
        """
        import pandas as pd

        zone_of(zone, name)
        rows = frame.sort_values(ts, kind="stable") if len(frame) else frame
        instants, nonexistent = _instants(rows[ts], zone)
        columns = {c: pd.to_numeric(rows[c], errors="coerce").to_numpy(np.float64) for c in (demand, *exogenous)}
        usable, negative, not_a_number = _usable(columns[demand], instants)
        if not usable.any():
            raise ForecastError("no row has a time and a demand >= 0", where=name, hint=f"columns {ts}, {demand}")
        table = pd.DataFrame(
            {c: v[usable] for c, v in columns.items()}, index=instants[usable].floor(f"{step_seconds}s")
        )
        table.loc[:, list(exogenous)] = table[list(exogenous)].replace([np.inf, -np.inf], np.nan)
        merged = table.groupby(level=0, sort=True).mean()
        grid = pd.date_range(merged.index[0], merged.index[-1], freq=pd.Timedelta(seconds=step_seconds))
        dirt = SeriesDirt(
            len(table) - len(merged), len(grid) - len(merged), negative, not_a_number - nonexistent, nonexistent
        )
        full = merged.reindex(grid)
        return cls(
            name,
            zone,
            step_seconds,
            grid[0].to_pydatetime(),
            full[demand].to_numpy(np.float64),
            exogenous={c: full[c].to_numpy(np.float64) for c in exogenous},
            dirt=dirt,
        )


def zone_of(zone: str, where: str = "") -> ZoneInfo:
    """The IANA zone called `zone`.

    Raises:
        ForecastError: there is no such zone.
    """
    try:
        return ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ForecastError(f"unknown time zone {zone!r}", where=where, hint="an IANA name: Europe/Zurich") from error


def wall_ns(instants: Floats, zone: str) -> Ints:
    """(N,) what a clock on the wall of that zone showed, as nanoseconds since its own 1970-01-01; epoch seconds in."""
    import pandas as pd

    whole = np.floor(instants)
    ns = whole.astype(np.int64) * 1_000_000_000 + (np.round(instants - whole, 9) * 1e9).astype(np.int64)
    wall = pd.DatetimeIndex(ns.view("datetime64[ns]")).tz_localize(UTC).tz_convert(zone).tz_localize(None)
    out: Ints = wall.to_numpy().view(np.int64)
    return out


def _frozen(values: object, dtype: Any, what: str, where: str) -> NDArray[Any]:
    array = np.array(values, dtype=dtype)
    if array.ndim != 1:
        raise ForecastError(f"{what} must be one-dimensional, got shape {array.shape}", where=where)
    array.setflags(write=False)
    return array


def _usable(demand: Floats, instants: "pd.DatetimeIndex") -> tuple[Bools, int, int]:
    finite = np.isfinite(demand)
    negative = finite & (demand < 0)
    usable = finite & ~negative & ~np.asarray(instants.isna())
    return usable, int(negative.sum()), int((~usable & ~negative).sum())


def _instants(ts: "pd.Series[Any]", zone: str) -> tuple["pd.DatetimeIndex", int]:
    """UTC instants of sorted times, and how many wall-clock rows stand in an hour that never was."""
    import pandas as pd

    index = pd.DatetimeIndex(pd.to_datetime(ts, errors="coerce"))
    if index.tz is not None:
        return index.tz_convert(UTC), 0
    first_of_pair = ~np.asarray(index.duplicated(keep="first"))
    strict = index.tz_localize(zone, ambiguous=first_of_pair, nonexistent="NaT")
    nonexistent = np.asarray(strict.isna()) & ~np.asarray(index.isna())
    # A row in the hour that was skipped comes from a clock that did not follow the zone: it is left out, and counted.
    return strict.tz_convert(UTC), int(nonexistent.sum())
