"""What planning is told beside demand."""

from datetime import timedelta

import numpy as np
import pytest

from preprov.control.planning_facts import largest_open
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


def test_nothing_open_has_no_largest():
    assert largest_open(of((1, 1), ended_s=(5.0,)), make_pool(), T0 + timedelta(seconds=10)) is None
