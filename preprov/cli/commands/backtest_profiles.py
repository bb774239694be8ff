"""backtest sizing, curves, runtime: what right-sizing saves, how well use and runtime are foretold; peers beside it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from preprov.cli import common
from preprov.cli.common import MapOption, Output, OutputOption, PictureOption

if TYPE_CHECKING:
    from preprov.profiles.runtime_rows import RuntimeRows

_TRACE = "Execution trace: a Nextflow trace file, Parquet or CSV, or a table with its columns."


def attach(app: typer.Typer) -> None:
    """Hang the commands on `backtest`."""
    app.command("sizing")(backtest_sizing)
    app.command("curves")(backtest_curves)
    app.command("runtime")(backtest_runtime)


def backtest_sizing(
    trace: Annotated[Path, typer.Argument(help=_TRACE)],
    workflow: Annotated[list[str] | None, typer.Option("--workflow", help="Only this workflow; repeat it.")] = None,
    failure: Annotated[
        float | None,
        typer.Option("--failure-price", min=0.0, help="What a failure counts; else chosen on each one's history."),
    ] = None,
    time_to_failure: Annotated[
        float, typer.Option("--time-to-failure", min=0.0, help="Share of the runtime after which too little fails.")
    ] = 1.0,
    node: Annotated[
        float | None, typer.Option("--node", min=0.001, help="GiB of a node: the most that can be asked for; else 128.")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Runs of ours, for its forests are random.")] = 3,
    sensitivity: Annotated[
        bool, typer.Option(help="Also at half the time to failure, and where only what had ended teaches.")
    ] = True,
    trade_off: Annotated[bool, typer.Option("--trade-off", help="Also at each price of a failure.")] = False,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Processes; all cores if not given.")] = None,
    picture: PictureOption = None,
    map_: MapOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Memory asked for against memory used: wastage and failures of ours, presets, Witt-LR, Witt-P95 and Tovar."""
    common.begin("backtest sizing", output)
    from datetime import UTC, datetime

    from preprov.control.backtest_sizing import SizingPlan, run_sizing_backtest
    from preprov.logs import configure
    from preprov.sources.executions import read_executions

    configure()
    now = datetime.now(UTC)
    fmt = common.picture_format(picture) if picture is not None else "png"
    with common.progress("backtest") as tell:
        tell(0.0, "reading")
        read = read_executions(trace, common.columns(map_))
        report = run_sizing_backtest(
            read.executions,
            SizingPlan(failure, time_to_failure, node, seeds, sensitivity, trade_off),
            workflows=workflow or (),
            workers=workers or os.cpu_count() or 1,
            progress=lambda done, total: tell(done / total, f"{done} of {total}"),
        )
    report |= {"rejects": len(read.rejects), "notes": list(read.notes)}
    if picture is not None:
        from preprov.figures import sizing_backtest

        common.write_picture(picture, sizing_backtest(report, fmt=fmt))
    if output is Output.JSON:
        common.print_json(common.envelope("backtest sizing", None, now, report))
        return
    _print(report)


