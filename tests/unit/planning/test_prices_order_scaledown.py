"""Prices over time, the launch order, and what becomes of an idle node."""

import math
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.model.errors import ConfigError, WorkError
from preprov.model.offerings import CapacityType, LeadTime, Offering, Standby
from preprov.model.prices import Commitment, PriceRow
from preprov.model.resources import Resources
from preprov.planning.offers import Choice
from preprov.planning.order import ReadyTask, critical_path_s, launch_order
from preprov.planning.prices import TablePriceBook
from preprov.planning.pricetable import price_rows, shipped
from preprov.planning.scaledown import LAMBDA, fate
from tests.unit.planning.pools import LADDER, LEADS, NOW, M, group, pool

# --------------------------------------------------------------------------- prices


def test_a_price_is_the_row_in_force_for_the_zone_or_anywhere():
    book = TablePriceBook(
        [
            PriceRow("m", 1.0),
            PriceRow("m", 2.0, since=NOW),
            PriceRow("m", 0.5, zone="a"),
            PriceRow("m", 0.3, capacity_type=CapacityType.SPOT),
        ]
    )
    assert book.usd_per_hour(M, NOW - timedelta(days=1)) == 1.0
    assert book.usd_per_hour(M, NOW) == 2.0
    assert book.usd_per_hour(replace(M, zone="a"), NOW) == 0.5
    assert book.usd_per_hour(replace(M, capacity_type=CapacityType.SPOT), NOW) == 0.3
    assert book.usd_per_hour(replace(M, instance_type="x", usd_per_hour=None), NOW) is None


def test_pools_bring_their_own_prices_and_a_table_comes_first():
    p = pool(group(states=LADDER))
    book = TablePriceBook.from_pools([p])
    assert book.usd_per_hour(M, NOW) == 0.8064
    assert book.standby_usd_per_hour(M, Standby.STOPPED, NOW) == 0.011
    assert book.standby_usd_per_hour(M, Standby.COLD, NOW) == 0
    assert book.standby_usd_per_hour(M, Standby.RUNNING, NOW) == 0.8064
    refreshed = TablePriceBook.from_pools([p], [PriceRow("m", 0.7, since=NOW)])
    assert refreshed.usd_per_hour(M, NOW) == 0.7
    assert refreshed.usd_per_hour(M, NOW - timedelta(1)) == 0.8064
    assert refreshed.standby_usd_per_hour(M, Standby.HIBERNATED, NOW) == 0.018


def test_a_commitment_discounts_on_demand_only():
    book = TablePriceBook(
        [PriceRow("m", 1.0), PriceRow("m", 0.4, capacity_type=CapacityType.SPOT)], commitments=[Commitment(0.25)]
    )
    assert book.usd_per_hour(M, NOW) == 0.75
    assert book.usd_per_hour(replace(M, capacity_type=CapacityType.SPOT), NOW) == 0.4
    with pytest.raises(ConfigError):
        Commitment(1.0)
    with pytest.raises(ConfigError):
        PriceRow("m", -1.0)


# --------------------------------------------------------------------------- order


def test_priority_then_slack_then_path():
    soon, late = NOW + timedelta(minutes=30), NOW + timedelta(hours=5)
    tasks = [
        ReadyTask("long path", remaining_s=900),
        ReadyTask("short path", remaining_s=60),
        ReadyTask("late", land_by=late),
        ReadyTask("soon", land_by=soon, remaining_s=60),
        ReadyTask("urgent", priority=5),
        ReadyTask("lost", land_by=soon, remaining_s=7200),
        ReadyTask("older", remaining_s=60, ready_at=NOW - timedelta(minutes=1)),
    ]
    names = [t.key for t in launch_order(tasks, NOW)]
    assert names == ["urgent", "soon", "late", "long path", "older", "short path", "lost"]
    assert [t.key for t in launch_order(tasks[::-1], NOW)] == names


def test_the_critical_path_goes_to_the_end_of_the_run():
    # 0 -> 1 -> 3, 0 -> 2 -> 3, 4 alone
    runtime = np.array([10.0, 100.0, 5.0, 1.0, 7.0])
    parents, children = np.array([0, 0, 1, 2]), np.array([1, 2, 3, 3])
    assert critical_path_s(runtime, parents, children).tolist() == [111.0, 101.0, 6.0, 1.0, 7.0]
    with pytest.raises(WorkError):
        critical_path_s(np.ones(2), np.array([0, 1]), np.array([1, 0]))


