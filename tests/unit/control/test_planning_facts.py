"""What planning is told beside demand."""

from datetime import timedelta

import numpy as np
import pytest

from preprov.control.planning_facts import largest_open, rework_of
from preprov.model.resources import Resources
from preprov.model.worktable import WorkTable
from tests.unit.control.world import make_pool
from tests.unit.sim.test_workstore import T0, table


def of(*tasks: tuple[float, float], ended_s: tuple[float, ...] = ()) -> WorkTable:
    """One run with tasks of such (cores, GiB), the first of which ended so many seconds after T0."""
    work = table([0.0], len(tasks))
    ended = T0.timestamp() + np.array([*ended_s, *[np.nan] * (len(tasks) - len(ended_s))])
    cpu, memory = np.array(tasks).T
    return WorkTable(work.runs, work.tasks.assign(cpu=cpu, memory=memory, ended_at=ended), work.parents, work.children)


@pytest.mark.parametrize(
    ("work", "largest"),
    [
        (of((1, 8), (2, 1), (2, 3), (2, 2)), (2, 3)),
        (of((2, 3), (1, 4), ended_s=(5.0,)), (1, 4)),
        (of((2, 3), (1, 4), ended_s=(99.0,)), (2, 3)),
        (of((1e6, 1), (1, 2)), (1, 2)),
    ],
    ids=["most cores, then most memory", "what is over does not count", "what will be over does", "what fits nowhere"],
)
def test_the_largest_open_request(work: WorkTable, largest: tuple[float, float]):
    assert largest_open(work, make_pool(), T0 + timedelta(seconds=10)) == Resources(*largest)


def test_what_runs_at_any_moment_has_run_for_half_of_what_tasks_run_the_longer_ones_more_often():
    work = of((1, 1), (1, 1), (3, 1))
    ran = WorkTable(work.runs, work.tasks.assign(runtime_s=[100.0, 100.0, 1000.0]), work.parents, work.children)
    assert rework_of(ran) == pytest.approx((2 * 100**2 + 3 * 1000**2) / (2 * (2 * 100 + 3 * 1000)))
    hinted = WorkTable(work.runs, work.tasks.assign(runtime_s=np.nan, hint_s=60.0), work.parents, work.children)
    assert rework_of(hinted) == pytest.approx(30.0)
    silent = work.tasks.assign(runtime_s=np.nan, hint_s=np.nan)
    assert rework_of(WorkTable(work.runs, silent, work.parents, work.children)) == 0.0


def test_nothing_open_has_no_largest():
    assert largest_open(of((1, 1), ended_s=(5.0,)), make_pool(), T0 + timedelta(seconds=10)) is None