def backtest_curves(
    series: Annotated[Path, typer.Argument(help="Samples: a table with tid, metric (memory in MB, cpu in %), t, v.")],
    tasks: Annotated[Path, typer.Option("--tasks", help="Task runs: tid, process, start, end, input size.")],
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps that an allocation may have.")] = 4,
    node: Annotated[float, typer.Option("--node", min=0.001, help="GiB of a node: the most that can be given.")] = 128,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Runs of ours, for its forests are random.")] = 1,
    sequence: Annotated[
        bool, typer.Option(help="Ours has the sequence model among its members, if the extra torch is installed.")
    ] = True,
    picture: PictureOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Memory given over time, and what was said of memory and CPU: ours, constant peak, k-Segments, median curve."""
    common.begin("backtest curves", output)
    from datetime import UTC, datetime

    from preprov.control.backtest_curves import run_curves_backtest
    from preprov.control.processes import single_threaded
    from preprov.profiles.sequence_teacher import available
    from preprov.sources.usage_series import read_usage

    now = datetime.now(UTC)
    fmt = common.picture_format(picture) if picture is not None else "png"
    with common.progress("backtest") as tell, single_threaded():
        tell(0.0, "reading")
        read = read_usage(series, tasks)
        report = run_curves_backtest(
            read.runs,
            steps=steps,
            node_gib=node,
            seeds=seeds,
            sequence=sequence,
            progress=lambda done, total: tell(done / total, f"{done} of {total}"),
        )
    notes = list(read.notes)
    if sequence and not available():
        notes.append("sequence model left out: torch is not installed (pip install 'preprov[torch]')")
    report |= {"rejects": len(read.rejects), "notes": notes}
    if picture is not None:
        from preprov.figures import curves_backtest

        common.write_picture(picture, curves_backtest(report, fmt=fmt))
    if output is Output.JSON:
        common.print_json(common.envelope("backtest curves", None, now, report))
        return
    columns = list(next(iter(report["methods"].values())))
    rows = [(name, *(f"{scores[c]:.3g}" for c in columns)) for name, scores in report["methods"].items()]
    common.print_table("Memory over time", ("method", *columns), rows)
    told = list(next(iter(report["members"].values())))
    rows = [(name, *(f"{scores[c]:.3g}" for c in told)) for name, scores in report["members"].items()]
    common.print_table("Models in ours, each alone", ("model", *told), rows)
    for name, lost in report["after_a_tenth"].items():
        typer.echo(f"loss after a tenth, {name}: memory {lost['wql_memory']:.3g}, cpu {lost['wql_cpu']:.3g}")
    chances = report["out_of_memory"]
    if chances["skill"] is not None:
        typer.echo(
            f"chance of too little memory: Brier {chances['brier']:.3g}, of climatology "
            f"{chances['brier_climatology']:.3g}; {chances['asked']} asked"
        )
    if report["rejects"]:
        typer.echo(f"{report['rejects']} run(s) rejected: no samples, or no start or end")
    for note in report["notes"]:
        typer.echo(note)


def backtest_runtime(
    trace: Annotated[Path, typer.Argument(help="A job log (.swf, .swf.gz), or an execution trace as for sizing.")],
    judged: Annotated[int, typer.Option("--judged", min=1, help="Tasks judged at most, drawn evenly.")] = 16_000,
    map_: MapOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Runtimes: CRPS and coverage of ours, a quantile forest, and the residuals of requested time."""
    common.begin("backtest runtime", output)
    from datetime import UTC, datetime

    from preprov.control.backtest_runtime import run_runtime_backtest
    from preprov.control.processes import single_threaded

    now = datetime.now(UTC)
    with common.progress("backtest") as tell, single_threaded():
        tell(0.0, "reading")
        rows, rejects = _runtimes(trace, map_)
        report = run_runtime_backtest(
            rows, most=judged, progress=lambda done, total: tell(done / total, f"{done} of {total}")
        )
    report |= {"rejects": rejects}
    if output is Output.JSON:
        common.print_json(common.envelope("backtest runtime", None, now, report))
        return
    columns = list(next(iter(report["methods"].values())))
    scores = report["methods"] | report["members"]
    rows_ = [(name, *(f"{told[c]:.3f}" for c in columns)) for name, told in scores.items()]
    common.print_table(f"Runtimes, {report['summary']['protocol']}", ("method", *columns), rows_)
    if (across := report["transfer"]) is not None:
        typer.echo(f"median error on another machine: {across['moved']:.0%}; {across['as_it_was']:.0%} if not moved")
    if rejects:
        typer.echo(f"{rejects} row(s) rejected")


def _runtimes(trace: Path, map_: list[str] | None) -> "tuple[RuntimeRows, int]":
    from preprov.profiles.runtime_rows import rows_of_executions, rows_of_work

    if ".swf" in trace.suffixes:
        from preprov.model.worktable import WorkTable
        from preprov.sources.swf import SwfSource

        batches = list(SwfSource(trace).read())
        return rows_of_work(WorkTable.concat([b.work for b in batches])), sum(len(b.rejects) for b in batches)
    from preprov.sources.executions import read_executions

    read = read_executions(trace, common.columns(map_))
    return rows_of_executions(read.executions), len(read.rejects)


def _print(report: Mapping[str, Any]) -> None:
    names = list(next(iter(report["workflows"].values())))
    rows = [(w, *(_cell(scores[n]) for n in names)) for w, scores in report["workflows"].items()]
    common.print_table("GiB hours wasted / failed attempts / MAQ", ("workflow", *names), rows)
    for name, told in report["summary"].items():
        ratio = told["ratio_vs_best_peer"]
        typer.echo(
            f"{name}: {'' if ratio is None else f'{ratio:.2f} of '}{told['best_peer']}; a failure counts "
            f"{report['details'][name]['failure_price']:g}"
        )
    if report["rejects"]:
        typer.echo(f"{report['rejects']} row(s) rejected: no runtime, no process, or not ended well")
    for note in report["notes"]:
        typer.echo(note)


def _cell(scores: Mapping[str, float]) -> str:
    return f"{scores['gbh']:.1f} / {scores['failures']:.0f} / {scores['maq']:.2f}"
