from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprov.demand import expansion
from preprov.demand.arrivals import PredictedRun
from preprov.demand.known import KnownDemand, expand
from preprov.demand.runtimes import RuntimeModel
from preprov.model.errors import ForecastError
from preprov.model.resources import KINDS
from preprov.model.work import Schedule
from preprov.model.worktable import WorkTable
from tests.unit.demand.work import AT, HOUR, NOW, Run, Task, history, instant, table

CPU = KINDS.index("cpu")
NIGHTLY = Schedule("nightly", "p", "0 2 * * *", "UTC")
CHAIN = [Task("a", 600.0), Task("b", 1200.0, ("a",), cpu=4.0), Task("c", 300.0, ("b",))]


def known(work: WorkTable, schedules: tuple[Schedule, ...] = (), *, at: datetime = AT, **more: object) -> KnownDemand:
    asked: dict[str, object] = {"horizon_s": 24 * 3600, "step_seconds": 300, "n_samples": 64, "seed": 3, **more}
    return expand(work, schedules, at, **asked)  # type: ignore[arg-type]


def core_seconds(found: KnownDemand, part: str | None = None, step: float = 300.0) -> float:
    mean = found.mean[:, :, CPU].mean(axis=0) if part is None else found.parts[part][:, CPU]
    return float(mean.sum() * step)


# --------------------------------------------------------------------------- what is expanded


def test_empty_history_is_no_demand() -> None:
    found = known(table([]))
    assert found.samples.shape == (64, 288, 5)
    assert not found.samples.any()
    assert not known(table([]), (NIGHTLY,)).samples.any()


def test_a_queued_run_is_expanded_along_its_dag() -> None:
    past = history("nightly", CHAIN)
    queued = Run("now", "nightly", -1.0, [Task(t.task_id, np.nan, t.parents, t.cpu) for t in CHAIN], due=HOUR)
    found = known(table([*past, queued]))
    cpu = np.median(found.samples[:, :, CPU], axis=0)
    assert cpu[:12].max() == 0  # not before it is due
    assert cpu[12] == 1
    assert cpu[15] == 4
    assert cpu[20:].max() == 0
    assert core_seconds(found, "queued") == pytest.approx(600 + 4 * 1200 + 300, rel=0.1)
    assert core_seconds(found) == pytest.approx(sum(core_seconds(found, p) for p in found.parts))


def test_one_run_only_and_nothing_known_of_it() -> None:
    found = known(table([Run("r", "d", -1.0, [Task("a", hint=600.0), Task("b", np.nan, ("a",))])]))
    assert found.estimated == {"own": 0.0, "coarser": 0.0, "hint": 0.5, "pool": 0.5}
    assert (found.samples[:, 0, CPU] == 1).all()


def test_a_task_that_runs_holds_what_it_holds_until_it_may_end() -> None:
    past = history("d", [Task("a", 1800.0)], days=60, spread=0.3)
    running = Run("r", "d", -1500.0, [Task("a", 5000.0)])
    found = known(table([*past, running]))
    still = (found.samples[:, :, CPU] > 0).mean(axis=0)
    assert still[0] == 1
    assert np.all(np.diff(still) <= 0)
    assert 0.3 < still[1] <= 1
    assert still[-1] == 0
    assert set(found.parts) == {"in_flight", "queued", "scheduled", "recurring"}
    assert core_seconds(found, "in_flight") == pytest.approx(core_seconds(found))


def test_instances_multiply_and_a_sensor_without_cores_only_delays() -> None:
    past = history("d", [Task("wait", 3600.0, cpu=0.0), Task("map", 600.0, ("wait",), cpu=0.5, memory=2.0)])
    tasks = [Task("wait", cpu=0.0), Task("map", np.nan, ("wait",), cpu=0.5, memory=2.0, instances=100)]
    found = known(table([*past, Run("r", "d", -1.0, tasks)]))
    middle = np.median(found.samples, axis=0)
    assert middle[:9].max() == 0
    assert middle[13].tolist() == [50.0, 200.0, 0.0, 0.0, 0.0]


def test_a_task_that_waits_for_room_is_wanted_now() -> None:
    past = history("d", [Task("a", 600.0)])
    waiting = Run("r", "d", -900.0, [Task("a", ready=-800.0)], timing="observed")
    found = known(table([*past, waiting]))
    assert (found.samples[:, 0, CPU] == 1).all()
    assert core_seconds(found, "queued") == pytest.approx(600, rel=0.05)


