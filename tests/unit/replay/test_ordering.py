"""Where a limit binds, the replay serves what waits in the product's launch order."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from preprov.model.worktable import WorkTable
from preprov.replay.engine import replay
from preprov.replay.production import Preprov

from .traces import E0, T0, T, pool_of, work_of


def contended(priorities: tuple[int, ...] = (0,)) -> WorkTable:
    """A task fills the only node; meanwhile three more come, the last with the nearest deadline."""
    one = [T(300.0, cpu=4.0)]
    work = work_of([(0.0, [T(900.0, cpu=4.0)]), (300.0, one), (301.0, one), (302.0, one)], priorities=priorities)
    land_by = np.array([np.nan, np.nan, E0 + 7200.0, E0 + 3600.0])
    return WorkTable(work.runs.assign(land_by=land_by), work.tasks, work.parents, work.children)


def started(work: WorkTable, *, in_turn: bool) -> list[int]:
    """Runs in the order in which they began."""
    pool = replace(pool_of(lead_s=60.0, max_nodes=1), horizon_s=3600)
    policy = Preprov(5.0, samples=10, in_turn=in_turn)
    until = T0 + timedelta(hours=1)
    result = replay(work, pool, policy, judged_from=T0, until=until, warm_up_s=600.0)
    assert result.unstarted == result.evicted == 0
    return [int(t) for t in result.per_instance.sort_values("start")["task"]]


@pytest.mark.slow
def test_the_nearest_deadline_goes_first_and_without_the_order_the_first_come():
    assert started(contended(), in_turn=False)[:2] == [0, 3]
    assert started(contended(), in_turn=True) == [0, 1, 2, 3]


@pytest.mark.slow
def test_priority_goes_before_any_deadline():
    assert started(contended((0, 7, 0, 0)), in_turn=False) == [0, 1, 3, 2]
