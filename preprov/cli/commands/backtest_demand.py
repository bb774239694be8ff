"""backtest demand: how good the joined curve is on a trace of runs, peers in the same run."""

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from preprov.cli import common
from preprov.cli.common import Output, OutputOption

if TYPE_CHECKING:
    from preprov.control.backtest_demand import Trace


class Schedules(StrEnum):
    """What is known of them."""

    DECLARED = "declared"
    HIDDEN = "hidden"


def attach(backtest: typer.Typer) -> None:
    """Hang the command on `backtest`."""
    backtest.command("demand")(backtest_demand)


def backtest_demand(
    trace: Annotated[Path, typer.Argument(help="DAG tasks (Parquet, CSV) or a job log (.swf, .swf.gz).")],
    schedules: Annotated[
        Schedules, typer.Option("--schedules", help="declared: crons in the trace are known; hidden: they are not.")
    ] = Schedules.DECLARED,
    origins: Annotated[int | None, typer.Option("--origins", min=1, help="Instants to forecast from; 48.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="12 instants, and only peers that copy the past.")] = False,
    peer: Annotated[list[str] | None, typer.Option("--peer", help="Only this peer; repeat it.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="Judge from this instant on.")] = None,
    days: Annotated[float | None, typer.Option("--days", min=1.5, help="Judged days; 14.")] = None,
    resource: Annotated[str, typer.Option("--resource", "-r", help="cpu, memory, gpu, disk_io or network.")] = "cpu",
    most_cores: Annotated[
        float, typer.Option("--most-cores", help="Leave out tasks that want more, all instances together; 0 = none.")
    ] = 2000.0,
    epoch: Annotated[str | None, typer.Option("--epoch", help="Second 0 of the file, if it does not say.")] = None,
    tz: Annotated[str | None, typer.Option("--tz", help="Zone of the schedules, if the file does not say.")] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Processes; all cores if not given.")] = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", help="Keep finished instants here and take them up.")
    ] = None,
    picture: Annotated[Path | None, typer.Option("--picture", help="Draw loss and coverage: .png or .svg.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Known, recurring and learnt demand together, at instants spread over days; nothing after an instant is seen."""
    common.begin("backtest demand", output)
    from datetime import UTC, datetime

    from preprov.control.backtest_demand import ORIGINS, QUICK_ORIGINS, DemandPlan, peers_at_hand, run_demand_backtest
    from preprov.demand.forecasting.naive import COPIES
    from preprov.logs import configure

    configure()
    now = datetime.now(UTC)
    fmt = _picture_format(picture)
    with common.progress("backtest") as tell:
        tell(0.0, "reading")
        read = _read(trace, epoch, tz, now)
        plan = DemandPlan(
            declared=schedules is Schedules.DECLARED,
            origins=origins or (QUICK_ORIGINS if quick else ORIGINS),
            peers=peers_at_hand(peer or (list(COPIES) if quick else None)),
            kind=resource,
            most_cores=most_cores or None,
            since=common.parse_time(since, read.zone, now),
            days=days,
        )
        report = run_demand_backtest(
            read,
            plan,
            workers=workers or os.cpu_count() or 1,
            resume_dir=resume,
            progress=lambda done, total: tell(done / total, f"{done} of {total} instants"),
        )
    if picture is not None:
        from preprov.figures import demand_backtest

        picture.write_bytes(demand_backtest(report, fmt=fmt))
    if output is Output.JSON:
        common.print_json(common.envelope("backtest demand", None, now, report))
        return
    _print(report)


def _read(trace: Path, epoch: str | None, tz: str | None, now: Any) -> "Trace":
    """The whole trace, as `ingest` would take it in."""
    from dataclasses import replace

    from preprov.control.backtest_demand import Trace
    from preprov.model.worktable import WorkTable
    from preprov.sources.swf import SwfSource
    from preprov.sources.tables import DagTableSource

    when = common.parse_time(epoch, "UTC", now)
    swf = any(trace.name.endswith(suffix) for suffix in (".swf", ".swf.gz"))
    source = SwfSource(trace, epoch=when, zone=tz) if swf else DagTableSource(trace, epoch=when, zone=tz)
    batches = list(source.read())
    schedules = {s.dag_id: replace(s, pool=trace.name) for b in batches for s in b.schedules}
    work = WorkTable.concat([b.work for b in batches])
    return Trace(trace.name, source.digest, work, tuple(schedules.values()), source.zone)


def _picture_format(file: Path | None) -> str:
    """Looked at first: hours later is too late."""
    from preprov.model.errors import ConfigError

    fmt = "png" if file is None else file.suffix.lstrip(".").lower()
    if fmt not in ("png", "svg"):
        raise ConfigError(f"no pictures of kind {fmt!r}", where=str(file), hint=".png or .svg")
    return fmt


def _print(report: dict[str, Any]) -> None:
    judged = report["judged"]
    typer.echo(
        f"{report['trace']}, schedules {report['schedules']}: {report['origins']} instants, "
        f"{judged['from']} to {judged['to']}; {report['tasks_left_out']} tasks left out"
    )
    names = sorted({p for h in report["horizons"].values() for p in h["peers"]})
    rows = []
    for seconds, h in report["horizons"].items():
        peers = [_percent(h["peers"].get(p, {}).get("wql")) for p in names]
        ratio = h["ratio_vs_best_peer"]
        rows.append(
            (
                f"{int(seconds) // 60} min",
                _percent(h["wql"]),
                "" if ratio is None else f"{ratio:.2f}",
                _percent(h["coverage80"]),
                *(_percent(h["max_window"][w]["wql"]) for w in h["max_window"]),
                *peers,
            )
        )
    windows = next(iter(report["horizons"].values()))["max_window"]
    heads = ("ahead", "preprov", "of best peer", "in 80 % band", *(f"highest of {int(w) // 60} min" for w in windows))
    common.print_table("WQL, % of demand", (*heads, *names), rows)
    starts = {k: _percent(report["starts"][k]) or "none" for k in ("precision", "recall", "chance")}
    typer.echo(
        "starts an hour ahead, % of tasks: "
        f"precision {starts['precision']}, recall {starts['recall']}, by chance {starts['chance']}"
    )


def _percent(value: float | None) -> str:
    return "" if value is None or value != value else f"{100 * value:.1f}"
