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


def main() -> None:
    """Run the command line; every error preprov raises on purpose becomes one paragraph and an exit code."""
    from preprov.model.errors import PreprovError

    try:
        app()
    except PreprovError as e:
        common.print_error(e)
        sys.exit(e.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)


if __name__ == "__main__":
    main()
