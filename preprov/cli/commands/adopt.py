"""pool adopt NAME, pool adopt terraform."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from preprov.cli import common
from preprov.cli.commands.trust import PoolOrSource, adopt_pool
from preprov.cli.common import Output, OutputOption

if TYPE_CHECKING:
    from preprov.app import App
    from preprov.configfile import ConfigFile
    from preprov.model.pools import Pool
    from preprov.pools.terraform_declared import DeclaredPool

adopt_app = typer.Typer(cls=PoolOrSource, help="Start to manage groups that exist already.", no_args_is_help=True)
adopt_app.command("pool")(adopt_pool)


@adopt_app.callback()
def _adopt() -> None:
    """Start to manage groups that exist already: `pool adopt NAME`, or `pool adopt terraform SOURCE`."""


@adopt_app.command("terraform")
def adopt_terraform(
    source: Annotated[Path, typer.Argument(help="Folder of a root module, or a file: its state or outputs as JSON.")],
    pool: Annotated[str | None, typer.Option("--pool", "-p", help="Only this pool.")] = None,
    program: Annotated[str, typer.Option("--program", help="terraform, tofu, or a path.")] = "terraform",
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing: exit with 3 if there is anything to say.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Register the pools that Terraform declares, and say where they differ from it.

    New pools are appended to preprov.toml, in mode observe. One that is there already is left as it is.
    """
    common.begin("pool adopt terraform", output)
    from preprov import configfile
    from preprov.pools.terraform_sections import section
    from preprov.settings import Settings

    path = Settings.load().config_path()
    config = configfile.load(path)
    declared, drift = _declared(source, program, pool)
    folder = source if source.is_dir() else None
    sections = {d.name: section(d, folder) for d in declared}
    configured = config.pools()
    new = {n: s for n, s in sections.items() if n not in configured}
    pools = configured | _built(config, new)
    with common.opened("pool adopt terraform", output, pools=pools) as app:
        found = [_compared(app, d, sections[d.name], drift, new=d.name in new) for d in declared]
        now = app.ctx.clock.now()
    written = None if check or not new else _append(path or Path("preprov.toml"), new)
    if output is Output.JSON:
        body = {"source": str(source), "written": str(written) if written else None, "pools": found}
        common.print_json(common.envelope("pool adopt terraform", pool, now, body))
    else:
        _show(found, written)
    if check and any(f["state"] != "registered" or f["differences"] or f["drift"] for f in found):
        raise typer.Exit(3)


def _declared(source: Path, program: str, only: str | None) -> "tuple[tuple[DeclaredPool, ...], dict[str, list[str]]]":
    """The pools, and per pool what was changed outside of Terraform (of a folder only)."""
    from preprov.model.errors import ConfigError
    from preprov.pools.terraform_command import Terraform
    from preprov.pools.terraform_declared import declared_in, read_state
    from preprov.pools.terraform_sections import shape_drift

    drift = []
    if source.is_dir():
        terraform = Terraform(source.absolute(), program)
        declared = declared_in({"outputs": terraform.outputs()}, str(source))
        with terraform.plan(refresh_only=True) as plan:
            drift = list(plan.drift)
    else:
        declared = read_state(source)
    chosen = tuple(d for d in declared if only in (None, d.name))
    if not chosen:
        names = ", ".join(d.name for d in declared)
        raise ConfigError(f"Terraform declares no pool {only}", where=str(source), hint=f"it declares {names}")
    return chosen, {d.name: [str(c) for c in shape_drift(drift, d.counts_owner)] for d in chosen}


def _built(config: "ConfigFile", sections: Mapping[str, Mapping[str, Any]]) -> "dict[str, Pool]":
    """The pools these sections come to."""
    from preprov.configfile import ConfigFile

    made = ConfigFile.model_validate({"controller": config.controller, "pool": list(sections.values())})
    return made.pools()


def _compared(
    app: "App", declared: "DeclaredPool", section: Mapping[str, Any], drift: Mapping[str, list[str]], *, new: bool
) -> dict[str, Any]:
    from preprov.control.observing import observe
    from preprov.pools.terraform_sections import differences, strays

    pool = app.ctx.pool(declared.name)
    return {
        "pool": declared.name,
        "state": "new" if new else "registered",
        "counts_owner": declared.counts_owner,
        "groups": [g.name for g in declared.groups],
        "differences": list(differences(section, pool)),
        "drift": [*drift[declared.name], *strays(declared, observe(app.ctx, pool))],
    }


def _append(path: Path, sections: Mapping[str, Mapping[str, Any]]) -> Path:
    """Add the sections to the file; whole, or not at all."""
    from preprov.configfile import ConfigFile
    from preprov.model.errors import ConfigError
    from preprov.pools.terraform_sections import as_toml

    part = path.with_name(f".{path.name}.part")
    try:
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        text = old + "".join(as_toml(s) for s in sections.values())
        ConfigFile.model_validate(tomllib.loads(text))
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as e:
        raise ConfigError(f"cannot write {path}: {e.strerror}", where=str(path)) from None
    return path


def _show(found: list[dict[str, Any]], written: Path | None) -> None:
    rows = [(f["pool"], f["state"], f["counts_owner"], ", ".join(f["groups"])) for f in found]
    common.print_table("", ("pool", "state", "counts are of", "groups"), rows)
    for f in found:
        for line in f["differences"]:
            typer.echo(f"{f['pool']}: configured otherwise than declared: {line}")
        for line in f["drift"]:
            typer.echo(f"{f['pool']}: is otherwise than declared: {line}")
    if written:
        typer.echo(f"written to {written}; new pools are in mode observe")
