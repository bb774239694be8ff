"""route check: where work goes, and what goes nowhere."""

from typing import TYPE_CHECKING

import typer

from preprov.cli import common
from preprov.cli.common import Output, OutputOption, SinceOption

if TYPE_CHECKING:
    from preprov.control.routes import RouteReport

route_app = typer.Typer(help="Which work belongs to which pool.", no_args_is_help=True)


def attach(app: typer.Typer) -> None:
    """Hang the commands on the root."""
    app.add_typer(route_app, name="route")


@route_app.callback()
def route() -> None:
    """Which work belongs to which pool."""


@route_app.command("check")
def route_check(since: SinceOption = None, output: OutputOption = Output.TABLE) -> None:
    """What each [[route]] takes of the work that was read, and what none does, in core hours; 7 days if not given."""
    with common.opened("route check", output) as app:
        from preprov.control.routes import check_routes

        now = app.ctx.clock.now()
        start = common.since_time(since, "7d", app.config.controller.zone, now)
        report = check_routes(app.ctx, {s.name: app.router(s) for s in app.live()}, app.routes, start)
        if output is Output.JSON:
            common.print_json(common.envelope("route check", None, now, report.as_dict()))
            return
        _print(report)


def _print(report: "RouteReport") -> None:
    body = report.as_dict()
    rows = [
        (r["route"] or "", r["pattern"], r["pool"] or "-", r["tasks"], f"{r['core_hours']:.1f}", f"{r['share']:.0%}")
        for r in body["routes"]
    ]
    common.print_table("", ("route", "matches", "pool", "tasks", "core hours", "share"), rows)
    columns = ("source", "DAG", "queue", "tenant", "tasks", "core hours")
    for title, name in (("matches no route", "unmatched"), ("goes elsewhere now", "moved")):
        lines = [
            (u["source"], u["dag_id"], u["queue"], u["tenant"], u["tasks"], f"{u['core_hours']:.1f}")
            for u in body[name]
        ]
        if lines:
            common.print_table(title, columns, lines)
    if body["moved"]:
        common.say("what was read before the routes changed moves with `preprov source sync --again`")
    if not body["core_hours"]:
        common.say("no work was read in that time: preprov source list")
