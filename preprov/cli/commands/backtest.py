"""backtest forecast: how good the forecasts are, peers in the same run."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from preprov.cli import common
from preprov.cli.commands import backtest_demand, backtest_profiles
from preprov.cli.common import Output, OutputOption, PictureOption

backtest_app = typer.Typer(help="Measure on history what would have been forecast.", no_args_is_help=True)


def attach(app: typer.Typer) -> None:
    """Hang the commands on the root."""
    backtest_demand.attach(backtest_app)
    backtest_profiles.attach(backtest_app)
    app.add_typer(backtest_app, name="backtest")


@backtest_app.command("forecast")
def backtest_forecast(
    table: Annotated[Path, typer.Argument(help="Hourly series: Parquet or CSV with columns series, ts, demand.")],
    series: Annotated[list[str] | None, typer.Option("--series", help="Only this series; repeat it.")] = None,
    days: Annotated[int | None, typer.Option("--days", min=1, help="Test days; else 40 %, at most 60.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Five series, 14 days.")] = False,
    peer: Annotated[
        list[str] | None, typer.Option("--peer", help="Only this peer, or a forecaster you installed; repeat it.")
    ] = None,
    member: Annotated[
        list[str] | None, typer.Option("--member", help="A forecaster you installed joins our mix; repeat it.")
    ] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Processes; all cores if not given.")] = None,
    horizon: Annotated[int, typer.Option("--horizon", min=1, max=168, help="Hours ahead.")] = 24,
    tz: Annotated[str | None, typer.Option("--tz", help="Zone of wall-clock times, if the file does not say.")] = None,
    resume: Annotated[Path | None, typer.Option("--resume", help="Keep what is finished here and take it up.")] = None,
    picture: PictureOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Day-ahead forecasts at daily origins against simpler and well-known ones; nothing after a cutoff is seen."""
    common.begin("backtest forecast", output)
    from datetime import UTC, datetime

    from preprov.control.backtest_forecast import run_forecast_backtest
    from preprov.logs import configure
    from preprov.sources.series import read_series

    configure()
    now = datetime.now(UTC)
    fmt = common.picture_format(picture) if picture is not None else "png"
    with common.progress("backtest") as tell:
        tell(0.0, "reading")
        report = run_forecast_backtest(
            read_series(table, zone=tz),
            series=series,
            days=days,
            quick=quick,
            peers=peer,
            members=member or (),
            workers=workers or os.cpu_count() or 1,
            resume_dir=resume,
            horizon=horizon,
            progress=lambda what, done, total: tell(done / total, f"{done} of {total}, {what}"),
        )
    if picture is not None:
        from preprov.figures import forecast_backtest

        common.write_picture(picture, forecast_backtest(report, fmt=fmt))
    if output is Output.JSON:
        common.print_json(common.envelope("backtest forecast", None, now, report))
        return
    _print(report)


def _print(report: dict[str, Any]) -> None:
    names = sorted({p for s in report["series"].values() for p in s["peers"]})
    rows = []
    for name, s in report["series"].items():
        peers = [_percent(s["peers"].get(p, {}).get("wql")) for p in names]
        rows.append((name, _percent(s["wql"]), _percent(s["coverage80"]), *peers))
    common.print_table("WQL, % of demand", ("series", "preprov", "in 80 % band", *names), rows)
    for name, why in report["left_out"].items():
        typer.echo(f"left out: {name}: {why}")
    for name, value in report["summary"].items():
        typer.echo(f"{name}: {value:.3f}" if isinstance(value, float) else f"{name}: {value}")


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"
