"""The one place where the future is hidden, and the arithmetic of DAGs."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.model.errors import WorkError
from preprov.model.worktable import DONE, PENDING, READY, RUNNING, WorkTable, edge_levels, nominal_ready

T0 = 1_740_000_000.0


def table(runs, timing="nominal"):
    """runs: list of (submit, [(runtime, [parents])])."""
    run_rows, task_rows, parents, children = [], [], [], []
    for r, (submit, tasks) in enumerate(runs):
        run_rows.append(
            {
                "run_id": f"r{r}",
                "dag_id": "d",
                "tenant": "t",
                "priority": 0,
                "schedule": "",
                "zone": "UTC",
                "trigger": "manual",
                "scheduled_for": np.nan,
                "submit": submit,
                "due": submit,
                "land_by": np.nan,
                "timing": timing,
            }
        )
        base = len(task_rows)
        for i, (runtime, up) in enumerate(tasks):
            task_rows.append(
                {
                    "run": r,
                    "task_id": f"t{i}",
                    "signature": f"d/t{i}",
                    "operator": "",
                    "instances": 1,
                    "cpu": 1.0,
                    "memory": 1.0,
                    "gpu": 0.0,
                    "disk_io": 0.0,
                    "network": 0.0,
                    "gang": False,
                    "hint_s": np.nan,
                    "ready_at": np.nan,
                    "started_at": np.nan,
                    "ended_at": np.nan,
                    "runtime_s": float(runtime),
                }
            )
            parents += [base + p for p in up]
            children += [base + i] * len(up)
    tasks = pd.DataFrame(task_rows)
    p, c = np.array(parents, dtype=np.int64), np.array(children, dtype=np.int64)
    run_frame = pd.DataFrame(run_rows)
    tasks["ready_at"] = nominal_ready(
        run_frame["due"].to_numpy(), tasks["runtime_s"].to_numpy(), tasks["run"].to_numpy(), p, c
    )
    return WorkTable(run_frame, tasks, p, c)


@st.composite
def histories(draw):
    runs = []
    for _ in range(draw(st.integers(1, 5))):
        submit = T0 + draw(st.integers(0, 1000))
        n = draw(st.integers(1, 6))
        tasks = []
        for i in range(n):
            up = draw(st.lists(st.integers(0, i - 1), unique=True, max_size=2)) if i else []
            tasks.append((draw(st.integers(1, 500)), up))
        runs.append((submit, tasks))
    return table(sorted(runs, key=lambda r: r[0]))


@given(histories(), st.integers(0, 2500), st.integers(0, 10_000))
def test_what_comes_after_the_cutoff_changes_nothing_that_is_seen(work, after, seed):
    now = T0 + after
    rng = np.random.default_rng(seed)
    _, end = work.spans()
    garbled = work.tasks.copy()
    future = ~(end <= now)
    garbled.loc[future, "runtime_s"] = rng.uniform(1, 9999, future.sum()) + (now - garbled["ready_at"][future]).clip(0)
    later = garbled["ready_at"] > now
    garbled.loc[later, "ready_at"] = now + rng.uniform(1, 9999, later.sum())
    other = WorkTable(work.runs, garbled, work.parents, work.children)
    at = datetime.fromtimestamp(now, UTC)
    seen, same = work.as_of(at), other.as_of(at)
    pd.testing.assert_frame_equal(seen.tasks, same.tasks)
    pd.testing.assert_frame_equal(seen.runs, same.runs)
    assert (seen.states(at) == same.states(at)).all()


@given(histories(), st.integers(0, 2500))
def test_seeing_twice_is_seeing_once(work, after):
    at = datetime.fromtimestamp(T0 + after, UTC)
    once = work.as_of(at)
    pd.testing.assert_frame_equal(once.tasks, once.as_of(at).tasks)


def test_states_of_a_chain_as_time_goes_by():
    work = table([(T0, [(100, []), (50, [0]), (10, [1])])])

    def at(seconds):
        when = datetime.fromtimestamp(T0 + seconds, UTC)
        return work.as_of(when).states(when).tolist()

    assert at(0) == [RUNNING, PENDING, PENDING]
    assert at(100) == [DONE, RUNNING, PENDING]
    assert at(155) == [DONE, DONE, RUNNING]
    assert at(160) == [DONE, DONE, DONE]
    before = datetime.fromtimestamp(T0 - 1, UTC)
    assert len(work.as_of(before).runs) == 0


def test_observed_timing_waits_until_a_start_was_seen():
    work = table([(T0, [(100, [])])], timing="observed")
    when = datetime.fromtimestamp(T0 + 5, UTC)
    assert work.as_of(when).states(when).tolist() == [READY]


def test_ready_times_over_samples_follow_the_slowest_parent():
    runtime = np.array([[10.0, 100.0], [20.0, 20.0], [1.0, 1.0]])
    ready = nominal_ready(np.array([T0]), runtime, np.zeros(3, int), np.array([0, 1]), np.array([2, 2]))
    assert (ready[2] - T0).tolist() == [20.0, 100.0]


def test_a_cycle_is_an_error():
    with pytest.raises(WorkError, match="cycle"):
        edge_levels(3, np.array([0, 1, 2]), np.array([1, 2, 0]))


def test_parts_put_together_are_the_whole():
    work = table([(T0, [(10, []), (5, [0])]), (T0 + 5, [(7, [])]), (T0 + 9, [(1, []), (1, [0]), (1, [0, 1])])])
    keep = np.array([True, False, True])
    again = WorkTable.concat([work.select_runs(keep & (np.arange(3) == i)) for i in range(3)])
    whole = work.select_runs(keep)
    pd.testing.assert_frame_equal(again.tasks, whole.tasks)
    assert again.parents.tolist() == whole.parents.tolist()
    assert again.children.tolist() == whole.children.tolist()


def test_a_missing_column_is_named():
    work = table([(T0, [(10, [])])])
    with pytest.raises(WorkError, match="runtime_s"):
        WorkTable(work.runs, work.tasks.drop(columns="runtime_s"), work.parents, work.children)
