"""reservation window add|list|remove."""

from typing import TYPE_CHECKING, Annotated

import typer

from preprov.cli import common
from preprov.cli.commands.reservation import reservation_app
from preprov.cli.common import AnyPoolOption, Output, OutputOption, PoolOption

if TYPE_CHECKING:
    from preprov.model.windows import RecurringWindow

window_app = typer.Typer(
    help="A share of a pool that is a tenant's at the same hours again and again.", no_args_is_help=True
)
TenantOption = Annotated[str, typer.Option("--tenant", help="Whose it is.")]


def attach(app: typer.Typer) -> None:
    """Hang the commands on those of reservations."""
    reservation_app.add_typer(window_app, name="window")


@window_app.command("add")
def window_add(
    name: str,
    pool: PoolOption,
    tenant: TenantOption,
    start: Annotated[str, typer.Option("--from", help="Time of day, HH:MM, on the wall clock of its zone.")],
    end: Annotated[str, typer.Option("--to", help="Time of day, HH:MM; of the next day if it is not later.")],
    cpu: Annotated[float, typer.Option("--cpu", min=0, help="Cores of one instance.")] = 0.0,
    memory: Annotated[float, typer.Option("--memory", min=0, help="GiB of one instance.")] = 0.0,
    gpu: Annotated[float, typer.Option("--gpu", min=0)] = 0.0,
    count: Annotated[int, typer.Option("--count", min=1, help="Instances, each on a node.")] = 1,
    days: Annotated[str, typer.Option("--days", help="Days on which it starts: mon,tue,fri.")] = "",
    tz: Annotated[str | None, typer.Option("--tz", help="Its zone; the pool's if not given.")] = None,
    lead: Annotated[str, typer.Option("--lead", help="Warm this long before its start: 10m.")] = "0s",
    borrow: Annotated[
        bool, typer.Option("--borrow", help="Until its start, others may use it for what should have ended by then.")
    ] = False,
    reclaim: Annotated[
        str, typer.Option("--reclaim", help="With --borrow: nobody else begins anything in it this long before: 2m.")
    ] = "0s",
    priority: Annotated[int, typer.Option("--priority")] = 0,
    since: Annotated[
        str | None, typer.Option("--since", help="No turn starts before: an ISO time in its zone, or +7d.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", help="No turn starts then or later.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Hold a share of a pool for a tenant, again and again; one of that name is replaced."""
    with common.opened("reservation window add", output) as app:
        from preprov.control import windows
        from preprov.model.resources import Resources

        zone, now = windows.known_zone(tz or app.ctx.pool(pool).zone), app.ctx.clock.now()
        made = windows.put(
            app.ctx,
            windows.AskedWindow(
                name=name,
                pool=app.ctx.pool(pool).name,
                tenant=tenant,
                request=Resources(cpu=cpu, memory=memory, gpu=gpu),
                start=start,
                end=end,
                days=tuple(d.strip() for d in days.split(",")) if days else (),
                zone=tz,
                count=count,
                lead_s=common.parse_span(lead).total_seconds(),
                borrow=borrow,
                reclaim_s=common.parse_span(reclaim).total_seconds(),
                priority=priority,
                since=common.parse_time(since, zone, now),
                until=common.parse_time(until, zone, now),
            ),
        )
        if output is Output.JSON:
            body = {"window": made.as_dict()}
            common.print_json(common.envelope("reservation window add", pool, app.ctx.clock.now(), body))
            return
        typer.echo(f"{made.name} of {made.tenant}: {_hours(made)}, {made.count} x {made.request.cpu:g} cores")


@window_app.command("list")
def window_list(pool: AnyPoolOption = None, output: OutputOption = Output.TABLE) -> None:
    """Windows by pool, tenant and name."""
    with common.opened("reservation window list", output) as app:
        found = app.ctx.ports.windows.windows(pool)
        if output is Output.JSON:
            body = {"windows": [w.as_dict() for w in found]}
            common.print_json(common.envelope("reservation window list", pool, app.ctx.clock.now(), body))
            return
        rows = [
            (w.name, w.pool, w.tenant, _hours(w), w.count, f"{w.request.cpu:g} cores, {w.request.memory:g} GiB")
            for w in found
        ]
        columns = ("window", "pool", "tenant", "hours", "count", "each")
        common.print_table("", columns, rows, note="" if rows else "no windows")


@window_app.command("remove")
def window_remove(name: str, pool: PoolOption, tenant: TenantOption, output: OutputOption = Output.TABLE) -> None:
    """Hold it no more: its turns are given back as the controller next looks."""
    with common.opened("reservation window remove", output) as app:
        from preprov.control import windows

        windows.remove(app.ctx, pool, tenant, name)
        if output is Output.JSON:
            body = {"removed": name}
            common.print_json(common.envelope("reservation window remove", pool, app.ctx.clock.now(), body))
            return
        typer.echo(f"{name} of {tenant} is removed")


def _hours(w: "RecurringWindow") -> str:
    from zoneinfo import ZoneInfo

    from preprov.model.windows import clock_of, weekday_name

    days = "daily" if len(w.weekdays) == 7 else ",".join(weekday_name(d) for d in sorted(w.weekdays))
    hours = f"{clock_of(w.start_s)} to {clock_of(w.end_s)} {w.zone} {days}"
    for word, at in (("since", w.since), ("until", w.until)):
        hours += f" {word} {at.astimezone(ZoneInfo(w.zone)):%Y-%m-%d %H:%M}" if at is not None else ""
    return hours
