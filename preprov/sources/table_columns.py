"""Columns of a table as arrays: text, numbers, instants, lists. Whole columns at a time."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Objects = NDArray[np.object_]

HAS_OFFSET: Final = r"(?i)(?:z|utc|[+-]\d\d:?\d\d)\s*$"
_TICKS: Final = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}


@dataclass(frozen=True)
class Coded:
    """Text as codes, so that each distinct word is held and looked at once.

    Attributes:
        codes: (N,) position in `words`, -1 where there is none. words: (K,) distinct, in order of first appearance.
    """

    codes: Ints
    words: Objects

    def values(self, missing: str = "") -> Objects:
        """(N,) the words, `missing` where there is none."""
        return np.append(self.words, missing)[self.codes]


def coded(column: pa.ChunkedArray) -> Coded:
    """Text of a column (numbers and the like become text first); empty text is no text."""
    text = _as_text(column)
    text = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.large_string()), text)
    encoded = text.dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    words = np.empty(len(encoded.dictionary), dtype=object)
    words[:] = encoded.dictionary.to_pylist()
    return Coded(codes, words)


def _as_text(column: pa.ChunkedArray) -> Any:
    array = _whole(column) if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return pc.utf8_trim_whitespace(array.cast(pa.large_string()))


def _whole(column: pa.ChunkedArray) -> Any:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def numbers(column: pa.ChunkedArray) -> tuple[Floats, Bools]:
    """(N,) numbers, NaN where there is none, and where there is something that is not a finite number."""
    if _is_text(column.type):
        raw = pd.Series(_as_text(column).to_pandas())
        values = pd.to_numeric(raw, errors="coerce").to_numpy(np.float64, na_value=np.nan)
        bad = (np.isnan(values) & raw.notna().to_numpy()) | np.isinf(values)
    else:
        values = column.cast(pa.float64(), safe=False).to_numpy().astype(np.float64)
        bad = np.isinf(values)
    return np.where(bad, np.nan, values), bad


def instants(column: pa.ChunkedArray, *, zone: str, zero: float) -> tuple[Floats, Bools]:
    """(N,) epoch s, NaN where there is none, and where there is something that is not a time.

    Args:
        column: timestamps, ISO 8601 text or numbers.
        zone: the zone of times that carry none; of an hour that the change of clocks repeats it is the first.
        zero: epoch s of second 0, for numbers.
    """
    kind = column.type
    if pa.types.is_timestamp(kind):
        ticks = column.cast(pa.int64()).to_pandas().to_numpy(np.float64, na_value=np.nan)
        if kind.tz is not None or zone == "UTC":
            return ticks / _TICKS[kind.unit], np.zeros(len(ticks), dtype=bool)
        return _localised(pd.Series(column.to_pandas()), zone), np.zeros(len(ticks), dtype=bool)
    if pa.types.is_date(kind):
        return _localised(pd.to_datetime(pd.Series(column.to_pandas())), zone), np.zeros(len(column), dtype=bool)
    values, not_numbers = numbers(column)
    if not _is_text(kind):
        return values + zero, not_numbers
    raw = pd.Series(_as_text(column).to_pandas())
    numeric = ~np.isnan(values)
    out = np.where(numeric, values + zero, _parsed(raw.mask(numeric), zone))
    return out, np.isnan(out) & raw.notna().to_numpy()


def _parsed(raw: "pd.Series[Any]", zone: str) -> Floats:
    """(N,) epoch s of ISO 8601 text with or without an offset."""
    aware = raw.str.contains(HAS_OFFSET, regex=True, na=False).to_numpy(dtype=bool)
    with_offset = pd.to_datetime(raw.where(aware), format="ISO8601", errors="coerce", utc=True)
    wall = pd.to_datetime(raw.where(~aware), format="ISO8601", errors="coerce")
    return np.where(aware, _seconds(with_offset), _localised(wall, zone))


def _localised(wall: "pd.Series[Any]", zone: str) -> Floats:
    first = np.ones(len(wall), dtype=bool)
    return _seconds(wall.dt.tz_localize(zone, ambiguous=first, nonexistent="shift_forward").dt.tz_convert("UTC"))


def _seconds(times: "pd.Series[Any]") -> Floats:
    values = times.dt.tz_localize(None).to_numpy().astype("datetime64[us]")
    return np.where(np.isnat(values), np.nan, values.astype(np.int64) / 1e6)


def listed(column: pa.ChunkedArray) -> tuple[Ints, Any]:
    """Items of a column of lists, or of text joined by bars.

    Returns:
        (E,) the row each item stands in, and (E,) the items as an Arrow array of text; empty ones are left out.
    """
    array = _whole(column)
    if not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
        array = pc.split_pattern(_as_text(array), "|")
    items = _as_text(pc.list_flatten(array))
    rows = pc.list_parent_indices(array).to_numpy(zero_copy_only=False).astype(np.int64)
    there = pc.fill_null(pc.not_equal(items, ""), False)
    return rows[there.to_numpy(zero_copy_only=False)], items.filter(there)


def _is_text(kind: pa.DataType) -> bool:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value))
