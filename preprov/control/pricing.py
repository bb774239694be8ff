"""Prices from a file: Parquet or CSV, one row per instance type and region."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from preprov.control.context import Context
from preprov.model.errors import ConfigError
from preprov.model.pools import CapacityType, Pool
from preprov.planning.prices import PriceRow, TablePriceBook
from preprov.planning.pricetable import price_rows, shipped


def read_prices(path: Path | None = None) -> tuple[PriceRow, ...]:
    """Rows of a table of prices; None = the small one that comes with preprov.

    Raises:
        ConfigError: the file is absent, no table, or lacks a column.
    """
    import pandas as pd

    if path is None:
        return price_rows(shipped())
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except (OSError, ValueError) as e:
        raise ConfigError(f"the price table cannot be read: {e}", where=str(path), hint="Parquet or CSV") from e
    return price_rows(table)


def interruptions(ctx: Context, pool: Pool, now: datetime) -> Mapping[str, float]:
    """Offering key -> interruptions per running hour, of the pool's spot offerings whose rate is known."""
    if not isinstance(ctx.prices, TablePriceBook):
        return {}
    spot = [o for g in pool.groups for o in g.offerings if o.capacity_type is CapacityType.SPOT]
    known = {o.key: ctx.prices.interruptions_per_hour(o, now) for o in spot}
    return {k: v for k, v in known.items() if v is not None}
