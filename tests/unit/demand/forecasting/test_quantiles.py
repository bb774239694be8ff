"""Quantile functions are read off right: exact on the grid, monotone between and beyond, never crossing."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from preprov.demand.forecasting.quantiles import GRID, at_levels, pinball, uncross, weighted_quantiles

values = st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=len(GRID), max_size=len(GRID))
levels = st.lists(st.floats(0.0005, 0.9995), min_size=2, max_size=12)


@given(values)
def test_levels_of_the_grid_come_back_unchanged(raw: list[float]) -> None:
    sorted_values = np.sort(np.array(raw))
    np.testing.assert_array_equal(at_levels(sorted_values, GRID, GRID), sorted_values)


@given(values, levels)
def test_increasing_levels_give_non_decreasing_values(raw: list[float], wanted: list[float]) -> None:
    out = at_levels(np.sort(np.array(raw)), GRID, sorted(wanted))
    assert (np.diff(out) >= -1e-6 * (1 + np.abs(out[1:]))).all()
    assert np.isfinite(out).all()


@given(values)
def test_sorting_never_raises_the_loss(raw: list[float]) -> None:
    crossed = np.array(raw)
    for actual in (raw[0], 0.0, raw[-1] + 1):
        before = pinball(np.array(actual), crossed, GRID).sum()
        assert pinball(np.array(actual), uncross(crossed), GRID).sum() <= before + 1e-6 * (1 + abs(before))


def test_pinball_is_half_the_error_at_the_median_and_keeps_nan() -> None:
    loss = pinball(np.array([10.0, np.nan]), np.full((2, 1), 6.0), (0.5,))
    assert loss[0, 0] == 2.0
    assert np.isnan(loss[1, 0])


def test_weighted_quantiles_follow_the_weights() -> None:
    points = np.array([0.0, 1.0, 2.0])
    assert weighted_quantiles(points, np.array([1.0, 1.0, 1.0]), [0.5])[0] == 1.0
    assert weighted_quantiles(points, np.array([1e-9, 1e-9, 1.0]), [0.5])[0] > 1.9
