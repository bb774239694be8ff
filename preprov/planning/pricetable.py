"""Price rows from a table, such as a catalogue of instance types and regions. Reads values, not files.

Columns: `instance_type`, `on_demand_usd_h`; and if there are such: `region`, `spot_usd_h`, `interruption_bucket` (of
the vendor's spot advisor: 0 = below 5 % a month, then in steps of 5, 4 = above 20), `as_of`.
"""

import math
from collections.abc import Collection
from datetime import datetime
from importlib.resources import files
from io import StringIO
from typing import Final

import pandas as pd

from preprov.model.errors import ConfigError
from preprov.model.offerings import CapacityType
from preprov.model.prices import BEGINNING, PriceRow

_MONTH_H: Final = 730.0
_BUCKET_SHARES: Final = (0.025, 0.075, 0.125, 0.175, 0.25)
_NEEDED: Final = ("instance_type", "on_demand_usd_h")


def price_rows(
    table: pd.DataFrame, *, dated: bool = False, types: Collection[str] | None = None
) -> tuple[PriceRow, ...]:
    """On-demand and spot rows of a table.

    Args:
        table: columns as above; a price that is missing or negative makes no row.
        types: instance types of interest; None = all.
        dated: rows are in force from `as_of` on; else always (a catalogue says what is, not since when).

    Raises:
        ConfigError: a column is missing.
    """
    missing = [c for c in _NEEDED if c not in table.columns]
    if missing:
        raise ConfigError(
            f"the price table has no column {', '.join(missing)}", hint="instance_type, on_demand_usd_h, region, …"
        )
    if types is not None:
        table = table[table["instance_type"].isin(types)]
    names = table["instance_type"].astype(str).tolist()
    regions = _texts(table, "region")
    since = [_instant(x) if dated else BEGINNING for x in _texts(table, "as_of")]
    buckets = _numbers(table, "interruption_bucket")
    out = []
    for column, kind in (("on_demand_usd_h", CapacityType.ON_DEMAND), ("spot_usd_h", CapacityType.SPOT)):
        for name, zone, usd, start, bucket in zip(names, regions, _numbers(table, column), since, buckets, strict=True):
            if math.isfinite(usd) and usd >= 0:
                ends = _per_hour(bucket) if kind is CapacityType.SPOT else None
                out.append(PriceRow(name, usd, zone, kind, since=start, interruptions_per_hour=ends))
    return tuple(out)


def shipped() -> pd.DataFrame:
    """A small table that comes with preprov: common types in one region of each cloud, list prices of 2026."""
    return pd.read_csv(StringIO(files("preprov.planning").joinpath("tables/prices.csv").read_text(encoding="utf-8")))


def _texts(table: pd.DataFrame, column: str) -> list[str]:
    if column not in table.columns:
        return [""] * len(table)
    return table[column].fillna("").astype(str).tolist()


def _numbers(table: pd.DataFrame, column: str) -> list[float]:
    if column not in table.columns:
        return [math.nan] * len(table)
    return pd.to_numeric(table[column], errors="coerce").astype(float).tolist()


def _instant(text: str) -> datetime:
    stamp = pd.to_datetime(text, utc=True, errors="coerce")
    return BEGINNING if pd.isna(stamp) else stamp.to_pydatetime()


def _per_hour(bucket: float) -> float | None:
    """Interruptions per running hour from a bucket of the share of instances interrupted within a month."""
    if not math.isfinite(bucket) or not 0 <= bucket < len(_BUCKET_SHARES):
        return None
    return -math.log1p(-_BUCKET_SHARES[int(bucket)]) / _MONTH_H
