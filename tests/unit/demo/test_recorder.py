"""Which waits of a live play are waits for a node."""

from datetime import UTC, datetime, timedelta

from preprov.contracts import TaskReport
from preprov.demo.recorder import Recorder
from preprov.model.resources import Resources
from preprov.model.work import State, TaskRun, TaskSpec

T0 = datetime(2025, 10, 31, 1, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def run(task_id: str, *parents: str, ready_s: float = 0.0) -> TaskRun:
    spec = TaskSpec(task_id, command=("true",), parents=parents, request=Resources(cpu=1))
    return TaskRun("r", task_id, "p", spec, "", State.READY, ready_at=at(ready_s))


def played(*, told_s: float, placed_s: float) -> float:
    """Rounds every four seconds; a parent ends at 10 s, which the round of `told_s` is the first to hear of."""
    recorder = Recorder()
    for s in range(0, 40, 4):
        recorder.round_began(at(s))
        ended = at(10) if s >= told_s else None
        recorder.reported([TaskReport("r/a#0", "n", at(0), ended, 0 if ended else None)])
        if s <= placed_s < s + 4:
            recorder.placed("r/b#0", run("b", "a", ready_s=10), at(placed_s))
    (found,) = recorder.instances()
    return found.wait_s


def test_what_passes_until_the_controller_looks_is_no_wait_for_a_node():
    assert played(told_s=12, placed_s=12.3) == 0.0
    assert played(told_s=12, placed_s=16.3) == 6.3


def test_nor_is_what_passes_until_it_is_told_that_a_parent_has_ended():
    """The node reported just before the task ended, and again in the next round."""
    assert played(told_s=16, placed_s=16.3) == 0.0
    assert played(told_s=16, placed_s=20.3) == 10.3


def test_a_task_without_parents_waits_from_when_it_is_due():
    recorder = Recorder()
    for s in range(0, 40, 4):
        recorder.round_began(at(s))
        if s == 12:
            recorder.placed("r/a#0", run("a", ready_s=2), at(12.5))
    (found,) = recorder.instances()
    assert found.wait_s == 10.5
