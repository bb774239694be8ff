"""The coming night under the limits as they are."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from preprov.demand.waiting.tonight import foresee
from preprov.model.time import from_epoch
from preprov.model.waits import Cause, SlotLimit, limit_key
from preprov.model.work import Schedule
from preprov.model.worktable import WorkTable
from tests.unit.demand.waiting.nights import LIMITS, NOON, SOURCE, play

DWH = limit_key(Cause.AIRFLOW_POOL, SOURCE, "dwh")
AT = from_epoch(NOON // 3600 * 3600 + 86_400)


def night(runtime: float = 600.0) -> WorkTable:
    """One run of each DAG, whose tasks take so long each."""
    work = play(1, 40).work
    first = {d: i for i, d in reversed(list(enumerate(work.runs["dag_id"])))}
    only = work.select_runs(np.isin(np.arange(len(work.runs)), list(first.values())))
    return replace(only, tasks=only.tasks.assign(runtime_s=runtime))


def due(dag: str, *after_h: float) -> Schedule:
    return Schedule(dag, "p", "", "UTC", turns=tuple(AT + timedelta(hours=h) for h in after_h))


def test_tasks_that_share_few_slots_wait_for_each_other_by_the_hour() -> None:
    """After the first task five become ready at once, for two slots, 600 s each: 2 wait 600 s, 1 waits 1200 s."""
    found = foresee(night(), [due("load", 2.0)], LIMITS, AT, 6)
    assert found.keys() == {DWH}
    assert found[DWH].tolist() == [0, 0, pytest.approx(2 * 600 + 1200), 0, 0, 0]


def test_two_runs_at_once_wait_longer_and_into_the_next_hour() -> None:
    found = foresee(night(), [due("load", 1.5), replace(due("load", 1.5), cron="", zone="UTC")], LIMITS, AT, 6)[DWH]
    assert found[1] > 2400
    assert found[2] > 0
    assert found[0] == 0


def test_what_follows_others_comes_when_these_usually_end() -> None:
    """Its first task ends 600 s into the run it follows; what follows then waits as it would at a turn of its own."""
    work = night()
    begun = work.runs["submit"].to_numpy()[work.tasks["run"].to_numpy()]
    past = replace(work, tasks=work.tasks.assign(started_at=begun, ended_at=begun + 600.0, slot_at=begun))
    after = Schedule("load", "p", "", "UTC", follows=((("etl", "t0"),),))
    found = foresee(past, [due("etl", 1.95), after], LIMITS, AT, 6)[DWH]
    assert found.tolist() == pytest.approx(
        foresee(past, [due("load", 1.95 + 1 / 6)], LIMITS, AT, 6)[DWH].tolist(), abs=60
    )
    assert found[:2].sum() == 0
    assert found.sum() > 0


def test_limits_of_dags_are_told_apart_from_pools() -> None:
    found = foresee(night(), [due("wide", 0.5), due("often", 3.0, 3.1)], LIMITS, AT, 6)
    tasks, runs = (
        limit_key(c, SOURCE, d) for c, d in ((Cause.MAX_ACTIVE_TASKS, "wide"), (Cause.MAX_ACTIVE_RUNS, "often"))
    )
    assert set(found) == {tasks, runs}
    assert found[tasks][:2].sum() == pytest.approx(2 * 600 + 1200)
    assert found[runs][3] > 0


@pytest.mark.parametrize("cause", [Cause.SLURM_PARTITION, Cause.ROOM, Cause.SLURM_PRIORITY])
def test_jobs_of_slurm_wait_for_the_cores_of_their_partition_whatever_they_last_waited_for(cause: Cause) -> None:
    """Five of 4 cores each at once, where 8 are: as for two slots."""
    work = night()
    tasks = work.tasks.assign(slots=4.0, slot_of=limit_key(cause, "hpc", "batch"))
    partition = SlotLimit(Cause.SLURM_PARTITION, "batch", 8.0, source="hpc")
    found = foresee(replace(work, tasks=tasks), [due("load", 2.0)], [*LIMITS, partition], AT, 6)
    assert found.keys() == {partition.key}
    assert found[partition.key].tolist() == [0, 0, pytest.approx(2 * 600 + 1200), 0, 0, 0]
    for other in ("debug", "batch"):
        elsewhere = replace(partition, name=other, source="other" if other == "batch" else "hpc")
        assert foresee(replace(work, tasks=tasks), [due("load", 2.0)], [elsewhere], AT, 6) == {}


def test_what_runs_now_holds_its_slots() -> None:
    work = night()
    loads = work.runs["dag_id"].to_numpy()[work.tasks["run"].to_numpy()] == "load"
    now = AT.timestamp()
    running = work.tasks.assign(
        started_at=np.where(loads, now - 300.0, work.tasks["started_at"]),
        ended_at=np.where(loads, np.nan, work.tasks["ended_at"]),
    )
    live = replace(work, tasks=running, parents=np.empty(0, dtype=np.int64), children=np.empty(0, dtype=np.int64))
    renamed = replace(live, runs=live.runs.assign(dag_id=live.runs["dag_id"].replace({"load": "now"})))
    both = WorkTable.concat([work, renamed.select_runs((renamed.runs["dag_id"] == "now").to_numpy())])
    alone = foresee(work, [due("load", 0.0)], LIMITS, AT, 6)[DWH].sum()
    beside = foresee(both, [due("load", 0.0)], LIMITS, AT, 6)[DWH].sum()
    assert beside == pytest.approx(alone + 300.0), "the first task waits until what runs has ended"


@pytest.mark.parametrize(("weights", "waited_s"), [((1, 9), 60.0), ((9, 1), 600.0), ((np.nan, np.nan), 600.0)])
def test_slots_are_given_by_task_the_weightier_first(weights: tuple[float, float], waited_s: float) -> None:
    """One slot, for which a long and a short task are ready at once; without weights the long one is first."""
    loads = night().select_runs((night().runs["dag_id"] == "load").to_numpy())
    tasks = loads.tasks.iloc[:2].assign(
        runtime_s=[600.0, 60.0], signature=["long", "short"], priority=np.array(weights)
    )
    none = np.empty(0, dtype=np.int64)
    one = SlotLimit(Cause.AIRFLOW_POOL, "dwh", 1, source=SOURCE)
    found = foresee(WorkTable(loads.runs, tasks, none, none), [due("load", 2.0)], [one], AT, 6)
    assert found[DWH].sum() == pytest.approx(waited_s)


def test_what_sleeps_takes_no_slots_meanwhile() -> None:
    """Of 600 s each, the last 60 with a slot: the five that share two slots wait a tenth as long."""
    past = night()
    began = past.tasks["started_at"]
    sleepy = replace(past, tasks=past.tasks.assign(ended_at=began + 600.0, slot_at=began + 540.0))
    found = foresee(sleepy, [due("load", 2.0)], LIMITS, AT, 6)
    assert found[DWH].tolist() == [0, 0, pytest.approx(2 * 60 + 120), 0, 0, 0]


def test_what_sleeps_now_leaves_its_slot_to_others() -> None:
    work = night()
    loads = work.runs["dag_id"].to_numpy()[work.tasks["run"].to_numpy()] == "load"
    ends = np.where(loads, np.nan, work.tasks["ended_at"])
    begun = work.tasks.assign(started_at=AT.timestamp() - 300.0, ended_at=ends)
    none = np.empty(0, dtype=np.int64)
    live = replace(work, tasks=begun, parents=none, children=none)
    renamed = replace(live, runs=live.runs.assign(dag_id=live.runs["dag_id"].replace({"load": "now"})))
    now = renamed.select_runs((renamed.runs["dag_id"] == "now").to_numpy())
    asleep = replace(now, tasks=now.tasks.assign(freed_at=AT.timestamp() - 200.0))

    def beside(other: WorkTable) -> float:
        return float(foresee(WorkTable.concat([work, other]), [due("load", 0.0)], LIMITS, AT, 6)[DWH].sum())

    assert beside(asleep) < beside(now)
    assert beside(asleep) == pytest.approx(foresee(work, [due("load", 0.0)], LIMITS, AT, 6)[DWH].sum())


def test_without_limits_nobody_waits() -> None:
    assert foresee(night(), [due("load", 1.0)], (), AT, 6) == {}
    roomy = [replace(f, slots=100.0) for f in LIMITS]
    assert foresee(night(), [due("load", 1.0), due("wide", 1.0)], roomy, AT, 6) == {}
    assert foresee(WorkTable.empty(), [due("x", 1.0)], [SlotLimit(Cause.AIRFLOW_POOL, "p", 1)], AT, 6) == {}
