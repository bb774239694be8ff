"""source add|test|sync|list|rename|remove: places where work lives, and files that are read again."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from preprov.cli import common
from preprov.cli.common import Output, OutputOption

if TYPE_CHECKING:
    from preprov.app import App
    from preprov.configfile.sources import FileSource, LiveSection
    from preprov.contracts import Finding, SourceStatus
    from preprov.control.syncing import SyncResult

source_app = typer.Typer(help="Where work lives: orchestrators, schedulers, clusters, files.", no_args_is_help=True)
NamesArgument = Annotated[list[str] | None, typer.Argument(help="Names of sources; all if none is given.")]


def attach(app: typer.Typer) -> None:
    """Hang the commands on the root."""
    app.add_typer(source_app, name="source")


@source_app.command("list")
def source_list(output: OutputOption = Output.TABLE) -> None:
    """What is configured, where its work goes, and how reading it goes."""
    with common.opened("source list", output) as app:
        rows = _rows(app)
        if output is Output.JSON:
            common.print_json(common.envelope("source list", None, app.ctx.clock.now(), {"sources": rows}))
            return
        zone = app.config.controller.zone
        table = [
            (
                r["source"] if r["configured"] else f"{r['source']} (not configured{_so(app, r['source'])})",
                r["kind"],
                ", ".join(r["pools"]),
                r["open"],
                r["over"],
                common.both_times(r["read_at"], zone),
                r["error"],
            )
            for r in rows
        ]
        columns = ("source", "kind", "pools", "open", "over", "read", "error")
        note = "" if rows else "no sources: `preprov source add NAME KIND key=value …`"
        common.print_table("", columns, table, note=note)
        for r in rows:
            for said in r["notes"]:
                common.say(f"{r['source']}, {common.both_times(said['at'], zone)}: {said['note']}")


def _so(app: "App", source: str) -> str:
    return ": counts for nothing" if source in app.aside else ""


def _rows(app: "App") -> list[dict[str, Any]]:
    from preprov.configfile.sources import LiveSection

    held = {s.source: s for s in app.ctx.ports.sources.statuses()}
    out = []
    for section in app.config.source:
        status = held.pop(section.name, None) if isinstance(section, LiveSection) else None
        out.append(
            {
                "source": section.name,
                "kind": section.kind,
                "where": section.where,
                "configured": True,
                "pools": list(status.pools) if status else [p for p in (section.pool,) if p],
                "open": status.open if status else None,
                "over": status.over if status else None,
                "read_at": status.read_at if status else None,
                "tried_at": status.tried_at if status else None,
                "error": status.error if status else "",
                "notes": _notes(status),
            }
        )
    for status in held.values():
        times = {"read_at": status.read_at, "tried_at": status.tried_at, "error": status.error}
        counts = {"pools": list(status.pools), "open": status.open, "over": status.over}
        about = {"source": status.source, "kind": "", "where": "", "configured": False, "notes": _notes(status)}
        out.append({**about, **counts, **times})
    return out


def _notes(status: "SourceStatus | None") -> list[dict[str, Any]]:
    return [{"at": at, "note": text} for at, text in status.notes] if status else []


@source_app.command("test")
def source_test(names: NamesArgument = None, output: OutputOption = Output.TABLE) -> None:
    """Ask each source whether it can be read: address, version, rights, and what it lets us see. Writes nothing."""
    with common.opened("source test", output) as app:
        found = [(s.name, f) for s in _chosen(app, names) for f in (*_examined(app, s), *_alike(app, s))]
        ok = all(f.state != "bad" for _, f in found)
        if output is Output.JSON:
            body = {"ok": ok, "findings": _findings(found)}
            common.print_json(common.envelope("source test", None, app.ctx.clock.now(), body))
        else:
            _print_findings(found)
    raise typer.Exit(0 if ok else 1)


def _chosen(app: "App", names: list[str] | None) -> list["FileSource | LiveSection"]:
    """The sections of those names, all if none is named.

    Raises:
        ConfigError: there is none of such a name.
    """
    from preprov.model.errors import ConfigError

    every = {s.name: s for s in app.config.source}
    missing = [n for n in names or () if n not in every]
    if missing or not every:
        what = f"there is no source {missing[0]!r}" if missing else "no source is configured"
        hint = f"sources: {', '.join(every)}" if every else "preprov source add NAME KIND key=value …"
        raise ConfigError(what, where="[[source]]", hint=hint)
    return [every[n] for n in names or every]


def _examined(app: "App", section: "FileSource | LiveSection") -> "tuple[Finding, ...]":
    """What a source says of itself; an error in setting it up is a finding too."""
    from preprov import sourcing
    from preprov.configfile.sources import FileSource
    from preprov.contracts import Finding
    from preprov.model.errors import PreprovError

    try:
        if isinstance(section, FileSource):
            source = sourcing.file_source(section.kind, section.path)
            return (Finding("file", "ok", f"{section.path}: {source.zone}"),)
        return sourcing.live_source(section, app.ctx.clock).examine()
    except PreprovError as e:
        return (Finding("configuration", "bad", e.what, e.hint or "see preprov.toml"),)


_SAME: Final = {"airflow": "runs of DAGs of the same name and turn", "slurm": "jobs"}
"""What two places of a kind may call the same."""


def _alike(app: "App", section: "FileSource | LiveSection") -> "list[Finding]":
    """A warning if runs of another place may have the ids of this one's, and both may go to one pool."""
    from preprov.contracts import Finding

    mine = _default_pool(app, section)
    others = [s.name for s in app.config.source if s.kind == section.kind and s.name != section.name]
    shared = [n for n in others if app.config.route or (mine and mine == _default_pool(app, _chosen(app, [n])[0]))]
    if section.kind not in _SAME or not shared:
        return []
    what = f"{_SAME[section.kind]} of {' and '.join(shared)} may have the same ids, and go to the same pool"
    return [Finding("names", "warn", what, "a pool for each: `pool`, and routes by tenant, where they differ")]


