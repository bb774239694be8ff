"""forecast explain: what the demand of each hour is made of."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from preprov.cli import common
from preprov.cli.common import AtOption, Output, OutputOption, PictureOption, PoolOption, TzOption

if TYPE_CHECKING:
    from preprov.demand.explaining import StepExplained
    from preprov.model.demand import DemandCurve


def attach(app: typer.Typer) -> None:
    """Hang the command on `forecast`."""
    app.command("explain")(forecast_explain)


def forecast_explain(
    pool: PoolOption,
    at: AtOption = None,
    hour: Annotated[str | None, typer.Option("--hour", help="Only the step that holds this time.")] = None,
    resource: Annotated[str, typer.Option("--resource", "-r", help="cpu, memory, gpu, disk_io or network.")] = "cpu",
    picture: PictureOption = None,
    tz: TzOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """How much of each hour's demand runs, waits, is due, recurs or is learnt; and what moved the learnt part."""
    with common.opened("forecast explain", output) as app:
        from preprov.control.forecasting import latest_forecast
        from preprov.demand.explaining import explain

        common.check_resource(resource)
        fmt = common.picture_format(picture) if picture is not None else "png"
        target = app.ctx.pool(pool)
        zone = tz or target.zone
        when = common.parse_time(at, target.zone, app.ctx.clock.now())
        forecast_id, curve = latest_forecast(app.ctx, pool, when)
        steps = explain(curve, resource)
        if hour is not None:
            asked = common.parse_time(hour, target.zone, app.ctx.clock.now())
            steps = _holding(curve, steps, asked)
        if picture is not None:
            from preprov.figures import forecast_parts

            common.write_picture(picture, forecast_parts(curve, zone, kind=resource, fmt=fmt))
        if output is Output.JSON:
            body = _body(forecast_id, curve, resource, zone, steps)
            common.print_json(common.envelope("forecast explain", pool, curve.issued_at, body))
            return
        typer.echo(f"forecast {forecast_id} of pool {pool}, issued {common.both_times(curve.issued_at, zone)}")
        _print(curve, steps, resource, zone)


def _holding(curve: "DemandCurve", steps: Sequence["StepExplained"], asked: Any) -> tuple["StepExplained", ...]:
    from preprov.model.errors import ForecastError

    number = int((asked - curve.start).total_seconds() // curve.step_seconds)
    if not 0 <= number < len(steps):
        raise ForecastError(
            f"the forecast does not reach {asked.isoformat()}",
            where=curve.pool,
            hint=f"it goes from {curve.start.isoformat()} to {curve.end.isoformat()}",
        )
    return (steps[number],)


def _body(
    forecast_id: str, curve: "DemandCurve", resource: str, zone: str, steps: Sequence["StepExplained"]
) -> dict[str, Any]:
    from preprov.model.resources import UNITS

    return {
        "forecast_id": forecast_id,
        "resource": resource,
        "unit": UNITS[resource],
        "tz": zone,
        "step_seconds": curve.step_seconds,
        "steps": [
            {
                "ts": s.ts.isoformat(),
                "mean": round(s.mean, 6),
                "peak_p50": round(s.p50, 6),
                "peak_p90": round(s.p90, 6),
                "parts": {p: round(v, 6) for p, v in s.parts.items()},
                "moved_by": dict(s.moved_by),
            }
            for s in steps
        ],
        "features": curve.basis.get("features", {}),
        "members": curve.basis.get("members", {}),
        "fallback": str(curve.basis.get("fallback", "")),
    }


def _print(curve: "DemandCurve", steps: Sequence["StepExplained"], resource: str, zone: str) -> None:
    from preprov.model.demand import PARTS
    from preprov.model.resources import UNITS

    rows = [
        (
            common.both_times(s.ts, zone),
            f"{s.mean:.1f}",
            *(f"{s.parts[p]:.1f}" if s.parts.get(p, 0.0) >= 0.05 else "" for p in PARTS),
            f"{s.p50:.1f} / {s.p90:.1f}",
            ", ".join(f"{name} {by:+.1f}" for name, by in s.moved_by.items()),
        )
        for s in steps
    ]
    columns = ("from", "mean", *(p.replace("_", " ") for p in PARTS), "peak p50 / p90", "moved the forest by")
    common.print_table(f"demand, {resource} ({UNITS[resource]})", columns, rows)
    features = curve.basis.get("features")
    if isinstance(features, dict) and features:
        typer.echo("the forest splits on: " + ", ".join(f"{name} {share:.0%}" for name, share in features.items()))
    if curve.basis.get("fallback"):
        typer.echo(f"fallback: {curve.basis['fallback']}")
