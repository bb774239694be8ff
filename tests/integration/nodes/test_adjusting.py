"""Real tasks in real cgroups, adjusted by the real control code: they get what they want, others what they leave."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from preprov.agent.limits import detect
from preprov.app import App, open_app
from preprov.contracts import LaunchRequest
from preprov.control.passes import pool_pass
from preprov.control.submitting import submit
from preprov.control.why import why_run
from preprov.model.adjusting import Adjusting
from preprov.model.agent import Bounds, task_folder
from preprov.model.nodes import Phase
from preprov.model.offerings import Offering, Standby
from preprov.model.plans import ActionKind
from preprov.model.pools import Group, Mode, Pool
from preprov.model.reservations import ReservationState
from preprov.model.resources import Resources, sum_of
from preprov.model.work import DagRun, DagSpec, State, TaskSpec
from preprov.settings import Settings
from preprov.testing.local_nodes import cleared
from preprov.testing.waiting import REAL_S, wait_until

MIB = 1 / 1024
OBEYS = """
import pathlib, time
held = []
while not pathlib.Path("end").exists():
    wanted = pathlib.Path("want").read_text() if pathlib.Path("want").exists() else ""
    while wanted and len(held) < int(wanted):
        held.append(b"x" * (1 << 20))
    pathlib.Path("has.new").write_text(str(len(held)))
    pathlib.Path("has.new").rename("has")
    time.sleep(0.01)
"""
"""Holds as many MiB as it is told to, and says when it does."""
SPINS = """
import pathlib
while not pathlib.Path("end").exists():
    for _ in range(20000):
        pass
