"""Demand series: a long table of series, time and demand."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import structlog

from preprov.model.errors import ConfigError, ForecastError, SourceError
from preprov.model.series import SeriesHistory
from preprov.sources.files import stem
from preprov.sources.table_columns import HAS_OFFSET, coded, instants, numbers
from preprov.sources.table_files import LoadedTable, column_names, load_table, renamed
from preprov.sources.zones import canonical_zone

_KNOWN: Final = frozenset({"series", "ts", "demand", "zone"})
_REQUIRED: Final = ("ts", "demand")
_ZONE_KEYS: Final = ("zone", "timezone", "tz")
_ABSOLUTE: Final = rf"{HAS_OFFSET}|^\s*\d+(?:\.\d+)?\s*$"
log = structlog.get_logger(__name__)


def read_series(
    path: Path | str,
    name: str | None = None,
    *,
    mapping: Mapping[str, str] | None = None,
    zone: str | None = None,
    step_seconds: int | None = None,
) -> list[SeriesHistory]:
    """Read demand series from Parquet or CSV with columns series, ts, demand (series may be absent: one series then).

    `ts` is wall clock or carries its zone. Of wall clock the hour that a change of clocks repeats may stand twice, and
    the one it skips not at all; rows with no usable demand are not known, and counted in the history's `dirt`.

    Args:
        path: the file.
        name: only this series.
        mapping: our column -> theirs.
        zone: of the wall clock and the calendar; else the `zone` column, else what the file's schema says, else UTC.
        step_seconds: length of a step; else the commonest distance between two rows.

    Returns:
        the series by name.

    Raises:
        SourceError: unreadable, a column is lacking, no such series, or no usable row.
        ConfigError: the mapping or the zone is wrong.
    """
    path = Path(path)
    names = column_names(path)
    theirs = renamed(names, mapping or {}, _KNOWN, str(path))
    missing = [c for c in _REQUIRED if c not in theirs]
    if missing:
        raise SourceError(
            f"{path.name} lacks column {', '.join(missing)} of a demand series; it has {', '.join(names)}",
            where=str(path),
            hint=f"if it goes by another name: --map {missing[0]}=THEIR_NAME",
        )
    loaded = load_table(path, list(dict.fromkeys(theirs.values())))
    frame = _frame(loaded, theirs, stem(path), _zone(loaded, theirs, zone, path))
    if name is not None:
        known = sorted(frame["series"].unique())
        frame = frame[frame["series"] == name]
        if frame.empty:
            raise SourceError(f"there is no series {name!r}", where=str(path), hint=f"it has {', '.join(known)}")
    return _histories(frame, step_seconds, path)


def _frame(loaded: LoadedTable, theirs: Mapping[str, str], only: str, zone: str) -> pd.DataFrame:
    table = {ours: loaded.table[their] for ours, their in theirs.items()}
    n = loaded.table.num_rows
    series = coded(table["series"]).values("") if "series" in table else np.full(n, only, dtype=object)
    zones = coded(table["zone"]).values("") if "zone" in table else np.full(n, "", dtype=object)
    demand, _ = numbers(table["demand"])
    return pd.DataFrame(
        {
            "series": pd.Series(series, dtype=object),
            "ts": _times(table["ts"], zone),
            "demand": demand,
            "zone": pd.Series(np.where(zones == "", zone, zones), dtype=object),
        }
    )


def _times(column: pa.ChunkedArray, zone: str) -> "pd.Series[Any]":
    """Wall clock if no row carries a zone, else instants (rows without one are then in `zone`)."""
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return pd.to_datetime(pd.Series(column.to_pandas()))
    text = pd.Series(column.cast(pa.string()).to_pandas(), dtype=object)
    if text.str.contains(_ABSOLUTE, regex=True, na=False).any():
        seconds, _ = instants(column, zone=zone, zero=0.0)
        return pd.to_datetime(pd.Series(seconds), unit="s", utc=True)
    return pd.to_datetime(text, format="ISO8601", errors="coerce")


def _zone(loaded: LoadedTable, theirs: Mapping[str, str], given: str | None, path: Path) -> str:
    if given is not None:
        said = [given]
    else:
        kind = loaded.table[theirs["ts"]].type
        said = [loaded.metadata[k] for k in _ZONE_KEYS if k in loaded.metadata]
        said += [str(kind.tz)] if pa.types.is_timestamp(kind) and kind.tz else []
    for name in said:
        zone = canonical_zone(name)
        if zone is None:
            raise ConfigError(f"unknown time zone {name!r}", where=str(path), hint="an IANA name such as Europe/Zurich")
        return zone
    return "UTC"


def _histories(frame: pd.DataFrame, step_seconds: int | None, path: Path) -> list[SeriesHistory]:
    out, problems = [], []
    for name, rows in frame.groupby("series", sort=True):
        try:
            out.append(
                SeriesHistory.from_wall_clock(
                    rows[["ts", "demand"]],
                    name=str(name),
                    zone=str(rows["zone"].iloc[0]),
                    step_seconds=step_seconds or _step(rows["ts"]),
                )
            )
        except ForecastError as e:
            problems.append(f"{name}: {e.what}")
            log.warning("a series was left out", series=str(name), reason=e.what, file=path.name)
    if not out:
        raise SourceError(f"{path.name} holds no usable series: {'; '.join(problems) or 'no row'}", where=str(path))
    return out


def _step(ts: "pd.Series[Any]") -> int:
    """Seconds between rows: the commonest distance that divides a day; an hour if nothing says."""
    distances = pd.TimedeltaIndex(ts.dropna().drop_duplicates().sort_values().diff().dropna()).total_seconds()
    for seconds in pd.Series(distances).value_counts().index.tolist():
        if seconds >= 1 and seconds == int(seconds) and 86_400 % int(seconds) == 0:
            return int(seconds)
    return 3600
