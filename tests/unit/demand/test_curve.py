from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from preprov.demand.curve import DemandInputs, demand_curve
from preprov.demand.learnt import fit_learnt
from preprov.model.demand import PARTS, DemandCurve
from preprov.model.resources import KINDS
from preprov.model.work import Schedule
from preprov.model.worktable import WorkTable
from tests.unit.demand.test_known import CHAIN, garbled, world
from tests.unit.demand.test_learnt import LIGHT, daily, given
from tests.unit.demand.work import AT, HOUR, Run, Task, history, instant, table

CPU = KINDS.index("cpu")


def curve(work: WorkTable, **more: object) -> DemandCurve:
    return demand_curve(given(work, **more))


def test_parts_add_up_to_the_mean() -> None:
    work = WorkTable.concat([world(), table(daily(30))])
    found = curve(work)
    assert tuple(found.parts) == PARTS
    total = sum(found.parts.values())
    assert found.mean is not None
    np.testing.assert_allclose(total, found.mean.mean(axis=0), rtol=1e-3, atol=1e-3)
    assert all(part[:, CPU].any() for name, part in found.parts.items() if name != "recurring")


def test_what_runs_already_is_not_learnt_again() -> None:
    """A long manual run each day: once today's has begun, hardly any more of it is to come."""
    past = daily(35, hours=6.0, at_hour=11.5)
    today = Run("today", "adhoc", -0.5 * HOUR, [Task("t", 6 * HOUR, cpu=10.0, memory=30.0)])
    with_it = curve(table([*past, today]))
    first_hours = slice(0, 12 * 5)
    learnt = with_it.parts["learnt"][first_hours, CPU].mean()
    assert learnt < 0.5 * with_it.parts["in_flight"][first_hours, CPU].mean()
    assert with_it.parts["learnt"][:12, CPU].mean() < 1


def test_scheduled_work_is_not_learnt_again() -> None:
    found = curve(table(history("nightly", CHAIN, days=30)))
    assert found.parts["scheduled"][:, CPU].sum() > 0
    assert not found.parts["learnt"].any()


@settings(max_examples=8)
@for_all(st.integers(0, 10_000))
def test_quantiles_never_cross(seed: int) -> None:
    rng = np.random.default_rng(seed)
    runs = [
        Run(f"r{i}", f"d{i % 3}", -float(rng.uniform(0, 20 * 24)) * HOUR, [Task("t", float(rng.lognormal(7, 2)))])
        for i in range(40)
    ]
    found = curve(table(runs), schedules=(), seed=seed, n_samples=20)
    for kind in KINDS:
        assert (np.diff(found.table(kind), axis=1) >= 0).all()
    assert np.isfinite(found.samples).all()


def test_garbage_after_the_instant_changes_no_bit_of_the_joined_curve() -> None:
    work = WorkTable.concat([world(), table(daily(30))])

    def joined(seen: WorkTable) -> DemandCurve:
        asked = replace(given(seen), seen=seen)
        return demand_curve(asked.with_learnt(fit_learnt(asked, LIGHT)))

    clean, dirty = joined(work), joined(garbled(work, 1))
    assert np.array_equal(clean.samples, dirty.samples)
    assert clean.basis == dirty.basis


def test_hourly_and_fine_steps_tell_the_same() -> None:
    work = WorkTable.concat([world(), table(daily(30))])
    fine, coarse = curve(work), curve(work, step_seconds=3600)
    assert (fine.steps, coarse.steps) == (288, 24)
    np.testing.assert_allclose(fine.resample(3600).samples, coarse.samples)


def test_a_start_before_or_after_the_instant_and_odd_horizons() -> None:
    work = WorkTable.concat([world(), table(daily(30))])
    later = curve(work, start=instant(12 * HOUR), horizon_s=12 * 3600)
    assert later.start == instant(12 * HOUR)
    early = curve(work, start=instant(-600.0), horizon_s=1000)
    assert early.steps == 3
    assert curve(work, horizon_s=3 * 24 * 3600, step_seconds=3600).steps == 72


def test_nothing_known_at_all_is_an_empty_curve_that_says_why() -> None:
    found = curve(table([]), schedules=())
    assert not found.samples.any()
    assert found.basis["n_runs"] == 0
    assert found.basis["newest_run_age_s"] is None
    assert found.basis["fallback"]


def test_the_basis_says_what_it_rests_on() -> None:
    found = curve(WorkTable.concat([world(), table(daily(30))]))
    basis = found.basis
    assert basis["n_runs"] == 52
    assert basis["newest_run_age_s"] == pytest.approx(300)
    assert basis["turns_expected"] == 1
    assert basis["runtimes"]["own"] > 0.5  # type: ignore[index]
    assert basis["learnt_resource"] == "cpu"


def test_the_same_question_has_the_same_answer() -> None:
    work = WorkTable.concat([world(), table(daily(30))])
    assert np.array_equal(curve(work).samples, curve(work).samples)
    assert not np.array_equal(curve(work).samples, curve(work, seed=1).samples)


def test_a_pool_where_another_resource_binds_learns_that_one() -> None:
    runs = [
        Run(f"n{d}", "copy", 3 * HOUR - 24 * HOUR * d, [Task("t", HOUR, cpu=0.0, more={"network": 500.0})])
        for d in range(30, 0, -1)
    ]
    asked = given(table(runs), schedules=())
    asked = replace(asked, pool=replace(asked.pool, binding=("cpu", "network")))
    found = demand_curve(asked)
    assert found.basis["learnt_resource"] == "network"
    assert found.parts["learnt"][:, KINDS.index("network")].max() > 250


def test_schedules_that_are_paused_are_learnt_from_as_any_work() -> None:
    paused = Schedule("nightly", "p", "0 2 * * *", "UTC", paused=True)
    found = curve(table(history("nightly", CHAIN, days=30)), schedules=(paused,))
    assert found.parts["learnt"][:, CPU].any()


def test_inputs_are_what_they_were() -> None:
    asked = given(table([]))
    assert isinstance(asked, DemandInputs)
    assert asked.with_learnt(None) == asked
    assert asked.at == AT


def test_what_comes_back_each_day_is_expected_as_such_and_not_learnt() -> None:
    found = curve(table(daily(35)), schedules=(), recurring=True)
    hours = found.parts["recurring"][:, CPU].reshape(24, 12).mean(axis=1)
    assert hours[3:5] == pytest.approx(10.0, rel=0.15)
    assert not found.parts["learnt"].any()
    assert found.basis["turns_expected"] == 1


def test_garbage_after_the_instant_changes_no_recurrence() -> None:
    work = WorkTable.concat([world(), table(daily(30))])
    clean, dirty = (curve(w, schedules=(), recurring=True, seen=w) for w in (work, garbled(work, 3)))
    assert clean.parts["recurring"].any()
    assert np.array_equal(clean.samples, dirty.samples)


def test_a_pool_with_a_schedule_and_a_recurrence_counts_each_once() -> None:
    """The nightly DAG is declared; that it also comes back each night must not count it again."""
    work = table([*history("nightly", CHAIN, days=30), *daily(35)])
    both = curve(work, recurring=True)
    alone = curve(table(history("nightly", CHAIN, days=30)), recurring=True)
    # What other work says of runtimes moves a thing or two by minutes; a run counted twice would double them.
    assert both.parts["scheduled"].sum() == pytest.approx(alone.parts["scheduled"].sum(), rel=0.02)
    assert both.basis["turns_expected"] == 2
