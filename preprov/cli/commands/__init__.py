"""The commands, noun by noun."""

import typer

from preprov.cli.commands import (
    admin,
    backtest,
    demand,
    demo,
    ingest,
    model,
    plan,
    pool,
    prices,
    replay,
    reservation,
    serve,
    token,
    up,
    whatif,
    why,
    work,
)


def attach(app: typer.Typer) -> None:
    """Hang every command on the root."""
    for module in (
        admin,
        backtest,
        demo,
        up,
        work,
        ingest,
        demand,
        model,
        plan,
        pool,
        prices,
        replay,
        whatif,
        reservation,
        serve,
        token,
        why,
    ):
        module.attach(app)