def _default_pool(app: "App", section: "FileSource | LiveSection") -> str:
    from preprov.configfile.sources import LiveSection

    return app.router(section).default if isinstance(section, LiveSection) else ""


def _findings(found: "list[tuple[str, Finding]]") -> list[dict[str, str]]:
    return [{"source": name, "what": f.what, "state": f.state, "found": f.found, "hint": f.hint} for name, f in found]


def _print_findings(found: "list[tuple[str, Finding]]") -> None:
    rows = [(name, f.state, f.what, f.found, f.hint) for name, f in found]
    common.print_table("", ("source", "", "what", "found", "what to do"), rows)


@source_app.command("sync")
def source_sync(
    names: NamesArgument = None,
    again: Annotated[
        bool, typer.Option("--again", help="From the beginning, as the routes now say; nothing is kept twice.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """One pass: read what changed since the last one. `preprov up` does so by itself."""
    with common.opened("source sync", output) as app:
        passes = [_passed(app, section, again) for section in _chosen(app, names)]
        if output is Output.JSON:
            common.print_json(common.envelope("source sync", None, app.ctx.clock.now(), {"passes": passes}))
            return
        for p in passes:
            goes = f" into {', '.join(p['pools'])}" if p["pools"] else ""
            counts = f"{p['new']} new, {p['changed']} changed, {p['same']} as before, {p['gone']} gone"
            if p["samples"]:
                counts = f"{p['samples']} samples of what tasks used"
            typer.echo(f"{p['source']}: {counts}{goes} ({p['tasks']} tasks read, {p['seconds']:.1f} s)")
            for note in p["notes"]:
                common.say(f"note: {note}")
            if p["unrouted"]:
                common.say(f"{p['unrouted']} runs have tasks that no route takes: preprov route check")
            if p["rejects_file"]:
                common.say(f"{p['rejects']} rows could not be read, see {p['rejects_file']}")


def _passed(app: "App", section: "FileSource | LiveSection", again: bool) -> dict[str, Any]:
    from preprov import sourcing
    from preprov.configfile.sources import FileSource
    from preprov.control.ingesting import ingest_work
    from preprov.control.syncing import sync_whole
    from preprov.sources.rejects import rejects_file

    path = app.rejects_path(section.name)
    began = app.ctx.clock.now()
    with rejects_file(path) as rejects, common.progress(f"read {section.name}") as progress:
        if isinstance(section, FileSource):
            source = sourcing.file_source(section.kind, section.path)
            done = ingest_work(app.ctx, section.pool, source, sink=rejects.write, progress=progress)
            counts = {"new": done.runs, "tasks": done.tasks, "rejects": done.rejects, "notes": list(done.notes)}
            more = {"changed": 0, "same": 0, "gone": 0, "unrouted": 0, "samples": 0, "pools": [section.pool]}
            seconds = (app.ctx.clock.now() - began).total_seconds()
            body: dict[str, Any] = {"source": section.name, **counts, **more, "seconds": seconds}
        else:
            live = sourcing.live_source(section, app.ctx.clock)
            if again:
                app.ctx.ports.sources.rewind(section.name)
            body = _counts(sync_whole(app.ctx, live, app.router(section), sink=rejects.write, progress=progress))
    return {**body, "rejects_file": str(path) if body["rejects"] else None}


def _counts(result: "SyncResult") -> dict[str, Any]:
    names = ("source", "new", "changed", "same", "gone", "tasks", "unrouted", "samples", "rejects", "seconds")
    return {
        **{n: getattr(result, n) for n in names},
        "pools": [p for p in result.pools if p],
        "notes": list(result.notes),
    }


@source_app.command("add")
def source_add(
    name: Annotated[str, typer.Argument(help="What to call it.")],
    kind: Annotated[str, typer.Argument(help="airflow, slurm, kubernetes, prefect, prometheus, swf, wfformat, dags.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(help="key=value, as in a [[source]] section; a part of a table is table.key=value."),
    ] = None,
    test: Annotated[
        bool, typer.Option("--test/--no-test", help="Try it first; what does not work is not added.")
    ] = True,
    output: OutputOption = Output.TABLE,
) -> None:
    """Add a [[source]] to preprov.toml, tried first. A secret is never written: password.env=NAME says where it is."""
    with common.opened("source add", output) as app:
        from preprov import configfile
        from preprov.cli.toml import append_section, section_text
        from preprov.model.errors import ConfigError, SourceError

        if any(s.name == name for s in app.config.source):
            raise ConfigError(f"there is a source {name!r} already", where="[[source]]", hint="choose another name")
        values = {"name": name, "kind": kind, **_values(settings)}
        (section,) = configfile.parse({"source": [values]}, "source add").source
        found = [(name, f) for f in _examined(app, section)] if test else []
        found += [(name, f) for f in _alike(app, section)]
        if output is Output.TABLE:
            _print_findings(found)
        if any(f.state == "bad" for _, f in found):
            raise SourceError(
                f"source {name} was not added: {next(f.found for _, f in found if f.state == 'bad')}",
                hint=f"{next(f.hint for _, f in found if f.state == 'bad')}; or --no-test",
            )
        path = app.settings.config_path() or Path("preprov.toml")
        text = section_text("source", values)
        append_section(path, text, configfile.load)
        if output is Output.JSON:
            body = {"source": name, "file": str(path), "section": text, "findings": _findings(found)}
            common.print_json(common.envelope("source add", None, app.ctx.clock.now(), body))
            return
        typer.echo(f"{path}:\n\n{text}")
        common.say("`preprov source sync` reads it once, `preprov up` again and again")


@source_app.command("rename")
def source_rename(
    old: Annotated[str, typer.Argument(help="What it was called.")],
    new: Annotated[str, typer.Argument(help="What it is called in preprov.toml now.")],
    output: OutputOption = Output.TABLE,
) -> None:
    """After a [[source]] was given another name: what was read stays its own, and is read again once."""
    with common.opened("source rename", output) as app:
        from preprov.control.source_names import rename_source
        from preprov.model.errors import ConfigError

        names = {s.name for s in app.config.source}
        if old in names or new not in names:
            what = f"{old!r} is still" if old in names else f"{new!r} is not"
            hint = f"give the [[source]] the name {new} there first"
            raise ConfigError(f"{what} the name of a source in preprov.toml", where="[[source]]", hint=hint)
        rename_source(app.ctx, old, new)
        if output is Output.JSON:
            body = {"source": new, "before": old}
            common.print_json(common.envelope("source rename", None, app.ctx.clock.now(), body))
            return
        typer.echo(f"{old} is {new} now")
        common.say("the next pass reads it again from the beginning; nothing is kept twice")


@source_app.command("remove")
def source_remove(
    name: Annotated[str, typer.Argument(help="What it was called.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """After a [[source]] was taken out of preprov.toml: drop all that was read there, its history too."""
    with common.opened("source remove", output) as app:
        from preprov.control.source_names import remove_source
        from preprov.model.errors import ConfigError

        if any(s.name == name for s in app.config.source):
            hint = "take its [[source]] out first"
            what = f"source {name!r} is in preprov.toml: it would be read again"
            raise ConfigError(what, where="[[source]]", hint=hint)
        common.confirm(f"Drop all that was read of source {name}, its history too?", yes)
        runs = remove_source(app.ctx, name)
        if output is Output.JSON:
            body = {"source": name, "runs": runs}
            common.print_json(common.envelope("source remove", None, app.ctx.clock.now(), body))
            return
        typer.echo(f"{name}: {runs} runs dropped, with its schedules and limits")


def _values(settings: list[str] | None) -> dict[str, Any]:
    """key=value words as a tree; a value is TOML where it is one, else text."""
    import tomllib

    from preprov.model.errors import ConfigError

    out: dict[str, Any] = {}
    for word in settings or ():
        key, sign, text = word.partition("=")
        if not sign or not key:
            raise ConfigError(f"{word!r} is not key=value", hint="url=https://airflow.example.com password.env=NAME")
        try:
            value: Any = tomllib.loads(f"x = {text}")["x"]
        except tomllib.TOMLDecodeError:
            value = text
        place = out
        *tables, last = key.split(".")
        for table in tables:
            place = place.setdefault(table, {})
        place[last] = value
    return out
