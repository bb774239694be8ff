"""What all commands share: options, output as table or JSON, times, progress, errors."""

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from preprov.model.errors import ConfigError, PreprovError

if TYPE_CHECKING:
    from preprov.app import App
    from preprov.contracts import Progress


class Output(StrEnum):
    """How results are printed on stdout."""

    TABLE = "table"
    JSON = "json"


PictureOption = Annotated[Path | None, typer.Option("--picture", help="Draw it into this .png or .svg file.")]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table for people, json for programs.")]
PoolOption = Annotated[str, typer.Option("--pool", "-p", help="Name of the pool.")]
AnyPoolOption = Annotated[str | None, typer.Option("--pool", "-p", help="Name of the pool; all if not given.")]
AtOption = Annotated[
    str | None, typer.Option("--at", help="Take this as now: ISO time (pool's zone if it has no offset), or -2h, +30m.")
]
SinceOption = Annotated[str | None, typer.Option("--since", help="How far back: 7d, 12h, 30m, or an ISO time.")]
TzOption = Annotated[str | None, typer.Option("--tz", help="Zone in which times are shown; the pool's if not given.")]
MapOption = Annotated[
    list[str] | None, typer.Option("--map", help="OURS=THEIRS: which column of the file holds what; repeat it.")
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

_json_wanted = False
_command = ""


def begin(command: str, output: Output) -> None:
    """Remember how to print errors of this command."""
    global _json_wanted, _command
    _json_wanted, _command = output is Output.JSON, command


@contextmanager
def opened(command: str, output: Output = Output.TABLE, **kwargs: Any) -> Iterator["App"]:
    """The wired app for one command."""
    begin(command, output)
    from preprov.app import open_app
    from preprov.logs import configure

    configure()
    with open_app(**kwargs) as app:
        if app.aside and not command.startswith("source "):
            say(
                f"source {', '.join(app.aside)}: not in preprov.toml, what it told counts for nothing; "
                "preprov source remove, or rename"
            )
        yield app


def envelope(command: str, pool: str | None, issued_at: datetime, body: Mapping[str, object]) -> dict[str, object]:
    """The JSON every command prints: schema, command, pool, issued_at, then its own fields."""
    name = command.replace(" ", "-")
    return {
        "schema": f"preprov/{name}/1",
        "command": command,
        "pool": pool,
        "issued_at": issued_at.astimezone(UTC).isoformat(),
        **body,
    }


def print_json(value: object) -> None:
    """One JSON document on stdout; a number that is not known is null."""
    sys.stdout.write(json.dumps(_known(value), indent=2, default=_plain, allow_nan=False) + "\n")


def _known(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(k): _known(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_known(v) for v in value]
    return value


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=str)
    item = getattr(value, "item", None)
    if callable(item):
        return item()
    return str(value)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, note: str = "") -> None:
    """A table on stdout, plain when it is not a terminal."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for c in columns:
        table.add_column(c, overflow="fold")
    for row in rows:
        table.add_row(*("" if v is None else str(v) for v in row))
    console.print(table)
    if note:
        console.print(note)


def say(text: str) -> None:
    """A line for people, on stderr."""
    typer.echo(text, err=True)


def print_error(error: PreprovError) -> None:
    """One paragraph on stderr, or the JSON error on stdout if JSON was asked for."""
    if _json_wanted:
        print_json(envelope(_command, None, datetime.now(UTC), error.as_dict()))
        return
    lines = [f"error: {error.what}"]
    if error.where:
        lines.append(f"  where: {error.where}")
    if error.hint:
        lines.append(f"  hint:  {error.hint}")
    typer.echo("\n".join(lines), err=True)


def parse_time(text: str | None, zone: str, now: datetime) -> datetime | None:
    """An ISO time (naive = in `zone`), or an offset from now such as -2h or +30m; aware, in UTC.

    Raises:
        ConfigError: neither.
    """
    if text is None:
        return None
    if text[:1] in "+-" and not text[1:2].isspace():
        sign = -1 if text[0] == "-" else 1
        return now + sign * parse_span(text[1:])
    import pendulum

    try:
        parsed = pendulum.parse(text, tz=zone, strict=True)
    except (ValueError, pendulum.parsing.exceptions.ParserError):
        raise ConfigError(f"{text!r} is not a time", hint="2025-10-30T02:10, 2025-10-30T02:10Z, +30m, -2h") from None
    if not isinstance(parsed, pendulum.DateTime):
        raise ConfigError(f"{text!r} is not an instant", hint="give a date and a time")
    return datetime.fromtimestamp(parsed.timestamp(), UTC)


def parse_span(text: str) -> timedelta:
    """A length of time: 90, 90s, 30m, 12h, 7d, 2w.

    Raises:
        ConfigError: it is none.
    """
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    try:
        return timedelta(seconds=float(number) * units[unit])
    except ValueError:
        raise ConfigError(f"{text!r} is not a length of time", hint="90s, 30m, 12h, 7d, 2w") from None


def since_time(text: str | None, default: str, zone: str, now: datetime) -> datetime:
    """The instant a --since names."""
    text = text or default
    if text[-1:] in "smhdw" and text[:-1].replace(".", "", 1).isdigit():
        return now - parse_span(text)
    parsed = parse_time(text, zone, now)
    return parsed or now


def both_times(ts: datetime | None, zone: str) -> str:
    """Local time and UTC, as people need to compare both."""
    if ts is None:
        return ""
    from zoneinfo import ZoneInfo

    utc = ts.astimezone(UTC)
    if zone in ("UTC", "Etc/UTC"):
        return f"{utc:%Y-%m-%d %H:%M:%S}Z"
    return f"{ts.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M:%S} ({utc:%H:%M}Z)"


@contextmanager
def progress(title: str) -> Iterator["Progress"]:
    """A progress bar on stderr, only on a terminal; else a line now and then."""
    if not sys.stderr.isatty():
        yield _silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=Console(stderr=True), transient=True
    ) as bar:
        task = bar.add_task(title, total=1.0)

        def tell(share: float, text: str) -> None:
            bar.update(task, completed=share if share == share else None, description=f"{title} {text}")

        yield tell


def _silent(_share: float, _text: str) -> None:
    return None


def columns(pairs: Sequence[str] | None) -> dict[str, str] | None:
    """Our column -> theirs, of --map OURS=THEIRS; None if it was not given."""
    if not pairs:
        return None
    out = {}
    for pair in pairs:
        ours, sign, theirs = pair.partition("=")
        if not sign:
            raise typer.BadParameter(f"{pair!r} is not OURS=THEIRS")
        out[ours.strip()] = theirs.strip()
    return out


def check_resource(name: str) -> None:
    """Whether there is such a resource.

    Raises:
        ConfigError: there is none.
    """
    from preprov.model.resources import KINDS

    if name not in KINDS:
        raise ConfigError(f"unknown resource {name!r}", hint=f"one of {', '.join(KINDS)}")


def picture_format(path: Path) -> str:
    """Which of png and svg the file's name asks for; look before the long work begins.

    Raises:
        ConfigError: it is neither.
    """
    fmt = path.suffix.lstrip(".").lower()
    if fmt not in ("png", "svg"):
        raise ConfigError(f"cannot draw into {path.name}", where="--picture", hint="a name that ends in .png or .svg")
    return fmt


def write_picture(path: Path, picture: bytes, *, option: str = "--picture") -> None:
    """Put it there whole or not at all, and say so."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(picture)
        part.replace(path)
    except OSError as e:
        raise ConfigError(f"cannot write {path}: {e.strerror}", where=option) from None
    say(f"{option[2:]}: {path}")


def confirm(question: str, yes: bool) -> None:
    """Ask before something destructive; off a terminal, `--yes` is needed.

    Raises:
        ConfigError: not confirmed.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError(f"{question} needs a yes", hint="add --yes")
    if not typer.confirm(question):
        raise typer.Exit(1)
