"""What every scheduler must do, whatever runs its tasks: one suite, run against each.

Subclass `SchedulerContract` and give it a fixture `world` that yields a `SchedulerWorld`.
"""

from collections.abc import Callable
from itertools import count
from typing import Protocol

import pytest

from preprov.contracts import Scheduler, TaskReport
from preprov.model.agent import Usage
from preprov.model.errors import NotFoundError, PoolError
from preprov.model.nodes import Node
from preprov.model.work import State, TaskRun, TaskSpec


class SchedulerWorld(Protocol):
    """A scheduler with a ready node.

    Attributes:
        scheduler: under test. node: ready, nothing has run there.
        writes_logs: it keeps what tasks print. observes: it observes what tasks use.
    """

    scheduler: Scheduler
    node: Node
    writes_logs: bool
    observes: bool

    def again(self) -> Scheduler:
        """Another instance over the same surroundings, as after a restart of the controller."""
        ...

    def spec(self, task_id: str, *, seconds: float, exit_code: int = 0, says: str = "") -> TaskSpec:
        """A task that takes about so long, prints a line and ends like that."""
        ...

    def until(self, look: Callable[[], bool], what: str) -> None:
        """Let time pass until `look` is true, and fail if it never is."""
        ...

    def begun(self, claimant: str) -> int:
        """How often the task really began."""
        ...

    def end_node(self) -> None:
        """The node is ended."""
        ...


