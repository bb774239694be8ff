"""queue analyze|order, forecast run|show."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from preprov.cli import common
from preprov.cli.commands import explain, order
from preprov.cli.common import AtOption, Output, OutputOption, PoolOption, TzOption

if TYPE_CHECKING:
    from preprov.model.demand import DemandCurve

queue_app = typer.Typer(help="What is queued, running and due.", no_args_is_help=True)
forecast_app = typer.Typer(help="Demand a day ahead.", no_args_is_help=True)
_EXPLAINED = ("features", "moved_by")  # `forecast explain` prints them
ResourceOption = Annotated[str, typer.Option("--resource", "-r", help="cpu, memory, gpu, disk_io or network.")]


def attach(app: typer.Typer) -> None:
    """Hang the commands on the root."""
    app.add_typer(queue_app, name="queue")
    app.add_typer(forecast_app, name="forecast")
    explain.attach(forecast_app)
    order.attach(queue_app)


@queue_app.command("analyze")
def queue_analyze(
    pool: PoolOption,
    at: AtOption = None,
    resource: ResourceOption = "cpu",
    tz: TzOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Runs queued, running and due by schedule, with features, and the demand they expand to."""
    with common.opened("queue analyze", output) as app:
        common.check_resource(resource)
        from dataclasses import asdict

        from preprov.control.assets import not_preloaded
        from preprov.control.forecasting import analyze_queue
        from preprov.control.lanes import fits_nowhere

        target = app.ctx.pool(pool)
        when = common.parse_time(at, target.zone, app.ctx.clock.now())
        ctx = app.ctx.at(when)
        analysis = analyze_queue(ctx, target)
        nowhere = fits_nowhere(ctx, target)
        lacking = not_preloaded(ctx, target, days=1.0)
        images = [{"uri": i.uri, "digest": i.digest, "dags": list(dags)} for i, dags in lacking.items()]
        body = {**analysis.as_dict(resource), "nowhere": [asdict(t) for t in nowhere], "not_preloaded": images}
        if output is Output.JSON:
            common.print_json(common.envelope("queue analyze", pool, ctx.clock.now(), body))
            return
        zone = tz or target.zone
        typer.echo(f"{pool} at {common.both_times(ctx.clock.now(), zone)}")
        _print_queue(body)
        for t in nowhere[:10]:
            typer.echo(f"{t.run_id}/{t.task_id} fits nowhere: {t.why}")
        if len(nowhere) > 10:
            typer.echo(f"… and {len(nowhere) - 10} more tasks fit nowhere")
        _print_images(images)
        _print_curve(analysis.curve, resource, zone)


def _print_queue(body: Mapping[str, Any]) -> None:
    """Counts, the first runs, and the next turns."""
    counts = ("runs", "task_instances", "cores")
    rows = [(k, *(body[k][c] for c in counts)) for k in ("running", "queued")]
    common.print_table("", ("", *(c.replace("_", " ") for c in counts)), rows)
    columns = ("run_id", "dag_id", "state", "tasks", "width", "depth", "core_hours_left")
    runs = [(*(r[c] for c in columns), round(r["critical_path_s"]["p50"])) for r in body["runs"][:30]]
    more = f"… and {len(body['runs']) - 30} more" if len(body["runs"]) > 30 else ""
    heads = (*(c.replace("_", " ") for c in columns), "critical path s")
    common.print_table("runs", heads, runs, note=more)
    due = [(d["at"], d["dag_id"], f"{d['probability']:.0%}") for d in sorted(body["due"], key=lambda d: d["at"])[:15]]
    more = f"… and {len(body['due']) - 15} more" if len(body["due"]) > 15 else ""
    common.print_table("due by schedule", ("at", "dag", "comes with"), due, note=more)


