"""The `preprov` command. Imports stay inside the commands: `--help` answers at once."""

import sys

import typer

from preprov.cli import common
from preprov.cli.commands import attach

app = typer.Typer(
    name="preprov",
    help="Warm the right machines before the batch wave starts.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: rich would take longer to load than all the rest
    context_settings={"help_option_names": ["-h", "--help"]},
)
attach(app)


def run(words: list[str] | None = None) -> int:
    """Run one command line (None = this process's); returns its exit code.

    Every error preprov raises on purpose becomes one paragraph on stderr, or a JSON document where that was asked for.
    """
    from preprov.model.errors import PreprovError

    try:
        app(words)
    except PreprovError as e:
        common.print_error(e)
        return e.exit_code
    except SystemExit as e:
        return e.code if isinstance(e.code, int) else int(bool(e.code))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 0
    return 0


def main() -> None:
    """The program. Told to end, it ends as from an error: what it started for itself ends with it."""
    import signal

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(run())


if __name__ == "__main__":
    main()
