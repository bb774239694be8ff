"""Prices: from a file, from what clouds said, from the configuration; asked for again, and put into plans."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import structlog

from preprov.contracts import Clock, ExplainsPrices, PriceStore, Quote, Quotes
from preprov.control.context import Context
from preprov.control.planning_facts import task_sizes
from preprov.model.errors import ConfigError, PoolError
from preprov.model.offerings import CapacityType, Offering, Standby
from preprov.model.pools import Pool
from preprov.model.prices import Commitment, Found, PriceRow
from preprov.planning.leads import Leads
from preprov.planning.offers import risk_usd
from preprov.planning.prices import TablePriceBook
from preprov.planning.pricetable import price_rows, shipped

log = structlog.get_logger(__name__)

_FRESH: Final = timedelta(minutes=1)
_FIRST_LOOK_BACK: Final = timedelta(days=7)


def read_prices(path: Path | None = None, *, types: Collection[str] | None = None) -> tuple[PriceRow, ...]:
    """Rows of a table of prices; None = the small one that comes with preprov.

    Args:
        path: Parquet or CSV; columns as in `preprov.planning.pricetable`.
        types: instance types of interest; None = all.

    Raises:
        ConfigError: the file is absent, no table, or lacks a column.
    """
    import pandas as pd

    if path is None:
        return price_rows(shipped(), types=types)
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except (OSError, ValueError) as e:
        raise ConfigError(f"the price table cannot be read: {e}", where=str(path), hint="Parquet or CSV") from e
    return price_rows(table, types=types)


class KeptPrices:
    """The price book of a running preprov: what clouds said, then a table, then the configuration.

    What is stored is read again after a minute, so that a refresh by another process is seen.
    """

    def __init__(
        self,
        store: PriceStore,
        clock: Clock,
        pools: Iterable[Pool],
        table: Sequence[PriceRow] = (),
        commitments: Sequence[Commitment] = (),
    ) -> None:
        self._store, self._clock = store, clock
        self._pools, self._table, self._commitments = tuple(pools), tuple(table), tuple(commitments)
        self._types = {o.instance_type for p in self._pools for g in p.groups for o in g.offerings}
        self._read_at: datetime | None = None
        self._book = TablePriceBook()

    def forget(self) -> None:
        """Read the store again at the next question."""
        self._read_at = None

    def _now(self) -> TablePriceBook:
        now = self._clock.now()
        if self._read_at is None or now - self._read_at >= _FRESH:
            rows = (*self._table, *self._store.rows(instance_types=self._types))
            self._book = TablePriceBook.from_pools(self._pools, rows, commitments=self._commitments)
            self._read_at = now
        return self._book

    def usd_per_hour(self, offering: Offering, at: datetime) -> float | None:
        """Price of a running node-hour; None = not known."""
        return self._now().usd_per_hour(offering, at)

    def standby_usd_per_hour(self, offering: Offering, state: Standby, at: datetime) -> float | None:
        """Price of a kept node-hour in that state; 0 for COLD."""
        return self._now().standby_usd_per_hour(offering, state, at)

    def found(self, offering: Offering, at: datetime) -> Found:
        """The price in force and its source."""
        return self._now().found(offering, at)

    def interruptions_per_hour(self, offering: Offering, at: datetime) -> float | None:
        """How often a running node of it is taken back; None = not known."""
        return self._now().interruptions_per_hour(offering, at)

    def history(self, instance_type: str) -> tuple[PriceRow, ...]:
        """All prices known of a type, by zone, capacity type and time."""
        known = self._now().history(instance_type)
        return known or self._store.rows(instance_types=[instance_type])


def interruptions(ctx: Context, pool: Pool, now: datetime) -> Mapping[str, float]:
    """Offering key -> interruptions per running hour, of the pool's spot offerings whose rate is known."""
    spot = [o for g in pool.groups for o in g.offerings if o.capacity_type is CapacityType.SPOT]
    if not spot or not isinstance(ctx.prices, ExplainsPrices):
        return {}
    known = {o.key: ctx.prices.interruptions_per_hour(o, now) for o in spot}
    return {k: v for k, v in known.items() if v is not None}


