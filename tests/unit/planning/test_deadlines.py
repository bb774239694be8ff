"""Runs ahead: when they finish, whether they land in time, who goes first, and what waiting costs them."""

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprov.model.errors import PlanError
from preprov.planning.deadlines import Capacity, RunAhead, forecast_runs, propose_order, urgency
from tests.unit.planning.pools import NOW


def run(name, minutes=10.0, width=4.0, *, spread=0.0, ready=0.0, land=None, usd=1.0, priority=0, samples=40):
    path = 60 * minutes * np.exp(spread * np.random.default_rng(len(name)).standard_normal(samples))
    by = None if land is None else NOW + timedelta(minutes=land)
    return RunAhead(name, path, path * width, width, NOW + timedelta(minutes=ready), priority, by, usd)


def cores(n, steps=72):
    return Capacity(NOW, 300.0, np.full(steps, float(n)))


def minutes(at):
    return (at - NOW).total_seconds() / 60


def test_alone_a_run_takes_its_path_and_in_a_queue_it_waits_its_turn():
    one, two = forecast_runs([run("a"), run("b")], cores(4))
    assert minutes(one.finish[1]) == pytest.approx(10, abs=0.1)
    assert minutes(two.start[1]) == pytest.approx(10, abs=0.1)
    assert minutes(two.finish[1]) == pytest.approx(20, abs=0.1)
    both = forecast_runs([run("a"), run("b")], cores(8))
    assert [minutes(f.finish[1]) for f in both] == pytest.approx([10, 10], abs=0.1)


def test_a_run_is_not_begun_before_it_is_ready_and_narrow_capacity_stretches_it():
    (late,) = forecast_runs([run("a", ready=12)], cores(4))
    assert minutes(late.start[1]) == pytest.approx(12)
    assert minutes(late.finish[1]) == pytest.approx(22, abs=0.1)
    (thin,) = forecast_runs([run("a")], cores(1))
    assert minutes(thin.finish[1]) == pytest.approx(40, abs=0.1)


def test_the_chance_of_landing_in_time_comes_from_the_samples():
    (sure,) = forecast_runs([run("a", land=11)], cores(4))
    assert sure.meets == 1.0
    assert sure.late_usd == 0.0
    (even,) = forecast_runs([run("a", spread=0.5, land=10, samples=2000)], cores(4))
    assert even.meets == pytest.approx(0.5, abs=0.05)
    assert even.late_usd > 0
    assert forecast_runs([run("a")], cores(4))[0].meets is None


def test_what_never_gets_a_core_has_no_finish():
    (never,) = forecast_runs([run("a", land=60)], cores(0))
    assert never.start == (None, None, None)
    assert never.meets == 0.0


def test_the_proposed_order_saves_deadlines_that_first_come_would_miss():
    runs = [run("long", 30), run("soon", 10, land=12), run("later", 10, land=25)]
    order = [r.run_id for r in propose_order(runs, cores(4))]
    assert order == ["soon", "later", "long"]
    urgent = run("urgent", 60, priority=9)
    assert propose_order([*runs, urgent], cores(4))[0].run_id == "urgent"


def test_waiting_costs_where_a_run_has_no_slack():
    tight, loose = run("t", land=10.5), run("l", land=300)
    assert urgency([loose], cores(8), 180.0).max() == 0
    price = urgency([tight], cores(8), 180.0)
    # 2.5 of the 3 minutes make it late, at a dollar each, while 4 cores wait for 3 minutes.
    assert price[0] == pytest.approx(2.5 / (4 * 0.05), rel=0.01)
    assert price[10] == 0
    assert urgency([tight, run("x", width=4.0)], cores(8), 180.0)[0] == pytest.approx(price[0] / 2)


def test_samples_must_agree():
    with pytest.raises(PlanError, match="number of samples"):
        forecast_runs([run("a"), run("b", samples=3)], cores(4))
    with pytest.raises(PlanError):
        Capacity(NOW, 300.0, np.zeros(0))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(1, 60), st.floats(1, 16), st.floats(0, 60)), min_size=1, max_size=5),
    st.floats(1, 32),
)
def test_work_is_conserved_and_more_capacity_never_delays(specs, have):
    runs = [run(f"r{i}", m, w, ready=r) for i, (m, w, r) in enumerate(specs)]
    some, more = forecast_runs(runs, cores(have)), forecast_runs(runs, cores(have * 2))
    for r, a, b in zip(runs, some, more, strict=True):
        assert (b.finish_s <= a.finish_s + 1e-6).all()
        ready = (r.ready_at - NOW).total_seconds()
        assert (a.finish_s >= ready + r.path_s - 1e-6).all()
    total = sum(float(r.work_s.mean()) for r in runs)
    if total < have * 72 * 300:
        assert max(float(a.finish_s.max()) for a in some) >= total / have - 300
