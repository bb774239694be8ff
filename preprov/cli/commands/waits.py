"""waits: on what tasks waited, and on what they will tonight."""

import html
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from preprov.cli import common
from preprov.cli.common import AnyPoolOption, AtOption, Output, OutputOption, PictureOption, TzOption

if TYPE_CHECKING:
    from preprov.control.waits import Bottleneck, CauseTotal, WaitReport

_BAR: Final = 30
_DRAWN: Final = 16

LastOption = Annotated[str, typer.Option("--last", help="How far back: 7d, 12h, 30m, or an ISO time.")]
TopOption = Annotated[int, typer.Option("--top", min=1, help="How many causes and DAGs the tables show.")]
ReportOption = Annotated[Path | None, typer.Option("--report", help="Write an HTML page with picture and tables.")]


def attach(app: typer.Typer) -> None:
    """Hang the command on the root."""
    app.command("waits")(waits)


def waits(
    last: LastOption = "7d",
    pool: AnyPoolOption = None,
    top: TopOption = 10,
    picture: PictureOption = None,
    report: ReportOption = None,
    at: AtOption = None,
    tz: TzOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Take every task's wait apart: slots and limits, scheduler, node, image, data; and name tonight's bottlenecks."""
    fmt = common.picture_format(picture) if picture else "png"
    with common.opened("waits", output) as app:
        from preprov.control import waits as control

        home = app.ctx.pools.get(pool or "") or next(iter(app.ctx.pools.values()), None)
        zone = tz or (home.zone if home else app.config.controller.zone)
        ctx = app.ctx.at(common.parse_time(at, zone, app.ctx.clock.now()))
        names = [ctx.pool(pool).name] if pool else sorted({*ctx.pools, *ctx.ports.work.pools()})
        since = common.since_time(last, "7d", zone, ctx.clock.now())
        found = control.report(ctx, names, since, zone=zone)
        if picture:
            common.write_picture(picture, _drawn(found, zone, fmt))
        if report:
            common.write_picture(report, _page(found, zone, last, top).encode(), option="--report")
        if output is Output.JSON:
            common.print_json(common.envelope("waits", pool, ctx.clock.now(), body(found)))
            return
        _tell(found, zone, top)


# --------------------------------------------------------------------------- JSON


def body(found: "WaitReport") -> dict[str, Any]:
    """The document without its envelope."""
    from preprov.model.waits import FAMILIES

    return {
        "since": found.since,
        "until": found.until,
        "pools": list(found.pools),
        "tasks": found.tasks,
        "hours": found.hours,
        "by_family": {f: found.of_family(f) for f in FAMILIES},
        "unknown_ratio": found.unknown,
        "causes": [_cause(c) for c in found.causes],
        "dags": [
            {
                "dag_id": d.dag_id,
                "tasks": d.tasks,
                "hours": d.hours,
                "by_family": dict(d.by_family),
                "worst": _cause(d.worst),
            }
            for d in found.dags
        ],
        "timeline": [
            {"at": at, "by_family": dict(zip(FAMILIES, row.tolist(), strict=True))}
            for at, row in zip(found.starts, found.timeline, strict=True)
        ],
        "waiting": found.waiting,
        "waiting_hours": found.waiting_hours,
        "tonight": [_hour(b) for b in found.tonight],
    }


def _cause(c: "CauseTotal") -> dict[str, Any]:
    return {
        "cause": str(c.cause),
        "family": c.family,
        "source": c.source,
        "name": c.name,
        "hours": c.hours,
        "tasks": c.tasks,
        "slots": c.slots,
    }


def _hour(b: "Bottleneck") -> dict[str, Any]:
    return {
        "at": b.at,
        "limit": _cause(b.limit) if b.limit else None,
        "limit_hours": b.limit_hours,
        "node_hours": b.node_hours,
        "nodes_help": b.nodes_help,
        "says": b.words(),
    }


# --------------------------------------------------------------------------- for people


def _tell(found: "WaitReport", zone: str, top: int) -> None:
    period = f"{common.both_times(found.since, zone)} to {common.both_times(found.until, zone)}"
    typer.echo(f"{found.tasks:,} tasks started, {period}; {_told(found)}")
    if found.causes:
        common.print_table("\nWhat they waited for", CAUSES, _cause_rows(found, top))
        common.print_table("\nWhose tasks waited", DAGS, _dag_rows(found, top))
    if found.waiting:
        typer.echo(
            f"\n{found.waiting:,} tasks could start now and have not, {found.waiting_hours:.2f} h so far together"
        )
    typer.echo("\nThe next hours")
    for line in _tonight(found, zone):
        typer.echo(f"  {line}")


CAUSES: Final = ("", "kind", "hours", "share", "tasks", "")
DAGS: Final = ("DAG", "tasks", "hours", "limits", "scheduler", "node", "image", "data", "unknown", "mostly")


def _told(found: "WaitReport") -> str:
    supposed = found.of_family("scheduler") / found.hours if found.hours > 0 else 0.0
    return (
        f"they waited {found.hours:.2f} h together: {found.unknown:.1%} of it nobody knows for what, "
        f"{supposed:.1%} probably for their scheduler"
    )


def _cause_rows(found: "WaitReport", top: int) -> list[tuple[str, ...]]:
    longest = max((c.hours for c in found.causes), default=0.0) or 1.0
    return [
        (
            *(c.words(), c.family, f"{c.hours:.2f}", f"{c.hours / (found.hours or 1.0):.1%}", f"{c.tasks:,}"),
            "█" * max(round(_BAR * c.hours / longest), 1),
        )
        for c in found.causes[:top]
    ]


def _dag_rows(found: "WaitReport", top: int) -> list[tuple[str, ...]]:
    return [
        (d.dag_id, f"{d.tasks:,}", f"{d.hours:.2f}", *(f"{h:.2f}" for h in d.by_family.values()), d.worst.words())
        for d in found.dags[:top]
    ]


def _tonight(found: "WaitReport", zone: str) -> list[str]:
    """Hours that say the same are one line."""
    from datetime import timedelta

    out = []
    for words, same in groupby(found.tonight, key=lambda b: b.words()):
        hours = list(same)
        amount = sum(max(b.limit_hours, b.node_hours) for b in hours)
        until = hours[-1].at + timedelta(hours=1)
        told = "" if hours[0].nodes_help is None else f" ({amount:.2f} h of waiting)"
        out.append(f"{common.both_times(hours[0].at, zone)} to {common.both_times(until, zone)}: {words}{told}")
    return out


def _drawn(found: "WaitReport", zone: str, fmt: str) -> bytes:
    from preprov import figures

    causes = [(c.words(), c.family, c.hours) for c in found.causes[:_DRAWN]]
    return figures.waits_by_cause(found.starts, found.timeline, causes, zone, fmt=fmt)


def _page(found: "WaitReport", zone: str, last: str, top: int) -> str:
    from preprov.cli.replay_report import table
    from preprov.demo.report import PAGE, inline

    def listed(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
        return table(columns, rows) if rows else "<p>nothing</p>"

    hours = "".join(f"<li>{html.escape(line)}</li>" for line in _tonight(found, zone))
    parts = [
        f"<p>{found.tasks:,} tasks started; {_told(found)}.</p>",
        f"<figure>{inline(_drawn(found, zone, 'svg'), 'waits')}</figure>",
        "<h2>What they waited for</h2>",
        listed(CAUSES[:-1], [row[:-1] for row in _cause_rows(found, top)]),
        "<h2>Whose tasks waited</h2>",
        listed(DAGS, _dag_rows(found, top)),
        f"<h2>The next hours</h2><ul>{hours}</ul>",
    ]
    period = f"{common.both_times(found.since, zone)} to {common.both_times(found.until, zone)}"
    return PAGE.substitute(
        title="Where the waiting comes from",
        subtitle=html.escape(f"{period}: preprov waits --last {last}"),
        body="\n".join(parts),
    )
