"""kubernetes manifests."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from preprov.cli import common
from preprov.cli.common import Output, OutputOption

if TYPE_CHECKING:
    from preprov.model.pools import Pool

kubernetes_app = typer.Typer(help="What a cluster needs for preprov to hold room in it.", no_args_is_help=True)


def attach(app: typer.Typer) -> None:
    """Hang the commands on the root."""
    app.add_typer(kubernetes_app, name="kubernetes")


@kubernetes_app.command("manifests")
def kubernetes_manifests(
    pool: Annotated[list[str] | None, typer.Option("--pool", "-p", help="Only these pools; repeat it.")] = None,
    unit: Annotated[
        bool, typer.Option("--unit", help="Instead: what preprov makes for each node's room, to be read.")
    ] = False,
    account: Annotated[str, typer.Option("--account", help="Name of the service account.")] = "preprov",
    output: OutputOption = Output.TABLE,
) -> None:
    """Print what has to be in the cluster before: a namespace, an account and its rights, and what the way needs.

    A list in JSON, for `kubectl apply -f -`. Nothing is asked of the cluster, and nothing is written to it.
    """
    common.begin("kubernetes manifests", output)
    from datetime import UTC, datetime

    from preprov import configfile
    from preprov.pools.kubernetes.rights import listed
    from preprov.settings import Settings

    pools = configfile.load(Settings.load().config_path()).pools()
    now = datetime.now(UTC)
    found = [g for name, p in pools.items() if not pool or name in pool for g in _groups(p, account, now)]
    if output is Output.JSON:
        common.print_json(common.envelope("kubernetes manifests", None, now, {"groups": found}))
        return
    things = [g["unit"] for g in found] if unit else [thing for g in found for thing in g["setup"]]
    typer.echo(json.dumps({"apiVersion": "v1", "kind": "List", "items": listed(things)}, indent=2))
    if not found:
        common.say('no group has provider = "kubernetes"')


def _groups(pool: "Pool", account: str, now: Any) -> list[dict[str, Any]]:
    from preprov.clocks import WallClock
    from preprov.contracts import LaunchRequest, PoolProvider
    from preprov.pools.kubernetes.options import kubernetes_groups
    from preprov.pools.kubernetes.provider import opened, rules_of, way_of
    from preprov.pools.kubernetes.rights import account as service_account
    from preprov.pools.kubernetes.rights import roles
    from preprov.pools.registry import providers

    def vendor(name: str) -> PoolProvider:
        return providers([name], Path(), WallClock())[name]

    out = []
    for group in kubernetes_groups(pool):
        way = way_of(group, partial(opened, group), WallClock(), vendor)
        asked = LaunchRequest(pool, group.group.name, group.group.offerings[0], 1, "an-example", pool.preload)
        rights = [service_account(group.namespace, account), *roles(rules_of(group, way), group.namespace, account)]
        made = {"way": group.way, "setup": [*way.setup(), *rights], "unit": way.sent(asked)}
        out.append({"pool": pool.name, "group": group.group.name, **made})
    return out
