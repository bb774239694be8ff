"""pool recall: lead times that a vendor or a scheduler has on record, so that day 0 has some."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from preprov.cli import common
from preprov.cli.common import Output, OutputOption

if TYPE_CHECKING:
    from preprov.control.backfilling import Recalled


def attach(pool_app: typer.Typer) -> None:
    """Hang the command on `pool`."""
    pool_app.command("recall")(pool_recall)


def pool_recall(
    pool: Annotated[str, typer.Argument(help="Name of the pool.")],
    last: Annotated[str, typer.Option("--last", help="How far back: 30d, 12h.")] = "42d",
    output: OutputOption = Output.TABLE,
) -> None:
    """Learn lead times from what the vendor or the scheduler has on record; asks only, writes to no cloud.

    What was kept before, or seen by preprov itself, is not counted twice. `pool adopt` does so by itself.
    """
    with common.opened("pool recall", output) as app:
        from preprov.control.backfilling import recall

        target = app.ctx.pool(pool)
        found = recall(app.ctx, target, app.ctx.clock.now() - common.parse_span(last))
        if output is Output.JSON:
            body = {"groups": [recalled_json(r) for r in found]}
            common.print_json(common.envelope("pool recall", pool, app.ctx.clock.now(), body))
        else:
            show_recalled(found, target.zone)
    raise typer.Exit(0 if all(not r.error for r in found) else 1)


def recalled_json(r: "Recalled") -> dict[str, Any]:
    """One group as JSON."""
    return {
        "group": r.group,
        "found": r.found,
        "new": r.new,
        "known": r.known,
        "oldest": r.oldest,
        "means": r.means,
        "left_out": [{"why": why, "count": n} for why, n in r.left_out],
        "error": r.error,
    }


def show_recalled(found: "tuple[Recalled, ...]", zone: str) -> None:
    """For people."""
    for r in found:
        if r.error:
            typer.echo(f"group {r.group}: what is on record could not be asked: {r.error}")
            continue
        since = f" since {common.both_times(r.oldest, zone)}" if r.oldest else ""
        typer.echo(f"group {r.group}: {r.found} warmings on record{since}, {r.new} of them new; {r.means}")
        for why, n in r.left_out:
            typer.echo(f"  left out {n}: {why}")
