"""Weights follow the record, intervals are brought to their promise, and both only ever look back."""

import numpy as np
import pytest

from preprov.demand.forecasting import aggregation, calibration, paths
from preprov.demand.forecasting.aggregation import MixSettings
from preprov.demand.forecasting.calibration import CalibrationSettings
from preprov.demand.forecasting.quantiles import GRID
from preprov.demand.forecasting.track import Track
from preprov.demand.forecasting.view import View
from tests.unit.demand.forecasting.series_samples import daily, history

NORMAL = np.array(
    [-2.326, -1.645, -1.282, -0.842, -0.674, -0.524, -0.253, 0.0, 0.253, 0.524, 0.674, 0.842, 1.282, 1.645, 2.326]
)
BLOCKS = aggregation.block_of(24, 24)


def track(biases: tuple[float, ...], *, days: int = 60, spread: float = 1.0, seed: int = 0) -> Track:
    """Members that know a standard normal outcome up to a bias and a wrong spread."""
    came = np.random.default_rng(seed).normal(100, 1, (days, 24))
    said = np.stack([np.broadcast_to(100 + b + spread * NORMAL, (days, 24, len(GRID))) for b in biases], axis=1)
    return Track(tuple(f"m{i}" for i in range(len(biases))), np.arange(days), said.astype(np.float32), came)


def test_the_better_member_gets_the_weight_and_a_bad_one_is_dropped() -> None:
    weights = aggregation.learn(track((0.0, 0.3, 9.0)), BLOCKS, MixSettings()).weights
    used = weights[np.unique(BLOCKS)]
    assert (used[:, 0] > used[:, 1]).all()
    assert (used[:, 2] == 0).all()
    np.testing.assert_allclose(used.sum(axis=1), 1.0)


def test_an_absent_member_gets_no_weight_and_leaves_no_hole() -> None:
    record = track((0.0, 0.1))
    record.said[:30, 1] = np.nan
    learnt = aggregation.learn(record, BLOCKS, MixSettings())
    assert np.isfinite(learnt.said).all()
    np.testing.assert_array_equal(aggregation.restrict(learnt.weights, np.array([False, True]))[:, 1], 1.0)


def test_what_the_mix_said_never_depends_on_what_came_later() -> None:
    record, other = track((0.0, 0.5)), track((0.0, 0.5))
    other.came[40:] = 500.0
    settings = CalibrationSettings()
    early, late = (aggregation.learn(r, BLOCKS, MixSettings()).said for r in (record, other))
    np.testing.assert_array_equal(early[:41], late[:41])
    walked = [calibration.learn(r.came, s, BLOCKS, settings).said for r, s in ((record, early), (other, late))]
    np.testing.assert_array_equal(walked[0][:41], walked[1][:41])


@pytest.mark.parametrize("spread", [0.4, 2.5])
def test_intervals_too_narrow_or_too_wide_are_brought_near_their_promise(spread: float) -> None:
    record = track((0.0,), days=150, spread=spread)
    said = record.said[:, 0].astype(float)
    before = calibration.coverage(record.came, said)["80"]
    walked = calibration.learn(record.came, said, BLOCKS, CalibrationSettings()).said
    after = calibration.coverage(record.came[60:], walked[60:])["80"]
    assert abs(after - 0.8) < abs(before - 0.8) / 2
    assert (np.diff(walked, axis=-1) >= 0).all()


def test_too_short_a_record_moves_nothing() -> None:
    record = track((3.0,), days=5)
    said = record.said[:, 0].astype(float)
    learnt = calibration.learn(record.came, said, BLOCKS, CalibrationSettings())
    np.testing.assert_allclose(learnt.apply(said[0], BLOCKS), said[0])
    assert np.isnan(calibration.coverage(record.came[:0], record.said[:0, 0].astype(float))["80"])


def test_unknown_outcomes_teach_nothing() -> None:
    record = track((0.0, 2.0))
    record.came[:] = np.nan
    weights = aggregation.learn(record, BLOCKS, MixSettings()).weights
    np.testing.assert_array_equal(weights, 0.5)


def test_maxima_of_paths_lie_between_independence_and_lockstep() -> None:
    rng = np.random.default_rng(0)
    marginal = np.broadcast_to(NORMAL, (24, len(GRID)))
    errors = np.zeros((300, 24))
    for h, shock in enumerate(rng.normal(size=(24, 300))):
        errors[:, h] = 0.9 * errors[:, h - 1] + np.sqrt(1 - 0.81) * shock if h else shock
    median_of_max = [
        np.median(paths.sample_paths(marginal, given, 400, seed=1).max(axis=1))
        for given in (np.zeros((0, 24)), errors, rng.normal(size=(300, 24)))
    ]
    assert median_of_max[0] < median_of_max[1] < median_of_max[2]
    assert median_of_max[1] == pytest.approx(np.median(errors.max(axis=1)), abs=0.15)


def test_every_hour_of_the_paths_holds_the_same_evenly_spread_values() -> None:
    marginal = np.sort(np.random.default_rng(3).normal(50, 9, (24, len(GRID))), axis=1)
    drawn = paths.sample_paths(marginal, np.random.default_rng(4).normal(size=(25, 24)), 100, seed=0)
    again = paths.sample_paths(marginal, np.zeros((0, 24)), 100, seed=9)
    np.testing.assert_allclose(np.sort(drawn, axis=0), np.sort(again, axis=0))


def test_templates_come_from_the_record_else_from_the_history_else_from_nowhere() -> None:
    view = View(history(daily(10)))
    levels = np.full((30, 24), 0.5)
    levels[0, 3] = np.nan
    assert len(paths.templates(levels, view, 24)) == 29
    assert len(paths.templates(levels[:5], view, 24)) == len(view) - 24
    assert len(paths.templates(levels[:5], View(history(daily(1))), 24)) == 0


def test_levels_keep_the_order_of_extremes() -> None:
    grid = np.tile(NORMAL, (5, 1))
    levels = paths.levels_of(np.array([-9.0, -3.0, 0.0, 3.0, np.nan]), grid)
    assert (np.diff(levels[:4]) > 0).all()
    assert levels[2] == 0.5
    assert np.isnan(levels[4])
    assert paths.levels_of(np.array([7.0]), np.full((1, len(GRID)), 7.0))[0] == pytest.approx(0.5)