class SchedulerContract:
    """The suite."""

    _runs = count()

    def task(self, world: SchedulerWorld, *, seconds: float = 0.0, exit_code: int = 0, says: str = "") -> TaskRun:
        """A task of a run of its own."""
        spec = world.spec("only", seconds=seconds, exit_code=exit_code, says=says)
        return TaskRun(f"run-{next(self._runs)}", "only", world.node.pool, spec, "signature", State.READY)

    def report(self, world: SchedulerWorld, task: TaskRun, scheduler: Scheduler | None = None) -> TaskReport | None:
        """What a poll says about it."""
        found = [r for r in (scheduler or world.scheduler).poll([world.node]) if r.claimant == task.claimant(0)]
        assert len(found) < 2, "one report per instance"
        return found[0] if found else None

    def ended(self, world: SchedulerWorld, task: TaskRun) -> TaskReport:
        """Wait until it has ended."""
        last: list[TaskReport] = []

        def over() -> bool:
            report = self.report(world, task)
            last[:] = [report] if report else []
            return report is not None and report.ended_at is not None

        world.until(over, f"{task.claimant(0)} to end")
        return last[0]

    # ------------------------------------------------------------------ start and poll

    def test_nothing_ran_yet(self, world: SchedulerWorld) -> None:
        """An idle node has no reports, and no nodes have none."""
        assert world.scheduler.poll([world.node]) == ()
        assert world.scheduler.poll([]) == ()

    def test_a_task_runs_and_ends(self, world: SchedulerWorld) -> None:
        """First it runs, then it has ended with its exit code; the start comes before the end."""
        task = self.task(world, seconds=0.3)
        world.scheduler.start(task, 0, world.node)
        first = self.report(world, task)
        assert first is not None
        assert first.ended_at is None
        assert first.exit_code is None
        report = self.ended(world, task)
        assert report.exit_code == 0
        assert report.node_id == world.node.node_id
        assert report.ended_at is not None
        assert report.started_at <= report.ended_at

    def test_a_failure_is_reported_as_it_is(self, world: SchedulerWorld) -> None:
        """The exit code is the task's own."""
        task = self.task(world, exit_code=3)
        world.scheduler.start(task, 0, world.node)
        assert self.ended(world, task).exit_code == 3

    def test_a_start_happens_once(self, world: SchedulerWorld) -> None:
        """Sent again while it runs and after, by us or by a restarted controller, it does nothing."""
        task = self.task(world, seconds=0.2)
        world.scheduler.start(task, 0, world.node)
        world.scheduler.start(task, 0, world.node)
        world.again().start(task, 0, world.node)
        first = self.ended(world, task)
        world.scheduler.start(task, 0, world.node)
        world.again().start(task, 0, world.node)
        again = self.report(world, task)
        assert again is not None
        assert (again.started_at, again.ended_at) == (first.started_at, first.ended_at)
        assert world.begun(task.claimant(0)) == 1

    def test_instances_are_told_apart(self, world: SchedulerWorld) -> None:
        """Each instance is its own claimant."""
        task = self.task(world)
        for i in range(3):
            world.scheduler.start(task, i, world.node)

        def over() -> bool:
            reports = world.scheduler.poll([world.node])
            return {r.claimant for r in reports if r.ended_at} == {task.claimant(i) for i in range(3)}

        world.until(over, "three instances to end")
        assert [world.begun(task.claimant(i)) for i in range(3)] == [1, 1, 1]

    def test_a_new_instance_goes_on(self, world: SchedulerWorld) -> None:
        """Nothing is remembered: a restarted controller polls what its predecessor started."""
        task = self.task(world, seconds=0.2)
        world.scheduler.start(task, 0, world.node)
        other = world.again()
        assert self.report(world, task, other) is not None

        def over() -> bool:
            report = self.report(world, task, other)
            return report is not None and report.exit_code == 0

        world.until(over, "the task to end")
        assert world.begun(task.claimant(0)) == 1

    def test_an_ended_node_takes_nothing_and_is_left_out(self, world: SchedulerWorld) -> None:
        """Starting there is an error, asking it is not."""
        world.end_node()
        with pytest.raises(NotFoundError):
            world.scheduler.start(self.task(world), 0, world.node)
        assert world.scheduler.poll([world.node]) == ()
        world.scheduler.cancel("run-x/only#0", world.node)

    # ------------------------------------------------------------------ cancel

    def test_a_cancelled_task_ends(self, world: SchedulerWorld) -> None:
        """It ends soon, and not well."""
        task = self.task(world, seconds=3600.0)
        world.scheduler.start(task, 0, world.node)
        world.scheduler.cancel(task.claimant(0), world.node)
        assert self.ended(world, task).exit_code != 0

    def test_cancelling_what_is_absent_or_over_is_success(self, world: SchedulerWorld) -> None:
        """There is nothing left to end."""
        world.scheduler.cancel("run-x/only#0", world.node)
        task = self.task(world)
        world.scheduler.start(task, 0, world.node)
        report = self.ended(world, task)
        world.scheduler.cancel(task.claimant(0), world.node)
        after = self.report(world, task)
        assert after is not None
        assert after.exit_code == report.exit_code == 0

    # ------------------------------------------------------------------ logs and usage

    def test_logs(self, world: SchedulerWorld) -> None:
        """What a task printed, line by line; nothing for one that never ran."""
        if not world.writes_logs:
            pytest.skip("this scheduler keeps no logs")
        task = self.task(world, says="good evening")
        world.scheduler.start(task, 0, world.node)
        self.ended(world, task)
        assert list(world.scheduler.logs(task.claimant(0))) == ["good evening"]
        assert list(world.again().logs(task.claimant(0))) == ["good evening"]
        assert list(world.scheduler.logs("run-x/only#0")) == []

    def test_usage_is_given_once_and_in_order(self, world: SchedulerWorld) -> None:
        """Each sample comes once, in time order, and says None for what cannot be seen."""
        if not world.observes:
            pytest.skip("this scheduler observes nothing")
        task = self.task(world, seconds=0.6)
        world.scheduler.start(task, 0, world.node)
        samples: list[Usage] = []

        def over() -> bool:
            report = self.report(world, task)
            assert report is not None
            samples.extend(report.usage)
            return report.ended_at is not None

        world.until(over, "the task to end")
        world.until(lambda: _take(self.report(world, task), samples), "the last samples")
        times = [u.at for u in samples]
        assert samples
        assert times == sorted(set(times))
        for u in samples:
            for value in (u.cpu, u.memory, u.disk_io, u.network, u.gpu):
                assert value is None or value >= 0

    def test_a_refusal_leaves_nothing_behind(self, world: SchedulerWorld) -> None:
        """A task that was refused has not run and may be started elsewhere."""
        world.end_node()
        task = self.task(world, says="never")
        with pytest.raises(PoolError):
            world.scheduler.start(task, 0, world.node)
        assert list(world.scheduler.logs(task.claimant(0))) == []


def _take(report: TaskReport | None, into: list[Usage]) -> bool:
    """Add the report's samples; true when there are no more."""
    found = report.usage if report else ()
    into.extend(found)
    return not found
