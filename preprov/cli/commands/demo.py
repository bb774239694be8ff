"""demo: the whole main job on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from preprov.cli import common
from preprov.cli.common import Output, OutputOption

if TYPE_CHECKING:
    from preprov.demo.demonstration import Demonstration, View


def attach(app: typer.Typer) -> None:
    """Hang the command on the root."""
    app.command("demo")(demo)


def demo(
    seed: Annotated[int, typer.Option("--seed", help="Of the company's work: the same seed, the same night.")] = 0,
    minutes: Annotated[float, typer.Option("--minutes", min=5.0, max=120.0, help="Of the night to play.")] = 30.0,
    speed: Annotated[
        float | None,
        typer.Option("--speed", min=1.0, max=60.0, help="Seconds of the night per second: 21, or 10 with a cloud."),
    ] = None,
    report: Annotated[Path | None, typer.Option("--report", help="Where the report goes.", dir_okay=False)] = None,
    home: Annotated[
        Path | None, typer.Option("--home", help="Folder of the demonstration, wiped first; demo below PREPROV_HOME.")
    ] = None,
    provider: Annotated[
        str, typer.Option("--provider", help="local, or the cloud whose fake is played against: aws, gcp, azure.")
    ] = "local",
    keep: Annotated[bool, typer.Option("--keep", help="Leave the nodes running at the end.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Warm real nodes on this machine before a wave of work, and compare with what others would have done."""
    common.begin("demo", output)
    from datetime import UTC, datetime

    from preprov.demo.demonstration import Director, Wishes, usual_speed
    from preprov.demo.scene import POOL
    from preprov.logs import configure
    from preprov.settings import Settings

    configure()
    wishes = Wishes(
        home=(home or Settings.load().home / "demo").absolute(),
        seed=seed,
        minutes=minutes,
        speed=speed or usual_speed(provider),
        report=report.absolute() if report else None,
        keep=keep,
        provider=provider,
    )
    done = Director(wishes, common.say, _view).run()
    if output is Output.JSON:
        common.print_json(common.envelope("demo", POOL, datetime.now(UTC), done.as_dict()))
        return
    _print(done)


def _view(zone: str) -> "View":
    import sys

    from preprov.demo.view import LinesView, ScreenView

    if not sys.stderr.isatty():
        return LinesView(common.say, zone)
    from rich.console import Console

    return ScreenView(Console(stderr=True), zone)


def _print(done: "Demonstration") -> None:
    from preprov.demo.report import COLUMNS, row, verdict

    typer.echo("")
    common.print_table("", COLUMNS, [row(o) for o in done.outcomes])
    typer.echo("")
    typer.echo(verdict(done.outcomes, done.agreement))
    for note in done.notes:
        typer.echo(note)
    if done.failed:
        typer.echo(f"{done.failed} task instances failed")
    typer.echo(f"report: {done.report}")
    typer.echo(f"the night again: PREPROV_HOME={done.wishes.home} preprov run list   (then run show, why node ...)")
