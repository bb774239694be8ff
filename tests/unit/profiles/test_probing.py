"""What a probe run is worth, and what it says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprov.profiles.probing import Expected, told_by, worth
from preprov.profiles.waste import Price

PRICE = Price(failure=2.0, cap=64.0)


@settings(max_examples=30, deadline=None)
@given(middle=st.floats(0.5, 8), spread=st.floats(0.03, 1.0), hours=st.floats(0.01, 10), runs=st.integers(3, 40))
def test_it_is_worth_more_the_longer_a_run_and_nothing_where_all_is_known(middle, spread, hours, runs):
    now = Expected(middle, spread, runs - 1)
    found = worth(now, hours, PRICE)
    assert found.saved >= 0
    assert worth(now, 2 * hours, PRICE).saved >= found.saved
    assert worth(Expected(middle, 0.02, runs - 1), hours, PRICE).saved <= 1e-6 * middle * hours + 1e-9


def test_a_wide_spread_is_worth_a_probe_and_one_that_says_nothing_is_not():
    rng = np.random.default_rng(0)
    wide = Expected.of(rng.lognormal(1.0, 0.8, 20).tolist(), 32.0)
    told = [(p, 10 * p * float(np.exp(rng.normal(0, 0.03)))) for p in rng.lognormal(-1, 0.8, 12)]
    silent = [(0.1, float(p)) for p in rng.lognormal(1.0, 0.8, 12)]
    assert worth(wide, 1.0, PRICE, told).saved > 0.3 * worth(wide, 1.0, PRICE, told).now
    assert worth(wide, 1.0, PRICE, silent).saved < 0.1 * worth(wide, 1.0, PRICE, told).saved
    narrow = Expected.of(rng.lognormal(1.0, 0.02, 20).tolist(), 32.0)
    assert worth(narrow, 1.0, PRICE, told).saved < 0.05 * worth(wide, 1.0, PRICE, told).saved


def test_what_a_probe_says_rests_on_those_that_were_followed_by_a_run():
    assert told_by(0.3, [(0.1, 1.0), (0.2, 2.0)]) is None
    said = told_by(0.3, [(0.1, 1.0), (0.2, 2.0), (0.4, 4.0)])
    assert said is not None
    assert said.middle == pytest.approx(3.0)
    asked, wasted = said.least_waste(1.0, PRICE)
    assert 3.0 <= asked < 3.5
    assert wasted < 0.5


def test_of_a_task_that_never_ran_a_quarter_of_what_it_asks_for_is_expected_and_little_known():
    assert Expected.of([], 16.0) == Expected(4.0, 1.0, 3)
    assert Expected.of([2.0, 2.0], 16.0).middle == pytest.approx(2.0)