def test_a_failed_parent_frees_what_its_children_wanted() -> None:
    past = history("d", CHAIN)
    ended = Task("a", 600.0, ready=-900.0, started=-800.0, ended=-200.0)
    rest = [Task("b", np.nan, ("a",), 4.0), Task("c", np.nan, ("b",))]
    going = known(table([*past, Run("r", "d", -900.0, [ended, *rest], timing="observed")]))
    assert core_seconds(going) > 4000
    failed = Task("a", np.nan, ready=-900.0, started=-800.0, ended=-200.0)
    assert core_seconds(known(table([*past, Run("r", "d", -900.0, [failed, *rest], timing="observed")]))) == 0


def test_what_ended_tasks_say_of_the_size_of_a_run_is_used() -> None:
    rng = np.random.default_rng(1)
    past = []
    for i in range(60):
        size = float(np.exp(0.5 * rng.standard_normal()))
        tasks = [Task("a", 600 * size), Task("b", 1800 * size * float(np.exp(0.1 * rng.standard_normal())), ("a",))]
        past.append(Run(f"p{i}", "d", -24 * HOUR * (i + 1), tasks))

    def left(first: float) -> float:
        live = Run("r", "d", -first - 1.0, [Task("a", first), Task("b", 1e5, ("a",))])
        return core_seconds(known(table([*past, live])))

    assert left(1200.0) == pytest.approx(3600, rel=0.25)
    assert left(300.0) == pytest.approx(900, rel=0.25)


# --------------------------------------------------------------------------- invariants

