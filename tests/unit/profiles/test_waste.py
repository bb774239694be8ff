"""What an allocation costs: one task up the ladder, and what is expected of a distribution."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.profiles.draws import LEVELS, MASS, Mixture, placed, placed_weighted
from preprov.profiles.waste import Price, outcome, waste

amounts = st.floats(0.01, 500)
prices = st.builds(
    Price,
    failure=st.sampled_from([0.5, 1.0, 3.0]),
    time_to_failure=st.sampled_from([0.0, 0.5, 1.0]),
    restart_h=st.sampled_from([0.0, 0.1]),
    ladder=st.sampled_from([1.5, 2.0, 3.0]),
    cap=st.sampled_from([4.0, 64.0, float("inf")]),
)


def test_one_that_was_large_enough_wastes_what_it_did_not_use() -> None:
    came = outcome(10.0, 4.0, 2.0, Price())
    assert (came.wasted, came.failures, came.used, came.allocated) == (12.0, 0, 8.0, 20.0)


def test_one_that_fails_twice_wastes_both_attempts_and_the_rest_of_the_third() -> None:
    came = outcome(2.0, 7.0, 1.0, Price(time_to_failure=0.5))
    assert came.failures == 2
    assert came.wasted == pytest.approx(2 * 0.5 + 4 * 0.5 + 1)


def test_a_node_is_the_most_that_can_be_asked_for() -> None:
    came = outcome(3.0, 50.0, 1.0, Price(cap=8.0))
    assert came.failures == 2
    assert came.wasted == pytest.approx(3 + 6)


@pytest.mark.parametrize(
    "wrong", [{"failure": -1}, {"time_to_failure": -0.1}, {"ladder": 1.0}, {"cap": 0.0}, {"restart_h": -1}]
)
def test_no_such_price(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="no such price"):
        Price(**wrong)


@given(amounts, amounts, amounts, st.sampled_from([1.5, 2.0]), st.sampled_from([16.0, float("inf")]))
def test_at_the_price_it_cost_both_ways_to_reckon_agree(
    allocation: float, peak: float, hours: float, ladder: float, cap: float
) -> None:
    price = Price(restart_h=0.0, ladder=ladder, cap=cap)
    assert waste(allocation, peak, hours, price) == pytest.approx(outcome(allocation, peak, hours, price).wasted)


@given(
    st.lists(st.tuples(amounts, amounts), min_size=2, max_size=30), st.lists(amounts, min_size=1, max_size=8), prices
)
def test_expected_waste_is_the_sum_over_the_points(
    points: list[tuple[float, float]], asked: list[float], price: Price
) -> None:
    peak, hours = np.array([sorted(points)] * 2).transpose(2, 0, 1)
    mass = np.full(peak.shape, 1 / len(points))
    mine = Mixture(peak, mass, hours).waste(np.minimum(np.array([asked, asked[::-1]]), price.cap), price)
    for row, allocations in enumerate((asked, asked[::-1])):
        for column, allocation in enumerate(allocations):
            each = waste(min(allocation, price.cap), np.minimum(peak[row], price.cap), hours[row], price)
            assert mine[row, column] == pytest.approx(float((each * mass[row]).sum()), rel=1e-6, abs=1e-9)


def mixture(*spreads: float, rows: int = 5) -> Mixture:
    rng = np.random.default_rng(3)
    members = [np.sort(rng.lognormal(0, s, (rows, len(LEVELS))), axis=1) for s in spreads]
    return Mixture.of(members, np.linspace(1, 2, len(spreads)), lambda peak: 1 + 0.1 * peak)


def test_the_cheapest_allocation_is_next_to_the_best_of_all_points() -> None:
    both, price = mixture(0.1, 1.0), Price()
    cost = both.waste(both.cheapest(price)[:, None], price)[:, 0]
    assert (cost <= both.waste(both.peak, price).min(axis=1) * 1.1).all()


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    many = mixture(0.3, 1.0, rows=40)
    alone = [Mixture(many.peak[i : i + 1], many.mass[i : i + 1], many.hours[i : i + 1]) for i in range(40)]
    assert many.cheapest(Price()) == pytest.approx([float(m.cheapest(Price())[0]) for m in alone])


def test_a_dearer_failure_asks_for_more() -> None:
    one = mixture(0.5, rows=1)
    asked = [float(one.cheapest(Price(failure=f))[0]) for f in (0.3, 1.0, 3.0, 30.0)]
    assert asked == sorted(asked)
    assert asked[-1] > asked[0]


@given(st.lists(amounts, min_size=1, max_size=60))
def test_a_sample_and_what_lies_beyond_it(values: list[float]) -> None:
    sample = np.sort(np.array(values))[None, :]
    at = placed(sample, 1e-3)[0]
    assert np.isclose(MASS.sum(), 1.0)
    assert (np.diff(at) >= -1e-9).all()
    assert at[0] >= sample[0, 0] - 1e-9
    assert at[-1] > sample[0, -1] or 0.5 / len(values) <= 1 - LEVELS[-1]
    if len(values) > 1:
        even = placed_weighted(sample, np.ones(sample.shape), 1e-3)[0]
        inside = (0.5 / len(values) < LEVELS) & (1 - 0.5 / len(values) > LEVELS)
        assert even[inside] == pytest.approx(at[inside])