def risks(ctx: Context, pool: Pool, leads: Leads, now: datetime) -> Mapping[tuple[str, str], float]:
    """(group, offering key) -> USD per running hour that interruptions cost, of the pool's spot offerings."""
    spot = [(g.name, o) for g in pool.groups for o in g.offerings if o.capacity_type is CapacityType.SPOT]
    if not spot:
        return {}
    known, rework_s = interruptions(ctx, pool, now), task_sizes(ctx, pool, now).rework_s
    usd = {o.key: ctx.prices.usd_per_hour(o, now) for _, o in spot}
    return {(g, o.key): risk_usd(pool, o, usd[o.key], leads(g, o, Standby.COLD), known, rework_s) for g, o in spot}


@dataclass(frozen=True)
class Refreshed:
    """What asking came to.

    Attributes:
        new: rows that were not known. quotes: (pool, group) -> prices heard. silent: groups whose provider names no
            prices. failed: group -> why.
    """

    new: int
    quotes: Mapping[tuple[str, str], int]
    silent: tuple[tuple[str, str], ...]
    failed: Mapping[tuple[str, str], str]


def refresh_prices(ctx: Context, pools: Sequence[Pool]) -> Refreshed:
    """Ask the clouds of these pools what their offerings cost, and keep what changed.

    A group whose cloud refuses is named; the others are kept all the same.
    """
    now = ctx.clock.now()
    heard: list[PriceRow] = []
    counts: dict[tuple[str, str], int] = {}
    silent: list[tuple[str, str]] = []
    failed: dict[tuple[str, str], str] = {}
    known = TablePriceBook(ctx.ports.prices.rows())
    for pool, group in ((p, g) for p in pools for g in p.groups):
        key = (pool.name, group.name)
        provider: object = ctx.providers.get(group.provider)
        if not isinstance(provider, Quotes):
            silent.append(key)
            continue
        try:
            quotes = provider.quotes(pool, group.name, _since(ctx, group.offerings, now))
        except PoolError as e:
            failed[key] = str(e)
            continue
        counts[key] = len(quotes)
        heard.extend(_changed(quotes, known))
    new = ctx.ports.prices.save(heard, at=now)
    forget = getattr(ctx.prices, "forget", None)
    if forget is not None:
        forget()
    return Refreshed(new, counts, tuple(silent), failed)


def refresh_due(ctx: Context, every_s: float) -> Refreshed | None:
    """Ask the clouds of all pools if so many seconds have passed since the last time; 0 = never."""
    now, key = ctx.clock.now(), ("prices", "asked")
    last = ctx.memo.get(key)
    if not every_s or (last is not None and (now - last[0]).total_seconds() < every_s):
        return None
    ctx.memo[key] = (now, None)
    done = refresh_prices(ctx, tuple(ctx.pools.values()))
    log.info("prices asked", new=done.new, failed={"/".join(k): why for k, why in done.failed.items()})
    return done


def _since(ctx: Context, offerings: Sequence[Offering], now: datetime) -> datetime:
    """From the last price that is known of each of these; a week back if one is not."""
    rows = ctx.ports.prices.rows(instance_types={o.instance_type for o in offerings})
    last = {(r.instance_type, r.capacity_type): r.since for r in rows}
    known = [last.get((o.instance_type, o.capacity_type)) for o in offerings]
    return min((k for k in known if k is not None), default=now) if None not in known else now - _FIRST_LOOK_BACK


def _changed(quotes: Sequence[Quote], known: TablePriceBook) -> list[PriceRow]:
    """Prices that differ from the one before them."""
    out: list[PriceRow] = []
    last: dict[tuple[str, str, CapacityType], float | None] = {}
    for q in quotes:
        o = q.offering
        key = (o.instance_type, o.zone, o.capacity_type)
        if key not in last:
            last[key] = known.found(replace(o, usd_per_hour=None), q.since).usd_per_hour
        if last[key] != q.usd_per_hour:
            out.append(
                PriceRow(o.instance_type, q.usd_per_hour, o.zone, o.capacity_type, since=q.since, source=q.source)
            )
            last[key] = q.usd_per_hour
    return out