tasks_drawn = st.lists(
    st.tuples(st.floats(10, 4000), st.integers(0, 3), st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=6
)


def drawn_run(name: str, raw: list[tuple[float, int, int, int]], submit: float = -1.0, due: float = np.nan) -> Run:
    tasks = [
        Task(f"t{i}", np.nan, tuple(f"t{p}" for p in range(max(0, i - parents), i)), float(cpu), instances=n, hint=hint)
        for i, (hint, parents, cpu, n) in enumerate(raw)
    ]
    return Run(name, f"dag-{name}", submit, tasks, due=due)


@settings(max_examples=15)
@given(st.lists(tasks_drawn, min_size=1, max_size=4), tasks_drawn, st.floats(0, 20 * HOUR))
def test_a_further_run_never_lowers_a_quantile(
    raw: list[list[tuple[float, int, int, int]]], extra: list[tuple[float, int, int, int]], due: float
) -> None:
    runs = [drawn_run(f"r{i}", r) for i, r in enumerate(raw)]
    model = RuntimeModel.learn(table([]), AT)
    without = known(table(runs), runtimes=model, n_samples=24)
    within = known(table([*runs, drawn_run("extra", extra, due=due)]), runtimes=model, n_samples=24)
    assert (within.samples >= without.samples - 1e-4).all()
    levels = (0.05, 0.5, 0.95, 0.99)
    lower, higher = (np.quantile(k.samples, levels, axis=0) for k in (without, within))
    assert (higher >= lower - 1e-4).all()
    assert (np.diff(higher, axis=0) >= 0).all()


@settings(max_examples=15)
@given(st.lists(tasks_drawn, min_size=1, max_size=3))
def test_core_seconds_are_conserved(raw: list[list[tuple[float, int, int, int]]]) -> None:
    """However it is cut into steps, and whichever way it is computed, the demand holds the same core-seconds."""
    work = table([drawn_run(f"r{i}", r, due=500.0 * i) for i, r in enumerate(raw)])
    # A horizon far beyond the longest chain: everything drawn ends inside it.
    every = [
        core_seconds(known(work, horizon_s=14 * 86_400, step_seconds=s, n_samples=16), step=s) for s in (900, 86_400)
    ]
    assert every[0] == pytest.approx(every[1], rel=1e-4)


@settings(max_examples=15)
@given(st.lists(tasks_drawn, min_size=1, max_size=3))
def test_mean_lies_below_peak_and_all_is_finite(raw: list[list[tuple[float, int, int, int]]]) -> None:
    found = known(table([drawn_run(f"r{i}", r) for i, r in enumerate(raw)]), n_samples=16)
    assert np.isfinite(found.samples).all()
    assert (found.mean <= found.samples + 1e-6).all()
    assert (found.mean >= 0).all()


def test_exact_and_massive_ways_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    runs = [
        drawn_run(
            f"r{i}", [(float(rng.lognormal(6, 1)), 2, 1, 1) for _ in range(5)], due=float(rng.uniform(0, 8 * HOUR))
        )
        for i in range(200)
    ]
    work = table(runs)
    exact = known(work, horizon_s=10 * 3600)
    monkeypatch.setattr(expansion, "EXACT", 0)
    fine = known(work, horizon_s=10 * 3600)
    np.testing.assert_allclose(fine.mean, exact.mean, atol=1e-2)
    assert (fine.samples <= exact.samples + 1e-3).all()
    assert fine.samples[:, :, CPU].sum() == pytest.approx(exact.samples[:, :, CPU].sum(), rel=0.02)
    for part in exact.parts:
        np.testing.assert_allclose(fine.parts[part], exact.parts[part], atol=1e-2)
    monkeypatch.setattr(expansion, "DIRECT", 0)
    grouped = known(work, horizon_s=10 * 3600, n_samples=200)
    levels = (0.1, 0.5, 0.9)
    a, b = (np.quantile(k.samples[:, :100, CPU], levels, axis=0).mean(axis=1) for k in (grouped, exact))
    np.testing.assert_allclose(a, b, rtol=0.05)
    assert core_seconds(grouped) == pytest.approx(core_seconds(exact), rel=0.03)


# --------------------------------------------------------------------------- the future is not looked at


def garbled(work: WorkTable, seed: int) -> WorkTable:
    """The same up to AT; whatever is later is replaced by nonsense, shuffled, multiplied."""
    rng = np.random.default_rng(seed)
    runs, tasks = work.runs.copy(), work.tasks.copy()
    start, end = work.spans()
    for column in ("ready_at", "started_at", "ended_at"):
        later = tasks[column].to_numpy() > NOW
        tasks.loc[later, column] = NOW + rng.uniform(1, 1e6, later.sum())
    unended = ~(end <= NOW)
    tasks.loc[unended, "runtime_s"] = (NOW - start[unended]) + rng.uniform(1, 1e6, unended.sum())
    future = (runs["submit"] > NOW).to_numpy()
    runs.loc[future, "submit"] = NOW + rng.uniform(1, 1e6, future.sum())
    runs.loc[future, "scheduled_for"] = rng.permutation(runs["scheduled_for"][future].to_numpy())
    runs.loc[future, "dag_id"] = "nonsense"
    of_future = future[tasks["run"].to_numpy()]
    tasks.loc[of_future, "cpu"] = rng.uniform(1, 99, of_future.sum())
    tasks.loc[of_future, "signature"] = "nightly/a"
    return WorkTable(runs, tasks, work.parents, work.children)


def world() -> WorkTable:
    past = history("nightly", CHAIN, spread=0.3)
    running = Run("running", "d", -700.0, [Task("a", 600.0), Task("b", 4000.0, ("a",)), Task("c", 500.0, ("b",))])
    waiting = Run("w", "nightly", -300.0, [Task("a", ready=-300.0, started=900.0, ended=1000.0)], timing="observed")
    tomorrow = [
        Run(f"f{i}", "nightly", 3600.0 * i + 10, CHAIN, scheduled_for=3600.0 * i, trigger="scheduled")
        for i in range(1, 9)
    ]
    return table([*past, running, waiting, *tomorrow])


@pytest.mark.parametrize("seed", range(3))
def test_garbage_after_the_instant_changes_nothing_bit_for_bit(seed: int) -> None:
    work = world()
    clean, dirty = known(work, (NIGHTLY,)), known(garbled(work, seed), (NIGHTLY,))
    assert clean.samples.any()
    assert np.array_equal(clean.samples, dirty.samples)
    assert np.array_equal(clean.mean, dirty.mean)
    cut = work.select_runs((work.runs["submit"] <= NOW).to_numpy())
    assert np.array_equal(clean.samples, known(cut, (NIGHTLY,)).samples)


# --------------------------------------------------------------------------- schedules


def test_a_turn_is_expanded_in_the_shape_of_the_last_run() -> None:
    older = history("nightly", [Task("a", 600.0, cpu=50.0)], days=20)[:10]
    newer = history("nightly", CHAIN, days=10)
    found = known(table([*older, *newer]), (NIGHTLY,))
    assert [instant(p.turn - NOW) for p in found.predicted] == [datetime(2026, 3, 11, 2, tzinfo=UTC)]
    assert core_seconds(found, "scheduled") == pytest.approx(600 + 4 * 1200 + 300, rel=0.15)
    busy = np.flatnonzero(found.samples[:, :, CPU].max(axis=0))
    assert busy[0] == 14 * 12  # two in the morning


def test_a_turn_that_was_submitted_counts_once() -> None:
    past = history("nightly", CHAIN)
    turn = 14 * HOUR
    submitted = Run("s", "nightly", -60.0, CHAIN, scheduled_for=turn, due=turn, trigger="scheduled")
    found = known(table([*past, submitted]), (NIGHTLY,))
    assert found.predicted == ()
    assert core_seconds(found) == pytest.approx(core_seconds(found, "queued"))
    assert core_seconds(found) == pytest.approx(core_seconds(known(table(past), (NIGHTLY,))), rel=0.1)


def test_a_run_expected_by_schedule_and_otherwise_counts_once() -> None:
    work = table(history("nightly", CHAIN))
    twice = PredictedRun("nightly", NOW + 14 * HOUR + 120, 0.9, part="recurring")
    assert core_seconds(known(work, (NIGHTLY,), predicted=[twice])) == core_seconds(known(work, (NIGHTLY,)))
    alone = known(work, predicted=[twice])
    assert core_seconds(alone, "recurring") == pytest.approx(0.9 * (600 + 4 * 1200 + 300), rel=0.15)


def test_a_turn_just_past_is_late_not_gone() -> None:
    past = history("nightly", CHAIN, days=40)
    soon = known(table(past), (NIGHTLY,), at=datetime(2026, 3, 11, 2, 0, 2, tzinfo=UTC), horizon_s=4 * 3600)
    assert [p.turn for p in soon.predicted] == [datetime(2026, 3, 11, 2, tzinfo=UTC).timestamp()]
    assert core_seconds(soon) > 4000
    much_later = known(table(past), (NIGHTLY,), at=datetime(2026, 3, 11, 9, tzinfo=UTC), horizon_s=4 * 3600)
    assert much_later.predicted == ()


def test_lateness_and_skipping_are_learnt() -> None:
    past = history("nightly", CHAIN, days=60)
    late = [
        Run(
            r.run_id,
            r.dag_id,
            r.submit + (3000.0 if i % 4 == 0 else 0.0),
            r.tasks,
            r.scheduled_for,
            trigger="scheduled",
        )
        for i, r in enumerate(past)
        if i % 5
    ]
    (turn,) = known(table(late), (NIGHTLY,)).predicted
    assert turn.probability == pytest.approx(0.8, abs=0.08)
    assert (turn.delays > 2000).mean() == pytest.approx(0.25, abs=0.08)


def test_a_schedule_that_ceased_is_dropped_within_a_few_turns() -> None:
    other = history("other", CHAIN, days=30, hour=9.0)
    alive = history("nightly", CHAIN, days=30)
    chance = []
    for missed in range(6):
        stopped = alive[: len(alive) - missed] if missed else alive
        found = known(table([*stopped, *other]), (NIGHTLY,)).predicted
        chance.append(found[0].probability if found else 0.0)
    assert chance[0] > 0.9
    assert chance[1] > 0.7
    assert chance[5] < 0.1


def test_a_silent_source_does_not_end_its_schedules() -> None:
    past = history("nightly", CHAIN, days=30)[:20]  # nothing at all for the last ten days
    (turn,) = known(table(past), (NIGHTLY,)).predicted
    assert turn.probability > 0.9


def test_hours_of_the_days_when_clocks_change() -> None:
    zone = ZoneInfo("Europe/Zurich")
    hourly = Schedule("hourly", "p", "0 * * * *", "Europe/Zurich")
    for begin, hours in ((datetime(2025, 10, 26, tzinfo=zone), 25), (datetime(2026, 3, 29, tzinfo=zone), 23)):
        at = begin.astimezone(UTC)
        shift = at.timestamp() - NOW
        past = [
            Run(f"h{i}", "hourly", shift - 3600.0 * i + 1, [Task("a", 60.0)], shift - 3600.0 * i, trigger="scheduled")
            for i in range(30, 0, -1)
        ]
        end = (begin + timedelta(days=1)).astimezone(UTC)
        found = known(table(past), (hourly,), at=at, horizon_s=int((end - at).total_seconds()))
        assert len(found.predicted) == hours


def test_shapes_that_differ_are_alternatives_each_in_its_share() -> None:
    small, large = [Task("a", 600.0)], [Task(f"m{i}", 600.0) for i in range(9)]
    past = history("nightly", small, days=32)
    mixed = [
        Run(r.run_id, r.dag_id, r.submit, large if i % 2 else small, r.scheduled_for, trigger="scheduled")
        for i, r in enumerate(past)
    ]
    found = known(table(mixed), (NIGHTLY,))
    peak = found.samples[:, :, CPU].max(axis=1)
    assert set(np.unique(peak)) <= {0.0, 1.0, 9.0}
    assert (peak == 9).mean() == pytest.approx(0.5, abs=0.1)


def test_more_alternatives_than_samples_divide_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """32 shapes and 36 samples: some shapes have no sample to fill."""
    past = [
        Run(
            r.run_id,
            r.dag_id,
            r.submit,
            [Task(f"m{k}", 600.0) for k in range(i + 1)],
            r.scheduled_for,
            trigger="scheduled",
        )
        for i, r in enumerate(history("nightly", CHAIN, days=40))
    ]
    exact = known(table(past), (NIGHTLY,), n_samples=36)
    peak = exact.samples[:, :, CPU].max(axis=1)
    assert (peak > 0).mean() > 0.9
    monkeypatch.setattr(expansion, "EXACT", 0)
    fine = known(table(past), (NIGHTLY,), n_samples=36)
    np.testing.assert_allclose(fine.mean, exact.mean, atol=1e-2)


def test_a_limit_on_active_runs_makes_the_next_wait() -> None:
    hourly = [
        Run(f"h{i}", "hourly", -3600.0 * i + 1, [Task("a", 5400.0)], -3600.0 * i, trigger="scheduled")
        for i in range(40, 2, -1)
    ]
    free = Schedule("hourly", "p", "0 * * * *", "UTC")
    one = Schedule("hourly", "p", "0 * * * *", "UTC", max_active_runs=1)
    assert known(table(hourly), (free,)).samples[:, 40:, CPU].max() >= 2
    limited = known(table(hourly), (one,))
    assert limited.samples[:, :, CPU].max() == 1
    two = Schedule("hourly", "p", "0 * * * *", "UTC", max_active_runs=2)
    assert known(table(hourly), (two,)).samples[:, :, CPU].max() == 2


def test_a_limit_holds_in_the_massive_way_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expansion, "EXACT", 0)
    monkeypatch.setattr(expansion, "DIRECT", 0)
    test_a_limit_on_active_runs_makes_the_next_wait()


