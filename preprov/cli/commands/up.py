"""up: everything on one machine."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from preprov.cli import common

if TYPE_CHECKING:
    from preprov.app import App
    from preprov.control.passes import PassResult
    from preprov.control.syncing import Reader


def attach(app: typer.Typer) -> None:
    """Hang the command on the root."""
    app.command()(up)


def up(
    prefect: Annotated[
        bool,
        typer.Option(
            "--prefect/--no-prefect", help="Serve the flows too; starts a server on loopback if none is named."
        ),
    ] = True,
    pool: Annotated[list[str] | None, typer.Option("--pool", "-p", help="Only these pools; repeat it.")] = None,
    for_: Annotated[str | None, typer.Option("--for", help="Stop after this long: 10m, 2h.")] = None,
) -> None:
    """Run the controller, and Prefect with the flows, until Ctrl-C; nodes and running work stay when it stops."""
    with common.opened("up", actor="controller") as app, ExitStack() as stack:
        from preprov.control.running import Runner

        pools = [app.ctx.pool(p) for p in pool] if pool else list(app.ctx.pools.values())
        if not pools:
            common.say("no pools are configured: `preprov init` writes an example")
        if prefect:
            url = stack.enter_context(_flows_served(app))
            common.say(f"prefect: {url.removesuffix('/api')}")
        runner = Runner(
            app.ctx,
            pools,
            tick_s=app.config.controller.tick_seconds,
            plan_s=app.config.controller.plan_seconds,
            at_once=app.config.controller.at_once,
            on_pass=_tell,
            sync=app.sync if len(app.config.source) > len(app.live()) or app.config.prices.refresh else None,
        )
        runner.hear = app.telling(stack.enter_context(_places_read(app))).fold
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: runner.stop())
        names = ", ".join(f"{p.name} ({app.ctx.mode(p, app.ctx.clock.now())})" for p in pools)
        common.say(f"up: {names or 'no pools'}; home {app.settings.home}")
        common.say("to watch it in a browser: preprov serve, then http://127.0.0.1:8470/")
        runner.run(app.ctx.clock.now() + common.parse_span(for_) if for_ else None)
        common.say("stopped; nodes and running work were left as they are")


@contextmanager
def _places_read(app: "App") -> "Iterator[list[Reader]]":
    """Each place where work lives is read in a thread of its own."""
    from preprov.control.syncing import remember_ages

    remember_ages(app.ctx, [s.name for s in app.live()])
    readers = [app.reader(s) for s in app.live()]
    for reader in readers:
        reader.start()
        common.say(f"source {reader.source.key}: read every {reader.every_s:g} s")
    try:
        yield readers
    finally:
        for reader in readers:
            reader.stop()


def _tell(result: "PassResult") -> None:
    for r in result.records:
        a = r.action
        common.say(
            f"{r.at:%H:%M:%S}Z {result.pool}: {a.kind} {a.count} x {a.offering or a.group}: {r.result} - {a.reason}"
        )
    if result.dispatched:
        for claimant in result.dispatched.started:
            common.say(f"{result.at:%H:%M:%S}Z {result.pool}: started {claimant}")
        for claimant, why in result.dispatched.unplaceable.items():
            common.say(f"{result.at:%H:%M:%S}Z {result.pool}: {claimant} fits nowhere: {why}")


@contextmanager
def _flows_served(app: "App") -> Iterator[str]:
    """A Prefect API, and a child process that serves the flows against it."""
    from preprov.prefect_server import quiet_environment, serving

    home = app.settings.home
    with serving(home) as url:
        with (home / "prefect" / "flows.log").open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "flows.deployments"],
                env=quiet_environment(home, url),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        watcher = threading.Thread(target=_report_end, args=(child,), daemon=True)
        watcher.start()
        try:
            yield url
        finally:
            child.terminate()
            try:
                child.wait(timeout=20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _report_end(child: "subprocess.Popen[bytes]") -> None:
    code = child.wait()
    if code not in (0, -signal.SIGTERM, -signal.SIGINT):
        common.say(f"the process that serves the flows ended with {code}; see its log under home/prefect/flows.log")
