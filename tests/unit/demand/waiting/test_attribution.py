"""Waits are put down to what really caused them, in nights whose every delay is known."""

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprov.demand.waiting.attribution import CAUSES, COLUMN, Waits, attribute
from preprov.demand.waiting.nodes import Warming
from preprov.demand.waiting.occupancy import Taken
from preprov.model.waits import Cause, SlotLimit, limit_key
from preprov.model.worktable import WorkTable
from tests.unit.demand.waiting import crowds
from tests.unit.demand.waiting.nights import LIMITS, NOON, SOURCE, STAGES, Night, play

INJECTED = (
    Cause.AIRFLOW_POOL,
    Cause.MAX_ACTIVE_TASKS,
    Cause.MAX_ACTIVE_RUNS,
    Cause.WORKERS,
    Cause.ROOM,
    *STAGES,
)


def taken_apart(night: Night, limits: tuple[SlotLimit, ...] = LIMITS) -> Waits:
    return attribute(night.work, limits, night.warmings, NOON - 1, NOON + 1e6)


def total(found: Waits, cause: Cause) -> float:
    return float(found.seconds[:, COLUMN[cause]].sum())


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_each_injected_delay_is_found_within_a_tenth_and_hardly_anything_is_unknown(seed: int) -> None:
    night = play(seed)
    found = taken_apart(night)
    assert len(found.task) == len(night.work)
    for cause in INJECTED:
        assert night.truth[cause] > 60, f"{cause} is hardly there: the night shows nothing of it"
        assert total(found, cause) == pytest.approx(night.truth[cause], rel=0.1), cause
    assert total(found, Cause.UNKNOWN) <= 0.05 * found.seconds.sum()
    assert found.seconds.sum() == pytest.approx(sum(night.truth.values()), rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), runs=st.integers(1, 12))
def test_the_parts_of_each_wait_add_up_to_it_and_none_is_negative(seed: int, runs: int) -> None:
    night = play(seed, runs)
    found = taken_apart(night)
    assert (found.seconds >= 0).all()
    np.testing.assert_allclose(found.seconds.sum(axis=1), found.started - found.could, atol=1e-4)


def test_a_slot_that_nobody_knows_the_limit_of_is_unknown_beyond_what_a_scheduler_takes() -> None:
    night = play(1)
    found = taken_apart(night, ())
    pool = limit_key(Cause.AIRFLOW_POOL, SOURCE, "dwh")
    mine = found.limit == pool
    assert found.seconds[mine][:, COLUMN[Cause.AIRFLOW_POOL]].sum() == 0
    assert found.seconds[mine][:, COLUMN[Cause.UNKNOWN]].sum() > 60


def one(work: WorkTable, **columns: object) -> WorkTable:
    """The first task alone, otherwise told."""
    only = work.select_runs(np.arange(len(work.runs)) == 0)
    tasks = only.tasks.iloc[:1].reset_index(drop=True).assign(**columns)
    runs = only.runs.assign(due=NOON, submit=NOON)
    return WorkTable(runs, tasks, np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))


def only_task(**columns: object) -> WorkTable:
    times = {"ready_at": NOON, "slot_at": np.nan, "started_at": NOON + 100, "ended_at": NOON + 200, "runtime_s": 100.0}
    return one(play(1, 1).work, **{**times, "slot_of": "", "node": "", **columns})


def parts(work: WorkTable, *warmings: Warming) -> dict[Cause, float]:
    found = attribute(work, LIMITS, warmings, NOON - 1, NOON + 1e6)
    (row,) = found.seconds
    return {c: pytest.approx(float(s), abs=1e-3) for c, s in zip(CAUSES, row, strict=True) if s > 0}


@pytest.mark.parametrize("cause", [Cause.SLURM_PRIORITY, Cause.SLURM_LIMIT, Cause.ROOM])
def test_slurm_says_why_a_job_waits_and_is_believed(cause: Cause) -> None:
    assert parts(only_task(slot_of=limit_key(cause, "hpc", "x"))) == {cause: 100.0}


def test_a_slurm_job_of_which_nothing_was_said_waited_for_its_node_and_for_no_worker() -> None:
    key = limit_key(Cause.SLURM_PARTITION, "hpc", "batch")
    way = Warming("cn1", NOON + 40, NOON + 95, {"boot": 55.0})
    bare, named = (parts(only_task(slot_of=k, node="cn1"), way) for k in ("", key))
    assert bare == named == {Cause.ROOM: 40, Cause.BOOT: 55, Cause.SCHEDULER: 5}
    given = parts(only_task(slot_of=key, node="cn1", slot_at=NOON + 35.0), way)
    assert given == {Cause.SCHEDULER: 15, Cause.UNKNOWN: 25, Cause.ROOM: 5, Cause.BOOT: 55}