def test_a_live_run_over_the_limit_waits_for_the_one_that_runs() -> None:
    past = history("d", [Task("a", 3600.0)], days=30)
    runs = Run("first", "d", -600.0, [Task("a", 3600.0)])
    queued = Run("second", "d", -300.0, [Task("a", ready=np.nan)], timing="observed")
    one = Schedule("d", "p", "0 0 1 1 *", "UTC", max_active_runs=1)
    found = known(table([*past, runs, queued]), (one,))
    assert found.samples[:, :, CPU].max() == 1
    assert core_seconds(found) == pytest.approx(3000 + 3600, rel=0.1)


def test_a_schedule_without_a_run_says_so_unless_a_template_shows_its_shape() -> None:
    found = known(table([]), (NIGHTLY,))
    assert found.notes == ("no run of nightly was ever seen: its turns are not expanded",)
    shown = known(table([]), (NIGHTLY,), templates=table([Run("t", "nightly", -1.0, [Task("a", hint=600.0)])]))
    assert shown.notes == ()
    assert core_seconds(shown) > 0


def test_a_broken_cron_costs_its_own_turns_only() -> None:
    past = history("nightly", CHAIN)
    broken = Schedule("other", "p", "whenever", "UTC")
    found = known(table(past), (broken, NIGHTLY))
    assert core_seconds(found) > 4000
    assert any("other" in note for note in found.notes)


