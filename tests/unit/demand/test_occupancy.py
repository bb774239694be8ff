import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from preprov.demand.occupancy import Grid, Intervals, means, peaks

GRID = Grid(10.0, 6)
# Halves of a second, so that ends meet beginnings and borders of steps often.
spans = st.lists(
    st.tuples(st.integers(-20, 140), st.integers(0, 100), st.integers(0, 2), st.integers(1, 5)), max_size=25
)


def intervals(raw: list[tuple[int, int, int, int]]) -> Intervals:
    start = np.array([s / 2 for s, _, _, _ in raw])
    length = np.array([d / 2 for _, d, _, _ in raw])
    amount = np.array([[a, a % 2] for _, _, _, a in raw], dtype=float).reshape(-1, 2)
    return Intervals(start, start + length, np.array([c for _, _, c, _ in raw], dtype=np.int64), amount)


def brute_force(found: Intervals, column: int) -> tuple[np.ndarray, np.ndarray]:
    """Level in every half second of the grid."""
    time = np.arange(0, GRID.length, 0.5)
    mine = found.column == column
    on = (found.start[mine, None] <= time) & (time < found.end[mine, None])
    level = np.einsum("nt,nk->tk", on.astype(float), found.amount[mine])
    halves = level.reshape(GRID.steps, -1, 2)
    return halves.max(axis=1), halves.mean(axis=1)


@given(spans)
def test_peak_and_mean_are_those_of_a_look_at_every_half_second(raw: list[tuple[int, int, int, int]]) -> None:
    found = intervals(raw)
    peak, mean = peaks(found, GRID, 3), means(found, GRID, 3)
    for column in range(3):
        highest, average = brute_force(found, column)
        np.testing.assert_allclose(peak[column], highest, atol=1e-9)
        np.testing.assert_allclose(mean[column], average, atol=1e-9)


@given(spans)
def test_what_intervals_hold_inside_the_grid_is_conserved(raw: list[tuple[int, int, int, int]]) -> None:
    found = intervals(raw)
    inside = np.clip(found.end, 0, GRID.length) - np.clip(found.start, 0, GRID.length)
    held = (inside[:, None] * found.amount).sum(axis=0)
    np.testing.assert_allclose(means(found, GRID, 3).sum(axis=(0, 1)) * GRID.step, held, atol=1e-6)


def test_one_that_ends_as_another_begins_does_not_overlap_it() -> None:
    chain = intervals([(0, 20, 0, 2), (20, 20, 0, 2), (40, 13, 0, 2)])
    assert peaks(chain, GRID, 1)[0, :, 0].tolist() == [2, 2, 2, 0, 0, 0]


def test_nothing_at_all() -> None:
    assert not peaks(intervals([]), GRID, 2).any()
    assert means(intervals([]), GRID, 2).shape == (2, 6, 2)
