"""node package|user-data: how a machine of a cloud becomes a node."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from preprov.cli import common
from preprov.cli.common import Output, OutputOption

if TYPE_CHECKING:
    from preprov.model.pools import Pool
    from preprov.pools.nodes.userdata import Source

node_app = typer.Typer(help="How a machine of a cloud becomes a node.", no_args_is_help=True)
_CLOUDS = ("aws", "gcp", "azure")


def attach(app: typer.Typer) -> None:
    """Hang the commands on the root."""
    app.add_typer(node_app, name="node")


@node_app.command("package")
def node_package(
    file: Annotated[Path, typer.Argument(help="Where the archive goes.", dir_okay=False)],
    output: OutputOption = Output.TABLE,
) -> None:
    """Write the agent as an archive, to be put where nodes can fetch it."""
    common.begin("node package", output)
    from datetime import UTC, datetime

    from preprov.pools.nodes.package import agent_package

    package = agent_package()
    file.write_bytes(package.content)
    body = {"file": str(file), "bytes": len(package.content), "sha256": package.sha256}
    if output is Output.JSON:
        common.print_json(common.envelope("node package", None, datetime.now(UTC), body))
        return
    typer.echo(f"{package.sha256}  {file}")


@node_app.command("user-data")
def node_user_data(
    pool: Annotated[str, typer.Argument(help="Name of the pool.")],
    cloud: Annotated[str | None, typer.Option("--cloud", help="aws, gcp or azure; as the pool's groups say.")] = None,
    agent_url: Annotated[
        str | None, typer.Option("--agent-url", help="Where the agent's archive is: https://, s3://, gs://.")
    ] = None,
    installed: Annotated[bool, typer.Option("--installed", help="The machine's image has the agent.")] = False,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Where tasks are taken; 0 = nowhere.")] = 9411,
    file: Annotated[
        Path | None,
        typer.Option("--file", help="Write what the cloud is given, compressed if need be.", dir_okay=False),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print the user data that makes machines nodes of a pool: what it preloads, and the agent that checks it."""
    with common.opened("node user-data", output) as app:
        from preprov.pools.nodes.package import agent_package
        from preprov.pools.nodes.userdata import user_data

        wanted = app.ctx.pool(pool)
        package = agent_package()
        made = user_data(wanted, _cloud(wanted, cloud), package, _source(agent_url, installed), port=port)
        if file is not None:
            file.write_bytes(made.content)
        if output is Output.JSON:
            body = {
                "cloud": made.cloud,
                "bytes": len(made.content),
                "limit": made.limit,
                "compressed": made.compressed,
                "agent_sha256": package.sha256,
                "script": made.script,
                "file": str(file) if file else None,
            }
            common.print_json(common.envelope("node user-data", pool, app.ctx.clock.now(), body))
            return
        if file is None:
            typer.echo(made.script, nl=False)
        common.say(f"{len(made.content):,} of {made.limit:,} bytes{', compressed' if made.compressed else ''}")


def _cloud(pool: "Pool", asked: str | None) -> str:
    from preprov.model.errors import ConfigError

    found = {asked} if asked else {str(g.options.get("vendor") or g.provider) for g in pool.groups} & set(_CLOUDS)
    if len(found) != 1:
        what = "has groups of several clouds" if found else "has no group of a cloud"
        raise ConfigError(f"pool {pool.name} {what}", where=pool.name, hint=f"--cloud {' | '.join(_CLOUDS)}")
    return found.pop()


def _source(url: str | None, installed: bool) -> "Source":
    from preprov.pools.nodes.userdata import Source

    if url:
        return Source("url", url)
    return Source("installed" if installed else "embedded")
