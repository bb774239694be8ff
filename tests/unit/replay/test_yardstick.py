"""The published comparison: window, knobs."""

from datetime import UTC, datetime, timedelta

import pytest

from preprov.model.errors import SourceError
from preprov.model.worktable import WorkTable
from preprov.replay import yardstick
from preprov.replay.yardstick import Case, compare, judged_window, knobs, yardstick_pool

from .traces import T0, T, pool_of, work_of

DAY = 86_400.0


def nightly(days: int) -> WorkTable:
    return work_of([(d * DAY + 7200, [T(600.0), T(300.0, parents=(0,))]) for d in range(days)])


def case(policies_days: int = 10) -> Case:
    work = nightly(policies_days)
    first, until = judged_window(work, days=2)
    return Case("nightly", work, pool_of(), first, until, warm_up_s=3600.0)


def test_the_window_begins_after_sixty_percent_at_midnight():
    first, until = judged_window(nightly(100))
    assert first == T0 + timedelta(days=60)
    assert until == first + timedelta(days=14)
    assert judged_window(nightly(100), days=None)[1] > T0 + timedelta(days=99)
    zurich, _ = judged_window(nightly(100), zone="Europe/Zurich")
    assert (zurich.hour, zurich.minute) in ((23, 0), (22, 0))


def test_the_last_days_can_be_judged_instead():
    first, until = judged_window(nightly(100), last_days=True)
    assert (first, until) == (until - timedelta(days=14), T0 + timedelta(days=99, seconds=7200 + 900))


def test_an_end_can_be_chosen_and_a_short_log_still_has_a_window():
    chosen = datetime(2026, 3, 8, tzinfo=UTC)
    assert judged_window(nightly(100), until=chosen)[1] == chosen
    first, until = judged_window(work_of([(0, [T(600)]), (5000, [T(600)])]))
    assert first < until
    with pytest.raises(SourceError):
        judged_window(WorkTable.empty())


@pytest.mark.parametrize("name", yardstick.POLICIES)
def test_every_policy_has_at_least_eight_settings(name: str):
    values = knobs(name, 37.0)
    assert len(set(values)) == len(values) >= 8
    assert all(v >= 0 for v in values)
    assert len(set(knobs(name, 0.0))) >= 8


def test_the_reference_is_the_published_one():
    pool = yardstick_pool("x")
    offering = pool.groups[0].offerings[0]
    assert (offering.capacity.cpu, offering.capacity.memory) == (16, 64)
    assert (offering.usd_per_hour, offering.minimum_billing_s) == (0.8064, 60.0)


def test_a_comparison_holds_what_tables_need():
    made = compare(case(), ["reactive", "always-on", "clairvoyant"])
    assert made["judged"]["instances"] == 4
    assert made["policies"]["reactive"]["wait_mean_s"] > 0
    assert made["policies"]["always-on"]["warm_hit_ratio"] == 1
    least = made["clairvoyant"][0]["cost_usd"]
    assert 0 < least <= made["policies"]["clairvoyant"]["cost_usd"]
    assert made["results"]["reactive"].capacity.shape[0] > 0
