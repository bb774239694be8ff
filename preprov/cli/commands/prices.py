"""prices list|show|refresh: what offerings cost, where that comes from, and asking clouds again."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from preprov.cli import common
from preprov.cli.common import AnyPoolOption, AtOption, Output, OutputOption

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from preprov.app import App
    from preprov.model.pools import Pool
    from preprov.model.prices import PriceRow

prices_app = typer.Typer(help="What nodes cost.", no_args_is_help=True)


def attach(app: typer.Typer) -> None:
    """Hang the commands on the root."""
    app.add_typer(prices_app, name="prices")


def _pools(app: "App", pool: str | None) -> "list[Pool]":
    return [app.ctx.pool(pool)] if pool else list(app.ctx.pools.values())


@prices_app.command("list")
def prices_list(pool: AnyPoolOption = None, at: AtOption = None, output: OutputOption = Output.TABLE) -> None:
    """The price in force of each offering of the pools, and its source; none known is said."""
    with common.opened("prices list", output) as app:
        now = app.ctx.clock.now()
        when = common.parse_time(at, app.config.controller.zone, now) or now
        rows = [r for p in _pools(app, pool) for r in _offerings(app, p, when)]
        if output is Output.JSON:
            common.print_json(common.envelope("prices list", pool, when, {"offerings": rows}))
            return
        columns = ("pool", "group", "type", "zone", "bought as", "USD/h", "off", "source", "stopped", "hibernated")
        table = [
            (
                *(r["pool"], r["group"], r["instance_type"], r["zone"], r["capacity_type"]),
                *("unknown" if r["usd_per_hour"] is None else f"{r['usd_per_hour']:.4f}", f"{r['discount']:.0%}"),
                *(r["source"], _usd(r["stopped_usd_per_hour"]), _usd(r["hibernated_usd_per_hour"])),
            )
            for r in rows
        ]
        unknown = sum(r["usd_per_hour"] is None for r in rows)
        note = f"{unknown} without a price: their pools are planned by node-hours" if unknown else ""
        common.print_table("", columns, table, note=note)


def _usd(value: object) -> str:
    return "" if value is None else f"{value:.4f}"


def _offerings(app: "App", pool: "Pool", at: "datetime") -> "Iterator[dict[str, Any]]":
    from preprov.contracts import ExplainsPrices
    from preprov.model.offerings import Standby
    from preprov.model.prices import Found

    book = app.ctx.prices
    for group in pool.groups:
        for o in group.offerings:
            found, ends = Found(book.usd_per_hour(o, at)), None
            if isinstance(book, ExplainsPrices):
                found, ends = book.found(o, at), book.interruptions_per_hour(o, at)
            yield {
                "pool": pool.name,
                "group": group.name,
                "offering": o.key,
                "instance_type": o.instance_type,
                "zone": o.zone,
                "capacity_type": str(o.capacity_type),
                "usd_per_hour": found.usd_per_hour,
                "discount": found.discount,
                "source": found.source,
                "since": found.since,
                "stopped_usd_per_hour": book.standby_usd_per_hour(o, Standby.STOPPED, at),
                "hibernated_usd_per_hour": book.standby_usd_per_hour(o, Standby.HIBERNATED, at),
                "interruptions_per_hour": ends,
            }


@prices_app.command("show")
def prices_show(
    instance_type: Annotated[str, typer.Argument(help="Such as m7i.4xlarge.")],
    output: OutputOption = Output.TABLE,
) -> None:
    """All prices known of an instance type: the table's, and what clouds said over time."""
    with common.opened("prices show", output) as app:
        rows = [_row(r) for r in _known(app, instance_type)]
        if output is Output.JSON:
            body = {"instance_type": instance_type, "prices": rows}
            common.print_json(common.envelope("prices show", None, app.ctx.clock.now(), body))
            return
        columns = ("zone", "bought as", "since", "USD/h", "source", "interruptions an hour")
        zone = app.config.controller.zone
        table = [
            (
                *(r["zone"] or "any", r["capacity_type"], common.both_times(r["since"], zone)),
                *(_usd(r["usd_per_hour"]), r["source"], _usd(r["interruptions_per_hour"])),
            )
            for r in rows
        ]
        common.print_table("", columns, table, note="" if rows else f"no price of {instance_type} is known")


def _known(app: "App", instance_type: str) -> "list[PriceRow]":
    """What the book knows; of a type that no pool has, what the table and the store say."""
    from preprov.control.pricing import read_prices

    known = list(app.ctx.ports.prices.rows(instance_types=[instance_type]))
    asked = app.config.prices
    if asked.table is not None:
        known.extend(read_prices(asked.table, types={instance_type}))
    if asked.shipped or asked.table is None:
        known.extend(read_prices(types={instance_type}))
    return sorted(known, key=lambda r: (r.zone, r.capacity_type, r.since))


def _row(r: "PriceRow") -> dict[str, Any]:
    return {
        "zone": r.zone,
        "capacity_type": str(r.capacity_type),
        "since": r.since,
        "usd_per_hour": r.usd_per_hour,
        "source": r.source,
        "interruptions_per_hour": r.interruptions_per_hour,
    }


@prices_app.command("refresh")
def prices_refresh(pool: AnyPoolOption = None, output: OutputOption = Output.TABLE) -> None:
    """Ask the clouds of the pools what their offerings cost; what changed is kept and counts in plans from now on."""
    with common.opened("prices refresh", output) as app, common.progress("prices"):
        from preprov.control.pricing import refresh_prices

        done = refresh_prices(app.ctx, _pools(app, pool))
        groups = [
            *({"pool": p, "group": g, "quotes": n, "problem": ""} for (p, g), n in done.quotes.items()),
            *({"pool": p, "group": g, "quotes": 0, "problem": "names no prices"} for p, g in done.silent),
            *({"pool": p, "group": g, "quotes": 0, "problem": why} for (p, g), why in done.failed.items()),
        ]
        if output is Output.JSON:
            body = {"new": done.new, "groups": groups}
            common.print_json(common.envelope("prices refresh", pool, app.ctx.clock.now(), body))
        else:
            columns = ("pool", "group", "quotes", "problem")
            common.print_table("", columns, [[g[c] for c in columns] for g in groups])
            typer.echo(f"{done.new} new prices are kept")
        if done.failed:
            raise typer.Exit(1)
