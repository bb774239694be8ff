"""Lead times learnt from few and many warmings."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from preprov.contracts import LeadObservation
from preprov.model.offerings import LeadTime, Offering, Standby
from preprov.model.resources import Resources
from preprov.planning.leads import INSUFFICIENT_S, Leads, learn_leads
from tests.unit.planning.pools import LADDER, NOW, M, group, pool

OTHER = Offering("other", Resources(8, 32))
POOL = pool(group(offerings=(M, OTHER), states=LADDER))


def seen(
    seconds, *, kind="m", state=Standby.COLD, image="v1", outcome="ready", age_s=3600.0, node="n", provider="local"
):
    return LeadObservation(
        NOW - timedelta(seconds=age_s), "p", provider, "g", "", kind, image, state, seconds, node, outcome=outcome
    )


def draws(median, sigma, n, seed=0, **more):
    rng = np.random.default_rng(seed)
    return [seen(s, **more) for s in median * np.exp(sigma * rng.standard_normal(n))]


def test_nothing_seen_is_as_configured():
    leads = learn_leads(POOL, (), NOW)
    assert leads("g", M, Standby.COLD) == LeadTime(180, 420)
    assert leads("g", M, Standby.RUNNING).p95_s == 0
    assert leads == Leads(POOL)


def test_many_observations_are_believed():
    lead = learn_leads(POOL, draws(60, 0.3, 400), NOW)("g", M, Standby.COLD)
    assert lead.median_s == pytest.approx(60, rel=0.05)
    assert lead.p95_s == pytest.approx(60 * np.exp(0.3 * 1.645), rel=0.12)
    assert lead.observations == 400


def test_one_observation_moves_it_a_little():
    lead = learn_leads(POOL, [seen(20)], NOW)("g", M, Standby.COLD)
    assert 90 < lead.median_s < 180


def test_a_stuck_boot_among_many_does_not_stretch_the_median():
    calm = learn_leads(POOL, draws(60, 0.2, 30), NOW)("g", M, Standby.COLD)
    one_stuck = learn_leads(POOL, [*draws(60, 0.2, 30), seen(50000)], NOW)("g", M, Standby.COLD)
    assert one_stuck.median_s == pytest.approx(calm.median_s, rel=0.05)
    assert one_stuck.p95_s < 3 * calm.p95_s


def test_kinds_learn_from_each_other_and_states_do_not():
    leads = learn_leads(POOL, draws(60, 0.2, 200, kind="other"), NOW)
    assert 55 < leads("g", M, Standby.COLD).median_s < 65  # none of its own: the others of its provider
    own = learn_leads(POOL, [*draws(60, 0.2, 200, kind="other"), *draws(120, 0.2, 20, seed=1)], NOW)
    assert 95 < own("g", M, Standby.COLD).median_s < 120
    assert own("g", OTHER, Standby.COLD).median_s < 65
    assert own("g", M, Standby.STOPPED) == LeadTime(45, 90)


def test_the_image_launched_now_counts_most():
    old, new = draws(300, 0.1, 50, image="v1", age_s=90000), draws(60, 0.1, 50, image="v2", seed=1)
    assert learn_leads(POOL, [*old, *new], NOW)("g", M, Standby.COLD).median_s < 90


def test_recent_observations_weigh_more():
    old, new = draws(300, 0.1, 20, age_s=90 * 86400), draws(60, 0.1, 20, seed=1)
    assert learn_leads(POOL, [*old, *new], NOW)("g", M, Standby.COLD).median_s < 80


def test_failures_say_nothing_about_time_but_are_counted():
    failed = [seen(3000, outcome="failed", node=f"f{i}") for i in range(10)]
    leads = learn_leads(POOL, [*draws(60, 0.2, 30), *failed], NOW)
    assert leads("g", M, Standby.COLD).p95_s < 200
    assert leads.failure_rate("g", M, Standby.COLD) > 0.15
    assert Leads(POOL).failure_rate("g", M, Standby.COLD) == pytest.approx(0.02)


def test_an_offering_without_capacity_is_set_back_for_a_while():
    none = seen(5, outcome="insufficient_capacity", age_s=INSUFFICIENT_S - 1)
    assert not learn_leads(POOL, [none], NOW).available("g", M)
    assert learn_leads(POOL, [none], NOW).available("g", OTHER)
    assert learn_leads(POOL, [none], NOW + timedelta(seconds=2)).available("g", M)


def test_the_future_and_other_providers_are_not_looked_at():
    ahead, foreign = seen(10, age_s=-60), seen(10, provider="elsewhere")
    assert learn_leads(POOL, [ahead, foreign], NOW) == Leads(POOL)


def test_no_capacity_again_and_again_sets_back_longer():
    lacks = [seen(0, outcome="insufficient_capacity", age_s=a, node=f"n{a}") for a in (1500, 2400, 3300)]
    assert not learn_leads(POOL, lacks, NOW).available("g", M)
    assert learn_leads(POOL, lacks[:1], NOW).available("g", M)


def test_launches_that_mostly_fail_set_back_until_they_are_old():
    failed = [seen(600, outcome="failed", node=f"f{i}", age_s=60 * i) for i in range(3)]
    assert not learn_leads(POOL, failed, NOW).available("g", M)
    assert learn_leads(POOL, failed, NOW + timedelta(hours=1)).available("g", M)
    assert learn_leads(POOL, [*failed, *draws(60, 0.2, 4, age_s=60)], NOW).available("g", M)


def test_lead_times_are_split_into_stages():
    parts = [replace(o, stages={"boot": o.seconds * 0.5, "image": o.seconds * 0.3}) for o in draws(100, 0.1, 40)]
    split = learn_leads(POOL, parts, NOW).split("g", M, Standby.COLD)
    assert set(split) == {"boot", "image"}
    assert split["boot"].median_s == pytest.approx(50, rel=0.1)
    assert split["image"].median_s == pytest.approx(30, rel=0.1)
    assert learn_leads(POOL, [], NOW).split("g", M, Standby.COLD) == {}


def test_parts_of_the_way_raise_what_is_configured_and_never_lower_it():
    short = [replace(seen(12, outcome="partial"), stages={"allocate": 12.0}) for _ in range(40)]
    leads = learn_leads(POOL, short, NOW)
    assert leads("g", M, Standby.COLD) == LeadTime(180, 420)
    assert leads.split("g", M, Standby.COLD)["allocate"].median_s == pytest.approx(12, rel=0.01)
    assert leads.failure_rate("g", M, Standby.COLD) < Leads(POOL).failure_rate("g", M, Standby.COLD)
    long = learn_leads(POOL, [seen(600, outcome="partial") for _ in range(40)], NOW)("g", M, Standby.COLD)
    assert long.median_s == pytest.approx(600, rel=0.02)
    assert (long.p95_s >= 600, long.observations) == (True, 0)


def test_warmings_that_were_seen_whole_count_beside_parts():
    whole = draws(60, 0.2, 60)
    parts = [seen(12, outcome="partial") for _ in range(60)]
    both, alone = learn_leads(POOL, [*whole, *parts], NOW), learn_leads(POOL, whole, NOW)
    assert both("g", M, Standby.COLD) == alone("g", M, Standby.COLD)


def test_a_machine_that_was_had_ends_a_row_of_lacks():
    lacks = [seen(0, outcome="insufficient_capacity", age_s=a, node=f"a{a}") for a in (1200, 900, 600)]
    had = seen(12, outcome="partial", age_s=700)
    assert not learn_leads(POOL, lacks, NOW).available("g", M)
    first = learn_leads(POOL, [*lacks, had], NOW).insufficient
    assert first["g", M.key] < learn_leads(POOL, lacks, NOW).insufficient["g", M.key]
