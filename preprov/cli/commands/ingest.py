"""ingest swf|wfformat|dags|nextflow|series: history from files."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from preprov.cli import common
from preprov.cli.common import MapOption, Output, OutputOption, PoolOption

if TYPE_CHECKING:
    from preprov.app import App
    from preprov.contracts import IngestResult, WorkSource

ingest_app = typer.Typer(
    help="Bring history into the store; the same file twice changes nothing.", no_args_is_help=True
)
EpochOption = Annotated[
    str | None, typer.Option("--epoch", help="The instant that second 0 of the file stands for, if it does not say.")
]
SourceTzOption = Annotated[str | None, typer.Option("--tz", help="Zone of the file's wall clock, if it does not say.")]
FileArgument = Annotated[Path, typer.Argument(help="The file (or folder) to read.")]


def attach(app: typer.Typer) -> None:
    """Hang the commands on the root."""
    app.add_typer(ingest_app, name="ingest")


@ingest_app.command()
def swf(
    file: FileArgument,
    pool: PoolOption,
    epoch: EpochOption = None,
    tz: SourceTzOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """A job log in the Standard Workload Format (.swf, .swf.gz)."""
    with common.opened("ingest swf", output) as app:
        from preprov.sources.swf import SwfSource

        when = common.parse_time(epoch, "UTC", app.ctx.clock.now())
        _ingest(app, "ingest swf", pool, SwfSource(file, epoch=when, zone=tz), output)


@ingest_app.command()
def wfformat(
    file: FileArgument,
    pool: PoolOption,
    at: Annotated[
        str | None, typer.Option("--at", help="Submit time of instances that do not say when they ran.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """WfCommons instances (WfFormat 1.5): a JSON file, a folder, or a tar archive."""
    with common.opened("ingest wfformat", output) as app:
        from preprov.sources.wfformat import WfFormatSource

        when = common.parse_time(at, app.config.controller.zone, app.ctx.clock.now())
        _ingest(app, "ingest wfformat", pool, WfFormatSource(file, at=when), output)


@ingest_app.command()
def dags(
    file: FileArgument,
    pool: PoolOption,
    map_: MapOption = None,
    epoch: Annotated[
        str | None, typer.Option("--epoch", help="The instant that second 0 of the file stands for.")
    ] = None,
    tz: Annotated[str | None, typer.Option("--tz", help="Zone of the schedules, if the file does not say.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """A table of DAG tasks (Parquet or CSV), one row a task."""
    with common.opened("ingest dags", output) as app:
        from preprov.sources.tables import DagTableSource

        when = common.parse_time(epoch, "UTC", app.ctx.clock.now())
        likely = (app.ctx.pools[pool].zone,) if pool in app.ctx.pools else ()
        source = DagTableSource(
            file, mapping=common.columns(map_), epoch=when, zone=tz, likely=(*likely, app.config.controller.zone)
        )
        _ingest(app, "ingest dags", pool, source, output)


@ingest_app.command()
def nextflow(
    file: FileArgument,
    pool: PoolOption,
    dag: Annotated[
        str | None, typer.Option("--dag", help="What the workflow is called; the file's name if left out.")
    ] = None,
    tenant: Annotated[str, typer.Option("--tenant", help="Whose it is.")] = "default",
    tz: SourceTzOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """A trace of Nextflow (nextflow run -with-trace), or several in one table: what each task used."""
    with common.opened("ingest nextflow", output) as app:
        from preprov.sources.nextflow import NextflowSource

        _ingest(app, "ingest nextflow", pool, NextflowSource(file, dag=dag, tenant=tenant, zone=tz), output)


@ingest_app.command()
def series(
    file: FileArgument,
    pool: PoolOption,
    name: Annotated[
        str | None, typer.Option("--series", help="Which series of the file; needed if it holds several.")
    ] = None,
    map_: MapOption = None,
    tz: SourceTzOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """A demand series (columns series, ts, demand)."""
    with common.opened("ingest series", output) as app:
        from preprov.control.ingesting import ingest_series
        from preprov.model.errors import ConfigError
        from preprov.sources.files import digest_of
        from preprov.sources.series import read_series

        found = read_series(file, name=name, mapping=common.columns(map_), zone=tz)
        if len(found) > 1:
            raise ConfigError(
                f"{file.name} holds {len(found)} series",
                hint=f"choose one with --series: {', '.join(s.name for s in found[:8])}",
            )
        digest = digest_of(file, f"series={found[0].name}", f"zone={tz}")
        known = pool in app.ctx.pools
        result = ingest_series(app.ctx, pool, f"{file.name}:{found[0].name}", digest, found[0])
        _report(app, "ingest series", pool, result, known, output)


def _ingest(app: "App", command: str, pool: str, source: "WorkSource", output: Output) -> None:
    from dataclasses import replace

    from preprov.control.ingesting import ingest_work
    from preprov.sources.rejects import rejects_file

    known = pool in app.ctx.pools
    path = app.settings.home / "rejects" / pool / f"{source.key}.rejects.jsonl"
    with rejects_file(path) as rejects, common.progress(f"ingest {source.key}") as progress:
        result = ingest_work(app.ctx, pool, source, sink=rejects.write, progress=progress)
    kept = str(path) if result.rejects else ""
    _report(app, command, pool, replace(result, rejects_file=kept), known, output)


def _report(app: "App", command: str, pool: str, result: "IngestResult", known: bool, output: Output) -> None:
    created = not known
    if output is Output.JSON:
        body = {
            "key": result.key,
            "runs": result.runs,
            "tasks": result.tasks,
            "samples": result.samples,
            "rejects": result.rejects,
            "rejects_file": result.rejects_file or None,
            "already": result.already,
            "notes": list(result.notes),
            "imputed": dict(result.imputed),
            "pool_created": created,
        }
        common.print_json(common.envelope(command, pool, app.ctx.clock.now(), body))
    elif result.already:
        typer.echo(f"{result.key}: already in pool {pool}; nothing changed")
    else:
        typer.echo(
            f"{result.key}: {result.runs} runs, {result.tasks} tasks into pool {pool}; {result.rejects} rejected"
        )
    if result.samples:
        common.say(f"{result.samples} samples of what they used")
    for note in result.notes:
        common.say(f"note: {note}")
    for column, count in result.imputed.items():
        common.say(f"note: {count} values of {column} were missing and were filled in")
    if result.rejects_file:
        common.say(f"rejected rows, with line and reason: {result.rejects_file}")
    if created:
        common.say(
            f"pool {pool} is not configured: it is taken as one in mode observe with the reference node "
            "(16 vCPU, 64 GiB, 0.8064 USD/h); add a [[pool]] to preprov.toml to change that"
        )
    sys.stderr.flush()
