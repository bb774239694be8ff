"""limit list: quotas and budgets that pools share, who has what of them, and what is left."""

from typing import TYPE_CHECKING, Any

import typer

from preprov.cli import common
from preprov.cli.common import Output, OutputOption

if TYPE_CHECKING:
    from preprov.app import App
    from preprov.model.limits import SharedLimit

limit_app = typer.Typer(help="Quotas and budgets that pools share.", no_args_is_help=True)


def attach(app: typer.Typer) -> None:
    """Hang the commands on the root."""
    app.add_typer(limit_app, name="limit")


@limit_app.command("list")
def limit_list(output: OutputOption = Output.TABLE) -> None:
    """Each limit across pools with what each pool has of it now."""
    with common.opened("limit list", output) as app:
        found = [_limit(app, limit) for limit in app.ctx.limits]
        if output is Output.JSON:
            common.print_json(common.envelope("limit list", None, app.ctx.clock.now(), {"limits": found}))
            return
        columns = ("limit", "pool", "nodes", "cores", "USD today", "USD/h")
        rows: list[tuple[object, ...]] = []
        for x in found:
            rows += [(x["name"], u["pool"], *_figures(u)) for u in x["use"]]
            caps = (x["max_nodes"], x["max_cpu"], x["max_usd_per_day"], None)
            rows.append((x["name"], "may have in all", *("" if c is None else f"{c:g}" for c in caps)))
        common.print_table("", columns, rows, note="" if found else "no pools share a limit: [[limit]] in preprov.toml")


def _figures(use: dict[str, Any]) -> tuple[str, ...]:
    return (
        *(str(use["nodes"]), f"{use['cores']:g}"),
        *(f"{use['usd_today']:.2f}", f"{use['usd_per_hour']:.2f}"),
    )


def _limit(app: "App", limit: "SharedLimit") -> dict[str, Any]:
    from preprov.control.sharing import used_by

    use = [(name, used_by(app.ctx, app.ctx.pools[name], limit)) for name in sorted(limit.members)]
    return {
        "name": limit.name,
        "max_nodes": limit.max_nodes,
        "max_cpu": limit.max_cpu,
        "max_usd_per_day": limit.max_usd_per_day,
        "use": [
            {
                "pool": name,
                "nodes": u.nodes,
                "cores": u.cpu,
                "usd_today": u.spent_today_usd,
                "usd_per_hour": u.usd_per_hour,
            }
            for name, u in use
        ],
    }