def _print_images(images: Sequence[Mapping[str, Any]]) -> None:
    """What tasks run in and nodes do not have when they are ready."""
    for image in images[:10]:
        dags = ", ".join(image["dags"][:3]) + (f" and {len(image['dags']) - 3} more" if len(image["dags"]) > 3 else "")
        named = image["uri"] + (f"@{image['digest']}" if image["digest"] else "")
        typer.echo(f"{named} is not in [pool.preload]: {dags}")
    if len(images) > 10:
        typer.echo(f"… and {len(images) - 10} more images are not in [pool.preload]")


def _print_curve(curve: "DemandCurve", resource: str, zone: str) -> None:
    from preprov.model.resources import UNITS

    hours = curve.resample(3600) if 3600 % curve.step_seconds == 0 and curve.step_seconds < 3600 else curve
    chosen = [curve.quantiles.index(q) for q in (0.5, 0.9, 0.99) if q in curve.quantiles]
    rows = [
        (common.both_times(t, zone), *(round(float(row[i]), 1) for i in chosen))
        for t, row in zip(hours.times(), hours.table(resource), strict=True)
    ]
    names = [f"p{curve.quantiles[i] * 100:g}" for i in chosen]
    common.print_table(f"demand, {resource} ({UNITS[resource]})", ("from", *names), rows)


@forecast_app.command("run")
def forecast_run(
    pool: PoolOption,
    at: AtOption = None,
    resource: ResourceOption = "cpu",
    hours: Annotated[int, typer.Option("--hours", min=1, max=168, help="How far ahead.")] = 24,
    refit: Annotated[bool, typer.Option("--refit", help="Put up a challenger for the learnt part.")] = False,
    tz: TzOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Issue a forecast by the hour, from what is known at --at and not a second later; it is kept in the store."""
    with common.opened("forecast run", output) as app:
        common.check_resource(resource)
        from preprov.control.forecasting import issue_forecast

        target = app.ctx.pool(pool)
        ctx = app.ctx.at(common.parse_time(at, target.zone, app.ctx.clock.now()))
        with common.progress(f"forecast {pool}"):
            issued = issue_forecast(ctx, target, horizon_s=hours * 3600, refit=refit)
        version = issued.model.version if issued.model else None
        _show(issued.forecast_id, issued.curve, resource, tz or target.zone, output, "forecast run", version)


@forecast_app.command("show")
def forecast_show(
    pool: PoolOption,
    at: AtOption = None,
    resource: ResourceOption = "cpu",
    tz: TzOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """The last forecast issued at or before --at."""
    with common.opened("forecast show", output) as app:
        common.check_resource(resource)
        from preprov.control.forecasting import latest_forecast

        target = app.ctx.pool(pool)
        found = latest_forecast(app.ctx, pool, common.parse_time(at, target.zone, app.ctx.clock.now()))
        _show(found[0], found[1], resource, tz or target.zone, output, "forecast show", None)


def _show(
    forecast_id: str, curve: "DemandCurve", resource: str, zone: str, output: Output, command: str, model: str | None
) -> None:
    from preprov.model.resources import UNITS

    kind = resource
    if output is Output.TABLE:
        typer.echo(f"forecast {forecast_id} of pool {curve.pool}, issued {common.both_times(curve.issued_at, zone)}")
        _print_curve(curve, kind, zone)
        for name, value in curve.basis.items():
            if name not in _EXPLAINED:
                common.say(f"{name}: {value}")
        return
    from preprov.model.resources import KINDS

    column = KINDS.index(kind)
    body = {
        "forecast_id": forecast_id,
        "resource": kind,
        "unit": UNITS[kind],
        "tz": zone,
        "step_seconds": curve.step_seconds,
        "quantiles": list(curve.quantiles),
        "points": curve.points(kind),
        "parts": {p: [round(float(v), 6) for v in a[:, column]] for p, a in curve.parts.items()},
        "basis": dict(curve.basis),
        "model": model,
    }
    common.print_json(common.envelope(command, curve.pool, curve.issued_at, body))