# --------------------------------------------------------------------------- scale-down


def choice(**more):
    return Choice(
        group=group(states=LADDER),
        offering=replace(M, minimum_billing_s=more.pop("minimum", 60.0)),
        usd=more.pop("usd", 0.8064),
        lead=more.pop("lead", LEADS[Standby.COLD]),
        standby_usd={Standby.HIBERNATED: 0.018, Standby.STOPPED: 0.011},
        standby_lead={s: LEADS[s] for s in (Standby.HIBERNATED, Standby.STOPPED)},
        share=16.0,
        cores=16.0,
        available=True,
        holds_largest=True,
    )


def course(gap_s, c=None, surprise=0.0, states=(Standby.HIBERNATED, Standby.STOPPED), **more):
    return fate(
        c or choice(),
        gap_s=gap_s,
        horizon_s=86400.0,
        surprise=surprise,
        shortage_usd_per_core_hour=1.0,
        states=states,
        **more,
    )


def test_the_ladder_by_length_of_the_gap():
    assert course(10).state is Standby.RUNNING
    assert course(600).state is Standby.HIBERNATED
    assert course(3 * 3600).state is Standby.STOPPED
    assert course(20 * 3600).state is Standby.COLD
    assert course(None).state is Standby.COLD


def test_without_standby_states_it_is_keep_or_end():
    assert course(100, states=()).state is Standby.RUNNING
    assert course(600, states=()).state is Standby.COLD


def test_a_likely_surprise_keeps_the_quicker_state():
    assert course(None, surprise=0.9).state is Standby.STOPPED
    assert course(20 * 3600, surprise=0.5).state is not Standby.COLD


def test_hold_is_lambda_of_the_break_even_if_it_goes_and_a_lambda_th_if_it_stays():
    goes, stays = course(3600, states=()), course(100, states=())
    assert goes.break_even_s == pytest.approx(LEADS[Standby.COLD].mean_s)
    assert goes.hold_s == pytest.approx(goes.break_even_s * LAMBDA)
    assert stays.hold_s == pytest.approx(stays.break_even_s / LAMBDA)
    assert stays.instead is Standby.COLD


def test_minimum_billing_lengthens_the_break_even():
    assert course(1800, choice(minimum=3600.0), states=()).state is Standby.RUNNING


def test_standby_nodes_are_kept_or_ended_never_moved():
    kept = course(3600, now_in=Standby.STOPPED)
    assert kept.state is Standby.STOPPED
    assert set(kept.costs) == {Standby.STOPPED, Standby.COLD}
    assert course(None, now_in=Standby.STOPPED).state is Standby.COLD


@given(
    st.floats(0, 86400) | st.none(),
    st.floats(0, 1),
    st.floats(0.01, 10),
    st.sampled_from([LeadTime(0, 0), LeadTime(20, 30), LeadTime(600, 3000)]),
)
def test_the_cheapest_course_is_taken_and_waits_its_time(gap, surprise, usd, lead):
    got = course(gap, choice(usd=usd, lead=lead), surprise)
    assert got.costs[got.state] == min(got.costs.values())
    assert got.instead is not Standby.RUNNING
    assert 60 <= got.hold_s <= 6 * 3600


def test_a_table_of_prices_is_read_with_regions_spot_and_interruptions():
    book = TablePriceBook(price_rows(shipped()))
    m7i = Offering("m7i.4xlarge", Resources(16, 64), zone="us-east-1a")
    assert book.usd_per_hour(m7i, NOW) == 0.8064
    spot = replace(m7i, capacity_type=CapacityType.SPOT)
    assert book.usd_per_hour(spot, NOW) == pytest.approx(0.387072)
    assert book.interruptions_per_hour(spot, NOW) == pytest.approx(-math.log(1 - 0.075) / 730)
    assert book.usd_per_hour(Offering("n2-standard-8", Resources(8, 32), zone="us-central1-f"), NOW) is not None
    assert book.usd_per_hour(replace(m7i, zone="eu-west-1a"), NOW) is None
    with pytest.raises(ConfigError, match="on_demand_usd_h"):
        price_rows(shipped().drop(columns=["on_demand_usd_h"]))
