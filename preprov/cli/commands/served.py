"""pool served: places that run work on a pool's nodes by their own means, as they are and as they should be."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from preprov.cli import common
from preprov.cli.common import Output, OutputOption

if TYPE_CHECKING:
    from preprov.contracts import Serves
    from preprov.control.context import Context
    from preprov.model.pools import Pool


def attach(pool_app: typer.Typer) -> None:
    """Hang the command on `pool`."""
    pool_app.command("served")(pool_served)


def pool_served(
    pool: Annotated[str | None, typer.Argument(help="Name of the pool; all if left out.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Ask each place that is served ([[serve]]) what is set there, and say what preprov would set. Writes nothing."""
    with common.opened("pool served", output) as app:
        pools = [app.ctx.pool(pool)] if pool else list(app.ctx.pools.values())
        found = [_place(app.ctx, p, place) for p in pools for place in app.ctx.served.get(p.name, ())]
        if output is Output.JSON:
            common.print_json(common.envelope("pool served", pool, app.ctx.clock.now(), {"places": found}))
        else:
            _print(found)
    raise typer.Exit(0 if all(not f["error"] for f in found) else 1)


def _place(ctx: "Context", pool: "Pool", place: "Serves") -> dict[str, Any]:
    from preprov.control.observing import observe
    from preprov.control.serving import group_of, rooms_of, served
    from preprov.control.trust import in_force
    from preprov.control.workers import memory_of
    from preprov.model.errors import PreprovError

    body: dict[str, Any] = {
        "place": place.service.name,
        "pool": pool.name,
        "mode": str(in_force(ctx, pool)),
        "slots": None,
        "nodes": [],
        "workers": {},
        "settings": [],
        "error": "",
    }
    try:
        rooms = rooms_of(ctx, pool, observe(ctx, pool))
        found = served(place, place.look(), rooms, in_force(ctx, pool))
    except PreprovError as e:
        return {**body, "error": str(e)}
    adopted = ctx.ports.adoptions.in_force(pool.name).get(group_of(place))
    on = memory_of(ctx, place).on
    names = {node: place.worker_name(node, serial) for node, serial in on.items()} if place.service.workers else {}
    settings = [
        {
            "setting": name,
            "now": found.seen.settings.get(name),
            "wanted": value,
            "held": found.seen.held.get(name),
            "found": adopted.baseline.get(name) if adopted else None,
        }
        for name, value in found.wanted.items()
    ]
    workers = {node: len(found.seen.runs.get(name, ())) for node, name in names.items()}
    return {**body, "slots": found.slots, "nodes": list(found.nodes), "workers": workers, "settings": settings}


def _print(found: list[dict[str, Any]]) -> None:
    if not found:
        typer.echo("no place is served: [[serve]] in preprov.toml")
    for f in found:
        if f["error"]:
            typer.echo(f"{f['place']} ({f['pool']}): {f['error']}")
            continue
        ran = f"; workers on {len(f['workers'])}, {sum(f['workers'].values())} runs on them" if f["workers"] else ""
        typer.echo(f"{f['place']} ({f['pool']}, {f['mode']}): {len(f['nodes'])} warm nodes, {f['slots']} slots{ran}")
        columns = ("setting", "now", "wanted", "runs that hold one", "as found")
        rows = [
            (s["setting"], *("none" if s[k] is None else s[k] for k in ("now", "wanted")), s["held"], s["found"])
            for s in f["settings"]
        ]
        common.print_table("", columns, rows)
