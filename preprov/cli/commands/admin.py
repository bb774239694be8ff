"""init, halt, doctor, db upgrade|current, config show."""

from pathlib import Path
from typing import Annotated

import typer

from preprov.cli import common
from preprov.cli.common import Output, OutputOption, YesOption

db_app = typer.Typer(help="The store's schema.", no_args_is_help=True)
config_app = typer.Typer(help="Configuration in force.", no_args_is_help=True)


def attach(app: typer.Typer) -> None:
    """Hang the commands on the root."""
    app.command()(init)
    app.command()(halt)
    app.command()(doctor)
    app.add_typer(db_app, name="db")
    app.add_typer(config_app, name="config")


def init(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("preprov.toml"),
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write an annotated preprov.toml with a pool of local nodes."""
    common.begin("init", Output.TABLE)
    from importlib.resources import files

    from preprov.model.errors import ConfigError

    if path.exists() and not force:
        raise ConfigError(f"{path} is there already", where=str(path), hint="--force replaces it")
    example = files("preprov").joinpath("example.toml").read_text(encoding="utf-8")
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(example, encoding="utf-8")
    temporary.replace(path)
    typer.echo(f"wrote {path}; next: preprov up, then preprov submit FILE in another terminal")


def halt(
    reason: Annotated[str, typer.Option("--reason", help="Kept in the audit log.")] = "halted by hand",
    resume: Annotated[bool, typer.Option("--resume", help="Go on again.")] = False,
    release: Annotated[
        bool,
        typer.Option("--release", help="Also give back: adopted settings as found, idle nodes ended."),
    ] = False,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Stop all writes to all pools at once; running work goes on."""
    with common.opened("halt", output) as app:
        from preprov.cli.commands.trust import given_back_json, show_given_back
        from preprov.control.halting import Halted
        from preprov.control.halting import halt as stop_all
        from preprov.control.halting import resume as go_on

        if resume:
            go_on(app.ctx)
            done = Halted()
        else:
            if release:
                common.confirm("Stop all writes, put adopted settings back and end every idle node?", yes)
            done = stop_all(app.ctx, reason, release=release)
        now_halted = app.ctx.ports.intent.halted()
        if output is Output.JSON:
            back = [{"pool": p, **given_back_json(b)} for p, b in done.given_back]
            body = {"halted": bool(now_halted), "reason": now_halted, "ended": list(done.ended), "given_back": back}
            common.print_json(common.envelope("halt", None, app.ctx.clock.now(), body))
            return
        typer.echo(f"halted: {now_halted}" if now_halted else "going on")
        for node in done.ended:
            typer.echo(f"ended {node}")
        if done.given_back:
            show_given_back(list(done.given_back))


def doctor(output: OutputOption = Output.TABLE) -> None:
    """Check what preprov needs, read-only, in plain words; exit 1 if something is missing."""
    common.begin("doctor", output)
    from datetime import UTC, datetime

    from preprov.doctor import examine

    checks = examine()
    bad = [c for c in checks if c.state == "bad"]
    if output is Output.JSON:
        body = {"ok": not bad, "checks": [c.as_dict() for c in checks]}
        common.print_json(common.envelope("doctor", None, datetime.now(UTC), body))
    else:
        common.print_table(
            "", ("", "what", "found", "what to do"), [(c.state, c.what, c.found, c.hint) for c in checks]
        )
    if bad:
        raise typer.Exit(1)


@db_app.command("upgrade")
def db_upgrade() -> None:
    """Bring the store's schema up to date."""
    common.begin("db upgrade", Output.TABLE)
    from preprov.settings import Settings
    from preprov.store.database import open_store

    settings = Settings.load()
    store = open_store(settings.store_url, settings.home, check=False)
    try:
        typer.echo(f"schema at {store.upgrade()} in {store.where}")
    finally:
        store.close()


@db_app.command("current")
def db_current(output: OutputOption = Output.TABLE) -> None:
    """The schema's revision, and where the store is (without its password)."""
    common.begin("db current", output)
    from datetime import UTC, datetime

    from preprov.settings import Settings
    from preprov.store.database import open_store

    settings = Settings.load()
    store = open_store(settings.store_url, settings.home, check=False)
    try:
        revision, where = store.current(), store.where
    finally:
        store.close()
    if output is Output.JSON:
        body = {"revision": revision, "url": where}
        common.print_json(common.envelope("db current", None, datetime.now(UTC), body))
        return
    typer.echo(f"{revision or 'empty'} in {where}")


@config_app.command("show")
def config_show(output: OutputOption = Output.TABLE) -> None:
    """Settings and configuration in force, secrets masked."""
    common.begin("config show", output)
    from datetime import UTC, datetime

    from preprov import configfile
    from preprov.logs import mask
    from preprov.settings import Settings

    settings = Settings.load()
    path = settings.config_path()
    body: dict[str, dict[str, object]] = {
        "settings": {
            "home": str(settings.home),
            "config": str(path) if path else None,
            "store_url": mask(settings.store_url),
            "samples": settings.samples,
            "seed": settings.seed,
            "log_level": settings.log_level,
        },
        "configuration": _masked_tree(configfile.load(path).model_dump(mode="json", exclude_none=True)),
    }
    if output is Output.JSON:
        common.print_json(common.envelope("config show", None, datetime.now(UTC), body))
        return
    for name, value in body["settings"].items():
        typer.echo(f"{name} = {value}")
    import json

    typer.echo(json.dumps(body["configuration"], indent=2))


def _masked_tree(tree: dict[str, object]) -> dict[str, object]:
    return {k: masked(v, k) for k, v in tree.items()}


def masked(value: object, name: str = "") -> object:
    """The value with everything that looks like a secret replaced."""
    from preprov.logs import is_secret_name, mask

    if isinstance(value, dict):
        return {k: masked(v, str(k)) for k, v in value.items()}
    if isinstance(value, list):
        return [masked(v, name) for v in value]
    if isinstance(value, str):
        return "***" if is_secret_name(name) else mask(value)
    return value
