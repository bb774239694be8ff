"""Demand curves, pools, reservations, DAG specs: small values with rules."""

import pickle
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.model.demand import DemandCurve
from preprov.model.errors import ConfigError, ForecastError, ReservationError, WorkError
from preprov.model.offerings import LeadTime
from preprov.model.pools import Window
from preprov.model.reference import reference_pool
from preprov.model.reservations import Reservation, ReservationState, Segment
from preprov.model.resources import Resources
from preprov.model.time import aware
from preprov.model.work import DagSpec, TaskSpec

NOW = datetime(2025, 3, 3, 12, tzinfo=UTC)


def curve(samples, step=300):
    full = np.zeros((*np.shape(samples), 5), dtype=np.float32)
    full[..., 0] = samples
    return DemandCurve("p", NOW, NOW, step, full)


def test_window_maxima_are_taken_inside_each_sample():
    c = curve([[0, 9, 0, 0], [0, 0, 0, 9]])
    assert c.window_max(2)[:, 0, 0].tolist() == [9, 0]
    assert c.window_max(4)[:, 0, 0].tolist() == [9, 9]
    assert c.increase(4)[:, 1, 0].tolist() == [0, 9]


@given(st.lists(st.lists(st.floats(0, 100), min_size=6, max_size=6), min_size=2, max_size=8))
def test_quantiles_never_cross_and_coarser_steps_keep_the_peak(rows):
    c = curve(np.array(rows))
    table = c.table()
    assert (np.diff(table, axis=1) >= 0).all()
    assert c.resample(900).samples.max() == pytest.approx(c.samples.max())


def test_demand_that_is_no_number_is_refused():
    with pytest.raises(ForecastError, match="finite"):
        curve([[np.nan, 1]])
    with pytest.raises(ForecastError, match="finite"):
        curve([[-1.0, 1]])


@given(st.floats(1, 1000), st.floats(1, 10))
def test_a_lead_time_has_the_quantiles_it_was_given(median, spread):
    lead = LeadTime(median, median * spread)
    assert lead.quantile(0.5) == pytest.approx(median)
    assert lead.quantile(0.95) == pytest.approx(median * spread)
    assert lead.scaled(2).quantile(0.5) == pytest.approx(2 * median)


def test_a_lead_time_whose_p95_is_below_its_median_is_refused():
    with pytest.raises(ConfigError):
        LeadTime(10, 5)


def test_a_window_past_midnight_belongs_to_the_day_it_began():
    friday_night = Window(22 * 3600, 6 * 3600, frozenset({4}))
    assert friday_night.contains(datetime(2025, 3, 7, 23))  # noqa: DTZ001 - wall clock
    assert friday_night.contains(datetime(2025, 3, 8, 5))  # noqa: DTZ001
    assert not friday_night.contains(datetime(2025, 3, 7, 5))  # noqa: DTZ001


def test_naive_times_are_refused():
    with pytest.raises(ConfigError, match="no time zone"):
        aware(datetime(2025, 1, 1))  # noqa: DTZ001


def reservation(start=0, length=60, cpu=1.0, **more):
    segment = Segment(NOW + timedelta(seconds=start), NOW + timedelta(seconds=start + length), Resources(cpu=cpu))
    return Reservation("r", "p", "c", (segment,), **more)


def test_the_life_of_a_reservation():
    soft = reservation(expires_at=NOW + timedelta(seconds=30))
    held = soft.commit("n1", NOW)
    assert held.state is ReservationState.COMMITTED
    assert held.commit("n1", NOW + timedelta(hours=1)) is held, "again changes nothing"
    assert held.expire(held.end - timedelta(seconds=1)) is held, "a commitment does not expire"
    with pytest.raises(ReservationError):
        held.commit("n2", NOW)
    gone = held.release("exit 0")
    assert gone.state is ReservationState.RELEASED
    assert gone.release() is gone
    with pytest.raises(ReservationError, match="released"):
        gone.commit("n1", NOW)


def test_a_soft_claim_not_committed_in_time_is_void():
    soft = reservation(expires_at=NOW + timedelta(seconds=30))
    late = NOW + timedelta(seconds=30)
    assert soft.expire(late).state is ReservationState.EXPIRED
    with pytest.raises(ReservationError, match="expired"):
        soft.commit("n1", late)


def test_overlapping_segments_are_refused():
    a = Segment(NOW, NOW + timedelta(seconds=10), Resources(cpu=1))
    b = Segment(NOW + timedelta(seconds=5), NOW + timedelta(seconds=20), Resources(cpu=1))
    with pytest.raises(ReservationError, match="overlap"):
        Reservation("r", "p", "c", (a, b))


def t(task_id, *parents):
    return TaskSpec(task_id, parents=parents)


@pytest.mark.parametrize(
    ("tasks", "text"),
    [
        ((), "no tasks"),
        ((t("a"), t("a")), "used twice"),
        ((t("a", "zz"),), "unknown parent"),
        ((t("a", "b"), t("b", "a")), "cycle"),
    ],
)
def test_a_malformed_dag_is_refused_in_plain_words(tasks, text):
    with pytest.raises(WorkError, match=text):
        DagSpec("d", tasks)


def test_the_order_of_a_dag_puts_parents_first():
    order = DagSpec("d", (t("c", "a", "b"), t("b", "a"), t("a"))).order()
    assert order.index("a") < order.index("b") < order.index("c")


def test_a_pool_can_be_sent_to_another_process_and_stays_read_only():
    pool = reference_pool("p")
    again = pickle.loads(pickle.dumps(pool))
    assert again == pool
    with pytest.raises(TypeError):
        again.groups[0].options["a"] = 1