"""


class Stage:
    """One warm node of 2 cores and half a GiB, and tasks that do what they are told."""

    def __init__(self, app: App, pool: Pool, home: Path) -> None:
        self.app, self.pool, self.home = app, pool, home
        provider = app.ctx.providers["local"]
        provider.launch(LaunchRequest(pool, "g", pool.groups[0].offerings[0], 1, "warm", pool.preload))
        wait_until(lambda: bool(provider.observe(pool).in_phase(Phase.READY)), what="the node")

    def submit(self, name: str, script: str, asked: Resources) -> DagRun:
        task = TaskSpec("t", command=(sys.executable, "-S", "-E", "-c", script), request=asked)
        (run,) = submit(self.app.ctx, (DagSpec(name, (task,), pool=self.pool.name),))
        return run

    def look(self) -> None:
        """One pass; and no node is overbooked by it."""
        pool_pass(self.app.ctx, self.pool, plan=False, react=False)
        assert sum_of(self.claims().values()).fits_in(self.pool.groups[0].offerings[0].allocatable, ("cpu", "memory"))

    def until(self, fact: Callable[[], object], what: str) -> None:
        def looked() -> object:
            self.look()
            return fact()

        wait_until(looked, what=what, deadline_s=REAL_S)

    def work(self, run: DagRun) -> Path:
        (found,) = self.home.glob(f"nodes/*/*/tasks/{task_folder(f'{run.run_id}/t#0')}/work")
        return found

    def state(self, run: DagRun) -> State:
        (task,) = self.app.ctx.ports.work.task_runs([run.run_id])
        assert task.attempt == 1, "nothing was killed"
        return task.state

    def bounds(self, run: DagRun) -> Bounds:
        nodes = self.app.ctx.providers["local"].observe(self.pool).nodes
        (found,) = [r for r in self.app.ctx.schedulers["local"].poll(nodes) if r.claimant == f"{run.run_id}/t#0"]
        assert found.bounds is not None
        return found.bounds

    def claims(self) -> dict[str, Resources]:
        held = self.app.ctx.ports.ledger.reservations(self.pool.name)
        return {r.claimant: r.most for r in held if r.state is ReservationState.COMMITTED}

    def end(self, *runs: DagRun) -> None:
        for run in runs:
            (self.work(run) / "end").touch()
        self.until(lambda: all(self.state(r) is State.SUCCEEDED for r in runs), "all to end well")
        assert self.claims() == {}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    if detect() == "rlimit":
        pytest.skip("cgroups cannot be written here")
    group = Group(
        "g",
        "local",
        (Offering("m", Resources(cpu=2, memory=0.5)),),
        frozenset({Standby.RUNNING}),
        max_nodes=1,
        options={"sample_s": 0.05},
    )
    manner = Adjusting(calm_s=0.5, every_s=0, ahead_s=3, most=16)
    pool = Pool("batch", (group,), mode=Mode.FULL, binding=("cpu", "memory"), adjusting=manner)
    with ExitStack() as stack:
        home = stack.enter_context(cleared(tmp_path))
        app = stack.enter_context(open_app(Settings(home=home), pools={"batch": pool}))
        yield Stage(app, pool, home)


def test_growing_memory_is_met_by_a_raise_before_it_is_full(stage: Stage) -> None:
    """It grows to six times what it asked for, never waits for memory, and nothing is killed."""
    run = stage.submit("grows", OBEYS, Resources(cpu=0.5, memory=32 * MIB))
    stage.until(lambda: stage.state(run) is State.RUNNING, "it to start")
    work = stage.work(run)
    stage.until(lambda: stage.bounds(run).memory, "its limit")
    for mib in range(4, 192, 4):
        (work / "want").write_text(str(mib))
        wait_until(lambda mib=mib: _read(work / "has") == str(mib), what=f"{mib} MiB, without any help")  # type: ignore[misc]
        stage.look()
    assert (stage.bounds(run).memory or 0) > 188 * MIB
    rows = [r.action for r in stage.app.ctx.ports.audit.records("batch") if r.action.kind is ActionKind.RESIZE]
    assert all(r.task == f"{run.run_id}/t#0" for r in rows)
    assert any(e.what.startswith("resize") for e in why_run(stage.app.ctx, run.run_id).events)
    stage.end(run)


def test_a_leap_over_the_limit_waits_for_the_raise_and_is_not_killed(stage: Stage) -> None:
    run = stage.submit("leaps", OBEYS, Resources(cpu=0.5, memory=32 * MIB))
    stage.until(lambda: stage.state(run) is State.RUNNING, "it to start")
    work = stage.work(run)
    stage.until(lambda: stage.bounds(run).memory, "its limit")
    assert (stage.bounds(run).memory or 0) < 160 * MIB, "the leap is one over its limit"
    (work / "want").write_text("160")
    stage.until(lambda: _read(work / "has") == "160", "160 MiB")
    stage.until(lambda: (stage.bounds(run).memory or 0) >= 160 * MIB, "a limit that it fits under")
    assert stage.state(run) is State.RUNNING, "the first time it was started"
    rows = [r for r in stage.app.ctx.ports.audit.records("batch") if r.action.kind is ActionKind.RESIZE]
    assert {r.action.task for r in rows} == {f"{run.run_id}/t#0"}, "by raises, which are written down"
    stage.end(run)


def test_one_that_is_held_back_gets_more_cores(stage: Stage) -> None:
    run = stage.submit("spins", SPINS, Resources(cpu=0.1, memory=64 * MIB))
    stage.until(lambda: (c := stage.claims()) and next(iter(c.values())).cpu >= 0.8, "most of a core")
    assert stage.bounds(run).cpu == pytest.approx(next(iter(stage.claims().values())).cpu, rel=0.05)
    stage.end(run)


def test_what_one_does_not_use_lets_another_start(stage: Stage) -> None:
    wide = stage.submit("wide", OBEYS, Resources(cpu=2, memory=0.4))
    stage.until(lambda: stage.state(wide) is State.RUNNING, "it to start")
    late = stage.submit("late", OBEYS, Resources(cpu=1, memory=0.2))
    stage.look()
    assert stage.state(late) is State.READY, "there is no room"
    stage.until(lambda: stage.state(late) is State.RUNNING, "the one that waits")
    assert stage.state(wide) is State.RUNNING
    claims = stage.claims()
    assert claims[f"{wide.run_id}/t#0"].cpu < 1
    assert claims[f"{wide.run_id}/t#0"].memory < 0.31
    stage.end(wide, late)


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""