# --------------------------------------------------------------------------- the grid


def test_steps_may_begin_later_than_the_instant_or_earlier() -> None:
    past = history("nightly", CHAIN)
    queued = Run("q", "nightly", -1.0, CHAIN, due=HOUR)
    work = table([*past, queued])
    here = known(work, horizon_s=4 * 3600)
    later = known(work, start=instant(HOUR), horizon_s=3 * 3600)
    assert np.array_equal(here.samples[:, 12:], later.samples)
    earlier = known(work, start=instant(-HOUR), horizon_s=5 * 3600)
    assert np.array_equal(here.samples, earlier.samples[:, 12:])


def test_peaks_of_an_hour_are_the_highest_of_its_steps() -> None:
    work = world()
    fine, coarse = known(work, (NIGHTLY,)), known(work, (NIGHTLY,), step_seconds=3600)
    np.testing.assert_allclose(fine.samples.reshape(64, 24, 12, 5).max(axis=2), coarse.samples, atol=1e-4)
    np.testing.assert_allclose(fine.mean.reshape(64, 24, 12, 5).mean(axis=2), coarse.mean, atol=1e-3)


@pytest.mark.parametrize("asked", [{"horizon_s": 100}, {"step_seconds": 0}, {"n_samples": 0}])
def test_what_cannot_be_asked(asked: dict[str, int]) -> None:
    with pytest.raises(ForecastError):
        known(table([]), **asked)