def test_a_slurm_job_waits_for_its_turn_until_a_node_boots_for_it() -> None:
    work = only_task(slot_of=limit_key(Cause.SLURM_PRIORITY, "hpc", "batch"), node="cn1")
    way = Warming("cn1", NOON + 40, NOON + 95, {"allocate": 15.0, "boot": 30.0, "image": 10.0})
    expected = {Cause.SLURM_PRIORITY: 40, Cause.ALLOCATE: 15, Cause.BOOT: 30, Cause.IMAGE: 10, Cause.SCHEDULER: 5}
    assert parts(work, way) == expected
    given = parts(replace(work, tasks=work.tasks.assign(slot_at=NOON + 35.0)), way)
    assert given == {Cause.SLURM_PRIORITY: 35, Cause.ROOM: 5, **{c: expected[c] for c in list(expected)[1:]}}


def test_a_node_whose_stages_nobody_timed_booted() -> None:
    assert parts(only_task(node="n"), Warming("n", NOON, NOON + 100)) == {Cause.BOOT: 100}


def test_a_worker_is_known_by_the_first_part_of_its_name() -> None:
    assert parts(only_task(node="n.example.org"), Warming("n", NOON, NOON + 100)) == {Cause.BOOT: 100}


def test_a_node_that_was_ready_before_explains_nothing() -> None:
    got = parts(only_task(node="n"), Warming("n", NOON - 100, NOON - 10))
    assert got == {Cause.SCHEDULER: 10, Cause.UNKNOWN: 90}


def test_what_nothing_explains_is_the_schedulers_for_ten_seconds_of_each_part_and_unknown_beyond() -> None:
    """Let in after 40 s, its slot after another 30, its start after another 30, of a pool that was never full."""
    pool = limit_key(Cause.AIRFLOW_POOL, SOURCE, "default_pool")
    times = {"ready_at": NOON + 40, "slot_at": NOON + 70.0}
    assert parts(only_task(slot_of=pool, node="n", **times)) == {Cause.SCHEDULER: 30, Cause.UNKNOWN: 70}
    quick = {"ready_at": NOON + 5, "slot_at": NOON + 9.0, "started_at": NOON + 17, "ended_at": NOON + 117}
    assert parts(only_task(slot_of=pool, node="n", **quick)) == {Cause.SCHEDULER: 17}


def beside(*spans: tuple[float, float, float, float], node: str = "w1", pool: str = "default_pool") -> WorkTable:
    """Tasks of one run by when each was ready, had its slot, began and ended."""
    first = play(1, 1).work
    rows = first.tasks.iloc[[0] * len(spans)].reset_index(drop=True)
    ready, slot, started, ended = (NOON + np.array(c) for c in zip(*spans, strict=True))
    told = {"slot_of": limit_key(Cause.AIRFLOW_POOL, SOURCE, pool), "node": node, "runtime_s": ended - started}
    tasks = rows.assign(ready_at=ready, slot_at=slot, started_at=started, ended_at=ended, **told)
    none = np.empty(0, dtype=np.int64)
    return WorkTable(first.runs.iloc[:1].assign(due=NOON, submit=NOON), tasks, none, none)


def waits_of(work: WorkTable, *limits: SlotLimit) -> dict[Cause, float]:
    found = attribute(work, limits or LIMITS, (), NOON - 1, NOON + 1e6)
    return {c: pytest.approx(total(found, c), abs=1e-3) for c in CAUSES if total(found, c) > 0}


def test_a_worker_that_never_had_two_tasks_is_not_full_because_it_has_one() -> None:
    """The second waits beside it for 60 s, and begins long before it ends; so did it another night, and another."""
    nights = [(n * 1e4, n * 1e4, n * 1e4, n * 1e4 + 300) for n in range(4)]
    others = [(a + 330, a + 330, a + 400, a + 500) for a, *_ in nights]
    causes = waits_of(beside(*nights, *others))
    assert Cause.WORKERS not in causes
    waited = sum(b - a for a, _, b, _ in (*nights, *others))
    let_in = sum(a for a, *_ in (*nights, *others))
    assert causes[Cause.UNKNOWN] == waited - 4 * 10 + let_in - 7 * 10


def test_a_worker_is_full_where_tasks_that_wait_begin_as_another_ends() -> None:
    line = [(0.0, 0.0, n * 100.0 + 1, n * 100.0 + 100) for n in range(6)]
    assert waits_of(beside(*line)) == {Cause.WORKERS: 100 + 200 + 300 + 400 + 500, Cause.SCHEDULER: 6}


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_that_began_as_another_ended_prove_nothing(count: int) -> None:
    line = [(0.0, 0.0, n * 100.0 + 1, n * 100.0 + 100) for n in range(count + 1)]
    assert Cause.WORKERS not in waits_of(beside(*line))


