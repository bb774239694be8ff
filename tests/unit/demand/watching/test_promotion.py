"""Promotion on evidence: the bootstrap, the rule, and the comparison out of sample."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.demand.forecasting.scaler import ScalerConfig, ScalerModel
from preprov.demand.watching.beside import Beside, beside
from preprov.demand.watching.bootstrap import p_no_better
from preprov.demand.watching.promotion import judge
from preprov.model.errors import ForecastError
from preprov.model.series import SeriesHistory

START = datetime(2025, 1, 6, tzinfo=UTC)
LOSSES = st.lists(st.floats(0.01, 100), min_size=3, max_size=20)


def compared(ratio: float, *, spread: float = 0.02, count: int = 14, covered: float = 0.8) -> Beside:
    """The challenger's loss is about so many times the champion's."""
    rng = np.random.default_rng(1)
    before = rng.uniform(1, 2, count)
    after = before * ratio * rng.lognormal(0, spread, count)
    origins = tuple(START + timedelta(days=d) for d in range(count))
    coverage = {"champion_80": 0.8, "challenger_80": covered}
    return Beside(origins, tuple(before.tolist()), tuple(after.tolist()), coverage)


@given(LOSSES)
def test_equal_losses_are_no_evidence_and_lower_ones_are(losses: list[float]) -> None:
    assert p_no_better(losses, losses) == 1.0
    assert p_no_better(losses, [v * 0.9 for v in losses]) < 0.01
    assert p_no_better(losses, [v * 1.1 for v in losses]) == 1.0


def test_the_bootstrap_agrees_with_a_t_test_where_that_holds() -> None:
    from scipy.stats import ttest_rel

    rng = np.random.default_rng(0)
    before = rng.normal(10, 1, 200)
    after = before + rng.normal(-0.05, 0.5, 200)
    assert p_no_better(before, after) == pytest.approx(ttest_rel(after, before, alternative="less").pvalue, abs=0.02)


def test_better_and_calibrated_is_promoted() -> None:
    assert judge(compared(0.9)).promote
    assert not judge(compared(1.0, spread=0.2)).promote
    assert not judge(compared(1.1)).promote
    off = judge(compared(0.9, covered=0.7))
    assert not off.promote
    assert "not calibrated" in off.reason


def test_a_collapsed_old_or_thin_champion_gives_way_to_one_that_is_not_worse() -> None:
    same, worse = compared(1.01, spread=0.001), compared(1.3)
    for reason in ({"collapsed": "the loss rose"}, {"thin": "three days"}, {"age_days": 40.0}):
        assert judge(same, **reason).promote
        assert not judge(worse, **reason).promote
    assert not judge(same).promote
    assert not judge(compared(1.0, covered=0.4), collapsed="the loss rose").promote


def test_too_few_origins_decide_nothing_but_for_a_thin_champion() -> None:
    few = compared(0.5, count=3)
    assert not judge(few).promote
    assert not judge(few, collapsed="the loss rose").promote
    assert judge(few, thin="an hour of history").promote
    assert judge(Beside(), thin="an hour of history").promote


# --------------------------------------------------------------------------- at equal origins, out of sample


def series(days: int, seed: int = 0) -> SeriesHistory:
    rng = np.random.default_rng(seed)
    wave = np.where((np.arange(24) >= 8) & (np.arange(24) < 18), 20.0, 5.0)
    return SeriesHistory("s", "UTC", 3600, START, (wave * rng.lognormal(0, 0.1, (days, 24))).ravel())


def fit_of(*members: str):
    config = ScalerConfig(horizon=24, members=members, track_days=14)

    def fit(history: SeriesHistory, previous: ScalerModel | None) -> ScalerModel:
        return ScalerModel.fit(history, config, 0, previous=previous)

    return fit


def test_both_are_asked_at_the_champions_last_origins_and_the_twin_saw_nothing_of_them() -> None:
    history, seen = series(60), []
    champion = fit_of("last")(history.window(0, 24 * 50), None)

    def watched(known: SeriesHistory, previous: ScalerModel | None) -> ScalerModel:
        seen.append(known.end)
        return fit_of("last", "snaive24")(known, previous)

    found = beside(champion, watched, history)
    assert len(found.origins) == 14
    assert seen == [found.origins[0]]
    assert found.origins[-1] + timedelta(hours=24) <= history.end
    assert sum(found.challenger) < sum(found.champion)
    assert set(found.coverage) == {"champion_80", "challenger_80", "champion_90", "challenger_90"}


def test_the_same_design_fitted_on_the_same_days_is_neither_better_nor_worse() -> None:
    history = series(60)
    champion = fit_of("last", "snaive24")(history.window(0, 24 * 46), None)
    found = beside(champion, fit_of("last", "snaive24"), history)
    assert found.champion == pytest.approx(found.challenger, rel=0.05)


def test_a_champion_without_a_record_cannot_be_compared() -> None:
    champion = fit_of("last")(series(60).window(0, 30), None)
    assert beside(champion, fit_of("last"), series(60).window(0, 40)).origins == ()


def test_a_champion_of_another_series_is_an_error() -> None:
    champion = fit_of("last")(series(60), None)
    with pytest.raises(ForecastError):
        beside(champion, fit_of("last"), series(30))


def test_a_model_is_not_asked_at_an_origin_it_has_learnt_from() -> None:
    history = series(60)
    model = fit_of("last")(history.window(0, 24 * 50), None)
    with pytest.raises(ForecastError, match="after the origin"):
        model.asked(history, np.array([model.trained_until - 24]))
