"""preload plan: which images and datasets should lie on a pool's nodes, baked in or staged, and which should not."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from preprov.cli import common
from preprov.cli.common import AtOption, Output, OutputOption, PoolOption

if TYPE_CHECKING:
    from preprov.control.preloading import Advised
    from preprov.planning.preload import Advice

preload_app = typer.Typer(help="What lies on nodes before work starts.", no_args_is_help=True)


def attach(app: typer.Typer) -> None:
    """Hang the commands on the root."""
    app.add_typer(preload_app, name="preload")


@preload_app.command("plan")
def preload_plan(
    pool: PoolOption,
    at: AtOption = None,
    days: Annotated[float, typer.Option("--days", min=0.1, help="How far back ad-hoc runs are counted.")] = 7.0,
    disk: Annotated[float | None, typer.Option("--disk", min=0, help="GiB for assets on a node.")] = None,
    rate: Annotated[float | None, typer.Option("--rate", min=0.0001, help="GiB a second that a node fetches.")] = None,
    bakes: Annotated[
        bool | None, typer.Option("--bakes/--no-bakes", help="Whether the nodes' image is ours to make.")
    ] = None,
    toml: Annotated[bool, typer.Option("--toml", help="Print [pool.preload] for preprov.toml instead.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Bake into the image, stage at boot, or leave to first use: each asset by time saved per GiB, and its money."""
    with common.opened("preload plan", output) as app:
        from preprov.control.preloading import advise

        target = app.ctx.pool(pool)
        ctx = app.ctx.at(common.parse_time(at, target.zone, app.ctx.clock.now()))
        found = advise(ctx, target, days=days, disk_gib=disk, fetch_gib_per_s=rate, bakes=bakes)
        if output is Output.JSON:
            common.print_json(common.envelope("preload plan", pool, ctx.clock.now(), _document(found)))
        elif toml:
            typer.echo(_toml(found))
        else:
            _print(found)


def _document(found: "Advised") -> dict[str, Any]:
    site = found.site
    return {
        "site": {
            "launches_per_day": site.launches_per_day,
            "disk_gib": site.disk_gib,
            "usd_per_hour": site.usd_per_hour,
            "fetch_gib_per_s": site.fetch_gib_per_s,
            "bakes": site.bakes,
        },
        "assets": [_asset(a) for a in found.advice],
        "notes": list(found.notes),
    }


def _asset(a: "Advice") -> dict[str, Any]:
    from preprov.model.work import ImageRef

    return {
        "asset": a.asset.key,
        "kind": "image" if isinstance(a.asset.ref, ImageRef) else "dataset",
        "placing": str(a.placing),
        "size_gib": a.asset.size_gib,
        "uses_per_day": a.asset.uses_per_day,
        "changes_per_day": a.asset.changes_per_day,
        "saves_s_per_day": a.saves_s_per_day,
        "saves_s_per_day_per_gib": a.per_gib,
        "usd_per_day": {str(k): v for k, v in a.usd_per_day.items()},
        "why": a.why,
    }


def _print(found: "Advised") -> None:
    site = found.site
    typer.echo(
        f"{site.launches_per_day:.3g} launches a day, {site.disk_gib:g} GiB for assets, "
        f"{site.fetch_gib_per_s:.3g} GiB/s" + ("" if site.bakes else ", no image of ours")
    )
    rows = []
    for a in found.advice:
        r = _asset(a)
        size = "?" if r["size_gib"] is None else f"{r['size_gib']:g}"
        best = r["usd_per_day"].get(r["placing"], 0.0)
        rows.append(
            (
                r["asset"],
                r["placing"],
                size,
                f"{r['uses_per_day']:.3g}",
                f"{r['saves_s_per_day']:.0f}",
                f"{best:+.2f}",
                a.why,
            )
        )
    columns = ("asset", "do", "GiB", "uses a day", "saves s a day", "USD a day", "why")
    common.print_table("", columns, rows, note="" if rows else "no task of this pool reads an image or a dataset")
    for note in found.notes:
        common.say(f"note: {note}")


def _toml(found: "Advised") -> str:
    """What the pool's section would be: staged assets, and baked ones, which are checked all the same."""
    import json

    from preprov.model.images import is_unpinned
    from preprov.planning.preload import preload_of

    made = preload_of(found.advice)
    unpinned = [i.uri for i in made.images if is_unpinned(i)]
    images = [{"uri": i.uri, **({"digest": i.digest} if i.digest else {})} for i in made.images if not is_unpinned(i)]
    datasets = [
        {
            "uri": d.uri,
            **({"version": d.version} if d.version else {}),
            **({"sha256": d.sha256} if d.sha256 else {}),
            **({"size_gib": d.size_gib} if d.size_gib is not None else {}),
        }
        for d in made.datasets
    ]

    def inline(row: dict[str, Any]) -> str:
        return "  { " + ", ".join(f"{k} = {json.dumps(v)}" for k, v in row.items()) + " },"

    lines = ["[pool.preload]", *(f"# {uri}: say its digest" for uri in unpinned)]
    for name, rows in (("images", images), ("datasets", datasets)):
        if rows:
            lines += [f"{name} = [", *(inline(r) for r in rows), "]"]
    return "\n".join(lines)