def test_all_slots_of_an_orchestrator_are_taken_only_where_its_tasks_go_on_as_others_end() -> None:
    """Two at once on nodes of their own, though its pool has 64 slots: the third of four waits for any of them."""
    pairs = [(n * 100.0, n * 100.0, n * 100.0, n * 100.0 + 99) for n in (0, 0, 1, 1, 2, 2, 3, 3)]
    capped = [(max(a - 90, 0.0), *rest) for a, *rest in pairs]
    assert waits_of(beside(*capped, node=""))[Cause.WORKERS] == 6 * 89
    alone = [(a, a + 60, a + 60, a + 99) for a, *_ in pairs[::2]]
    assert Cause.WORKERS not in waits_of(beside(*pairs[::2], *alone, node=""))


def test_moments_in_which_a_slot_is_free_between_two_that_have_it_are_the_schedulers() -> None:
    """One slot, that three have one after the other, three seconds apart each; the fourth waits for all of them."""
    line = [(0.0, n * 60.0 + 3 * n, n * 60.0 + 3 * n, (n + 1) * 60.0 + 3 * n) for n in range(4)]
    one = SlotLimit(Cause.AIRFLOW_POOL, "one", 1, source=SOURCE)
    causes = waits_of(beside(*line, pool="one"), one)
    assert causes == {Cause.AIRFLOW_POOL: 60 + 120 + 180, Cause.SCHEDULER: 3 + 6 + 9}
    slow = [(0.0, n * 90.0, n * 90.0, n * 90.0 + 60) for n in range(4)]
    causes = waits_of(beside(*slow, pool="one"), one)
    assert causes == {Cause.AIRFLOW_POOL: 360, Cause.SCHEDULER: 3 * 10, Cause.UNKNOWN: 30 + 60 + 90 - 3 * 10}


def test_a_day_of_sixty_thousand_tasks_is_taken_apart_in_moments() -> None:
    """Anything that looks at all tasks for each that waited takes a minute."""
    work = crowds.crowd(60_000, 1.0)
    limits, warmings = crowds.limits(), crowds.warmings(work)
    began = time.perf_counter()
    found = attribute(work, limits, warmings, crowds.BEGIN, crowds.BEGIN + 1e6)
    assert time.perf_counter() - began < 10.0
    assert len(found.task) == len(work)
    np.testing.assert_allclose(found.seconds.sum(axis=1), found.started - found.could, atol=1e-3)


def test_what_came_before_a_second_attempt_is_not_waiting() -> None:
    assert parts(only_task(attempt=2, ready_at=NOON + 95.0)) == {Cause.SCHEDULER: 5}


@pytest.mark.parametrize(("freed_after_s", "waited_s"), [(np.nan, 100.0), (30.0, 30.0)])
def test_a_pool_is_full_only_until_what_held_it_gave_its_slot_back(freed_after_s: float, waited_s: float) -> None:
    first = play(1, 1).work
    tasks = first.tasks.iloc[:2].reset_index(drop=True)
    times = {"ready_at": [-100.0, 0.0], "slot_at": [-100.0, 100.0], "started_at": [-100.0, 100.0]}
    times |= {"ended_at": [np.nan, 200.0], "freed_at": [freed_after_s, np.nan]}
    pool = limit_key(Cause.AIRFLOW_POOL, SOURCE, "one")
    told = tasks.assign(slot_of=pool, node="", **{c: NOON + np.array(v) for c, v in times.items()})
    none = np.empty(0, dtype=np.int64)
    work = WorkTable(first.runs.iloc[:1].assign(due=NOON, submit=NOON), told, none, none)
    limit = SlotLimit(Cause.AIRFLOW_POOL, "one", 1, source=SOURCE)
    found = attribute(work, (limit,), (), NOON, NOON + 1e6)
    assert total(found, Cause.AIRFLOW_POOL) == pytest.approx(waited_s)


def test_what_never_ran_and_what_belongs_elsewhere_is_left_out() -> None:
    never = only_task(started_at=NOON + 100, ended_at=NOON + 100, runtime_s=np.nan)
    elsewhere = only_task(attempt=0, cpu=0.0, memory=0.0)
    for work in (never, elsewhere):
        assert not len(attribute(work, LIMITS, (), NOON - 1, NOON + 1e6).task)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(1, 3)), max_size=12), st.integers(0, 6))
def test_time_over_a_limit_is_counted_as_by_the_second(spans: list[tuple[int, int, int]], slots: int) -> None:
    since, until, need = (np.array(c, dtype=float) for c in (zip(*spans, strict=True) if spans else ((), (), ())))
    when = Taken.of(since, np.fmax(since, until), need).over(slots)
    level = [sum(n for a, b, n in spans if a <= s < max(a, b)) for s in range(60)]
    got = when.seconds(np.array([0.0, 10.0]), np.array([60.0, 30.0]))
    assert got.tolist() == [sum(v > slots for v in level), sum(v > slots for v in level[10:30])]
