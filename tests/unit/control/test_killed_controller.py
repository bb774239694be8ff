"""The controller is killed in the middle of warming, again and again: nothing doubled, nothing lost, nothing left."""

import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from preprov.app import App, open_app
from preprov.control.observing import observe
from preprov.control.running import Runner
from preprov.control.submitting import submit
from preprov.model.nodes import Node, Phase
from preprov.model.offerings import LeadTime, Offering, Standby
from preprov.model.pools import Group, Mode, Pool
from preprov.model.resources import Resources
from preprov.model.work import DagSpec, State, TaskSpec
from preprov.settings import Settings

KILLS = 10
POOL = Pool(
    name="p",
    groups=(
        Group(
            "g",
            "local",
            (Offering("m", Resources(cpu=2, memory=2), usd_per_hour=0.1),),
            max_nodes=6,
            lead={Standby.COLD: LeadTime(1.5, 2.5)},
        ),
    ),
    mode=Mode.FULL,
    step_seconds=5,
    horizon_s=600,
    node_ttl_s=3.0,
    binding=("cpu", "memory"),
)


@contextmanager
def opened() -> Iterator[App]:
    with open_app(Settings.load(), pools={"p": POOL}, actor="controller") as app:
        yield app


def control() -> None:
    """What the long-lived process does, in a process of its own."""
    with opened() as app:
        Runner(app.ctx, [POOL], tick_s=0.1, plan_s=0.4).run()


@contextmanager
def controller(*, end: signal.Signals = signal.SIGKILL) -> Iterator[None]:
    child = multiprocessing.get_context("fork").Process(target=control, daemon=True)
    child.start()
    try:
        yield
    finally:
        os.kill(child.pid or 0, end)
        child.join(30)


def until(what: Callable[[], bool], limit: float = 90) -> None:
    deadline = time.monotonic() + limit
    while not what():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.1)


def agents(home: Path) -> list[str]:
    """Command lines of the processes whose disk lies under this home."""
    out = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if "preprov.agent" in line and str(home) in line:
            out.append(line)
    return out


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_ten_kills_double_nothing_lose_nothing_and_leave_nothing(preprov_home: Path) -> None:
    rng = random.Random(7)
    with opened() as app:
        work, ledger = app.ctx.ports.work, app.ctx.ports.ledger

        def nodes() -> tuple[Node, ...]:
            return observe(app.ctx, POOL).nodes

        def running() -> Counter[str]:
            return Counter(c for n in nodes() for c in n.running or ())

        task = TaskSpec("work", ("sleep", "15"), instances=6, request=Resources(cpu=1, memory=0.5), runtime_hint_s=15)
        (run,) = submit(app.ctx, (DagSpec("wave", (task,), pool="p"),))
        for _ in range(KILLS):
            with controller():
                time.sleep(rng.uniform(0.05, 0.8))  # the moment at which it dies is the experiment
        with controller():
            until(lambda: len(running()) == 6)
            seen = nodes()
            assert max(Counter(n.node_id for n in seen).values()) == 1
            assert len(seen) <= 4, "six cores on nodes of two: no launch was doubled"
            assert not [n for n in seen if n.phase in (Phase.LOST, Phase.FAILED)]
            claims = Counter(r.claimant for r in ledger.reservations("p"))
            assert max(claims.values()) == 1
            assert max(running().values()) == 1, "no task runs twice"
        busy = {n.node_id for n in nodes() if n.running}
        time.sleep(2.2 * POOL.node_ttl_s)  # with nobody in control
        with controller():
            assert busy <= {n.node_id for n in nodes()}, "a node with a running task outlives twice its time to live"
            until(lambda: work.run(run.run_id).state is State.SUCCEEDED)
            (ended,) = work.task_runs([run.run_id])
            assert ended.attempt == 1, "it was never ended and begun again"
            until(lambda: not nodes())
        assert ledger.reservations("p") == ()
    until(lambda: agents(preprov_home) == [], 30)  # no orphan is left once the last removal has ended
