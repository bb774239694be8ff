"""The commands, noun by noun."""

import typer

from preprov.cli.commands import (
    admin,
    backtest,
    demand,
    demo,
    image,
    ingest,
    kubernetes,
    limits,
    model,
    node,
    plan,
    pool,
    preload,
    prices,
    replay,
    reservation,
    route,
    serve,
    slurm,
    source,
    task,
    token,
    up,
    waits,
    whatif,
    why,
    window,
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
        source,
        route,
        demand,
        limits,
        model,
        plan,
        pool,
        node,
        image,
        preload,
        prices,
        replay,
        whatif,
        waits,
        reservation,
        window,
        serve,
        slurm,
        kubernetes,
        task,
        token,
        why,
    ):
        module.attach(app)
