"""Champion and challenger, drift and quarantine, through the use cases, on a store in memory and a virtual clock."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from preprov.control.challenge import challenge, promote, rollback
from preprov.control.context import Context
from preprov.control.demanding import LEARNT_KIND, inputs
from preprov.control.forecasting import issue_forecast
from preprov.control.learning import Lesson, learn, retrain
from preprov.control.quarantine import lift, put_in_quarantine, quarantined_days
from preprov.demand.forecasting.scaler import ScalerConfig
from preprov.model.errors import ConfigError, ForecastError
from preprov.model.learning import DETECTOR, ForecastScore
from preprov.model.pools import Pool
from preprov.model.series import SeriesHistory
from preprov.sim.clock import VirtualClock
from tests.unit.control.world import World, make_pool, make_world

START = datetime(2025, 3, 3, tzinfo=UTC)  # a Monday, and when the world begins
POOR = ScalerConfig(horizon=26, members=("last",), track_days=14)
GOOD = ScalerConfig(horizon=26, members=("last", "snaive24", "profile7"), track_days=14)


def series(days: int, seed: int = 0, **factors: float) -> np.ndarray:
    """(days * 24,) cores: busy by day, with 8 % noise; `d30=3.0` makes day 30 three times as big."""
    rng = np.random.default_rng(seed)
    values = np.where((np.arange(24) >= 8) & (np.arange(24) < 18), 20.0, 5.0)[None, :] * rng.lognormal(
        0, 0.08, (days, 24)
    )
    for name, factor in factors.items():
        values[int(name[1:])] *= factor
    return values.ravel()


def world(values: np.ndarray, day: float) -> World:
    """A pool whose history is that series, on the evening of that day."""
    made = make_world(make_pool(step_seconds=3600, horizon_s=24 * 3600))
    made.ctx.ports.work.write_series("p", "s", "d", SeriesHistory("p", "UTC", 3600, START, values))
    go_to(made.clock, day)
    return made


def day_of(number: int) -> date:
    return (START + timedelta(days=number)).date()


def go_to(clock: VirtualClock, day: float) -> None:
    clock.advance_to(START + timedelta(days=day))


def round_of(ctx: Context, pool: Pool, config: ScalerConfig, *, asked: bool = True) -> Lesson:
    return learn(ctx, pool, inputs(ctx, pool, ctx.clock.now()), asked=asked, config=config)


def champion(w: World) -> str:
    held = w.ctx.ports.models.load("p", LEARNT_KIND)
    assert held is not None
    return held[0].version


# --------------------------------------------------------------------------- champion and challenger


def test_the_first_model_becomes_champion_and_a_better_one_takes_its_place_with_its_backtest() -> None:
    w = world(series(60), 40)
    first = round_of(w.ctx, w.pool, POOR)
    assert first.cause == "the first fit"
    assert champion(w) == first.challenge.challenger.version
    go_to(w.clock, 47)
    second = round_of(w.ctx, w.pool, GOOD).challenge
    assert second.record.promoted, second.record.reason
    assert champion(w) == second.champion.version == second.challenger.version
    record = w.ctx.ports.learning.backtest(second.champion.backtest_id)
    assert record == second.record
    assert len(record.origins) == len(record.champion_loss) == len(record.challenger_loss) == 14
    assert record.p < 0.1
    assert abs(record.coverage["challenger_80"] - 0.8) <= 0.05
    assert record.reason.startswith("better")
    assert max(record.origins) <= w.clock.now(), "nothing that is still to come"


def test_a_worse_challenger_stays_beside_the_champion() -> None:
    w = world(series(60), 40)
    first = round_of(w.ctx, w.pool, GOOD).challenge
    go_to(w.clock, 47)
    second = round_of(w.ctx, w.pool, POOR).challenge
    assert not second.record.promoted
    assert champion(w) == first.champion.version == second.champion.version
    assert second.record.reason.startswith("not better")
    assert second.record.p > 0.9
    assert [v.champion for v in w.ctx.ports.models.versions("p")] == [False, True]


def test_a_refit_of_the_same_design_needs_evidence_until_the_champion_is_old() -> None:
    w = world(series(90), 40)
    first = round_of(w.ctx, w.pool, GOOD).challenge
    go_to(w.clock, 47)
    assert not round_of(w.ctx, w.pool, GOOD).challenge.record.promoted
    assert champion(w) == first.champion.version
    go_to(w.clock, 72)
    last = round_of(w.ctx, w.pool, GOOD).challenge
    assert last.record.promoted, last.record.reason
    assert "32 days old" in last.record.reason


def test_what_came_after_the_origins_changes_nothing_of_the_comparison() -> None:
    """The record and the twin see what was known at each origin: a future turned upside down leaves all losses."""
    found = []
    for tail in (1.0, 50.0):
        values = series(60)
        values[24 * 47 :] *= tail
        w = world(values, 40)
        round_of(w.ctx, w.pool, POOR)
        go_to(w.clock, 47)
        found.append(round_of(w.ctx, w.pool, GOOD).challenge.record)
    assert found[0].champion_loss == found[1].champion_loss
    assert found[0].challenger_loss == found[1].challenger_loss


def test_a_champion_learnt_from_too_little_gives_way_to_one_that_knows_more() -> None:
    w = world(series(60), 4)
    first = round_of(w.ctx, w.pool, GOOD)
    assert "days of history" in first.given.learnt.reason
    go_to(w.clock, 5.5)
    due = round_of(w.ctx, w.pool, GOOD, asked=False)
    assert due.cause == "2 days since the last fit", "while history is short, each day counts"
    assert due.challenge.record.promoted
    assert "too little" in due.challenge.record.reason


def test_a_champion_that_cannot_be_read_stops_nothing_and_is_replaced() -> None:
    w = world(series(60), 40)
    w.ctx.ports.models.save("p", LEARNT_KIND, "json", b'{"format": "strange"}\n', at=w.clock.now(), metrics={})
    given = inputs(w.ctx, w.pool, w.clock.now())
    assert "refused" in given.learnt.reason
    lesson = round_of(w.ctx, w.pool, POOR, asked=False)
    assert lesson.challenge.record.promoted
    assert "cannot be read" in lesson.challenge.record.reason
    assert lesson.given.learnt.scaler is not None


def test_promote_by_hand_and_roll_back_step_by_step() -> None:
    w = world(series(60), 40)
    made = []
    for day in (40, 41, 42):
        go_to(w.clock, day)
        made.append(
            challenge(w.ctx, w.pool, inputs(w.ctx, w.pool, w.clock.now()), cause="t", config=POOR).challenger.version
        )
    a, b, c = made
    promote(w.ctx, w.pool, b, "a look at it")
    promote(w.ctx, w.pool, c, "and at this")
    assert rollback(w.ctx, w.pool, "worse on Monday").version == b == champion(w)
    assert rollback(w.ctx, w.pool, "worse still").version == a == champion(w)
    with pytest.raises(ConfigError, match="no champion before"):
        rollback(w.ctx, w.pool, "further")
    history = w.ctx.ports.models.promotions("p", LEARNT_KIND)
    assert [(p.version, p.rollback) for p in history] == [(a, True), (b, True), (c, False), (b, False), (a, False)]
    assert [p.reason for p in history[:2]] == ["worse still", "worse on Monday"]
    with pytest.raises(ConfigError, match="no model version"):
        promote(w.ctx, w.pool, "none", "")


def test_versions_do_not_pile_up() -> None:
    w = world(series(60), 2)
    first = round_of(w.ctx, w.pool, POOR).challenge.champion.version
    for hour in range(1, 15):
        go_to(w.clock, 2 + hour / 24)
        challenge(w.ctx, w.pool, inputs(w.ctx, w.pool, w.clock.now()), cause="t", config=POOR)
    versions = [v.version for v in w.ctx.ports.models.versions("p")]
    assert 12 <= len(versions) <= 14
    assert champion(w) in versions
    assert first in [p.version for p in w.ctx.ports.models.promotions("p", LEARNT_KIND)]


def test_a_pool_without_history_cannot_be_trained() -> None:
    w = make_world()
    with pytest.raises(ForecastError, match="no history"):
        retrain(w.ctx, w.pool)


# --------------------------------------------------------------------------- issued forecasts against what came


def issue_daily(w: World, first: int, last: int) -> None:
    for day in range(first, last):
        go_to(w.clock, day)
        issue_forecast(w.ctx, w.pool)


@pytest.fixture(scope="module")
def light() -> pytest.MonkeyPatch:
    """The default design without trees: a fit takes no time."""
    patch = pytest.MonkeyPatch()
    patch.setattr("preprov.control.challenge.learnt_config", lambda given: GOOD)
    yield patch
    patch.undo()


@pytest.mark.usefixtures("light")
def test_each_forecast_is_scored_once_its_day_has_passed_and_the_next_ones_carry_the_coverage() -> None:
    w = world(series(60), 40)
    issue_daily(w, 40, 44)
    scores = w.ctx.ports.learning.scores("p")
    issued = w.ctx.ports.forecasts.issued("p", START, w.clock.now())
    assert [s.forecast_id for s in scores] == [i for i, _ in issued[:-1]]
    assert all(s.points == 24 and s.model for s in scores)
    assert all(0.3 <= s.coverage80 <= 1 and s.wql < 0.2 for s in scores)
    _, last = w.ctx.ports.forecasts.latest("p")
    carried = last.basis["issued_before"]
    assert carried["forecasts"] == 3
    assert carried["hours"] == 3 * 24
    assert carried["coverage80"] == pytest.approx(np.mean([s.coverage80 for s in scores]))
    assert carried["collapsed"] == ""


def told(w: World, day: int, loss: float, coverage: float) -> None:
    """A score as `watch` writes it of the forecast issued on that day."""
    at = START + timedelta(days=day)
    spread = np.random.default_rng(day).lognormal(0, 0.4, 24)
    w.ctx.ports.learning.save_score(
        ForecastScore(
            f"f{day}", "p", at, at + timedelta(days=1), "v", "cpu", at, 3600, tuple(loss * spread), coverage, 0.9, 0.1
        )
    )


def test_drift_of_the_loss_puts_up_a_challenger_at_the_next_round_and_once_only() -> None:
    w = world(series(90), 40)
    round_of(w.ctx, w.pool, GOOD)
    for day in range(40, 60):
        told(w, day, 0.4 if day < 53 else 3.0, 0.8)
    go_to(w.clock, 46)
    assert round_of(w.ctx, w.pool, GOOD, asked=False).challenge is None, "nothing is due"
    go_to(w.clock, 47.5)
    assert round_of(w.ctx, w.pool, GOOD, asked=False).cause == "8 days since the last fit"
    go_to(w.clock, 52)
    assert round_of(w.ctx, w.pool, GOOD, asked=False).cause == ""
    go_to(w.clock, 54.2)
    lesson = round_of(w.ctx, w.pool, GOOD, asked=False)
    assert lesson.cause.startswith("drift: loss rose from 0.")
    assert lesson.challenge.record.cause == lesson.cause
    assert lesson.challenge.record.promoted
    assert "the challenger is not worse" in lesson.challenge.record.reason
    go_to(w.clock, 55)
    assert round_of(w.ctx, w.pool, GOOD, asked=False).cause == "", "the new champion begins with a clean sheet"


def test_intervals_that_cover_too_little_let_a_challenger_take_over_that_is_not_worse() -> None:
    w = world(series(90), 40)
    round_of(w.ctx, w.pool, GOOD)
    for day in range(40, 52):
        told(w, day, 0.4, 0.4)
    go_to(w.clock, 53)
    record = round_of(w.ctx, w.pool, GOOD).challenge.record
    assert record.promoted
    assert "covered 40%" in record.reason


@pytest.mark.slow
@pytest.mark.usefixtures("light")
@pytest.mark.parametrize("lost", [False, True])
def test_forecasts_issued_day_after_day_drift_only_where_the_world_does(lost: bool) -> None:
    values = series(80)
    if lost:
        values[24 * 49 :] = np.random.default_rng(1).exponential(40, 24 * 31)
    w = world(values, 40)
    issue_daily(w, 40, 55)
    causes = [b.cause for b in w.ctx.ports.learning.backtests("p")]
    assert any(c.startswith("drift") for c in causes) == lost, causes


def test_without_a_model_and_with_a_short_history_the_forecast_says_what_it_rests_on() -> None:
    w = world(series(60), 3)
    issued = issue_forecast(w.ctx, w.pool)
    assert "3.0 days of history" in str(issued.curve.basis["fallback"])
    assert issued.model is not None
    assert issued.curve.basis["learnt_model"] == issued.model.version
    bare = world(series(60), 1 / 24)
    assert "history" in str(issue_forecast(bare.ctx, bare.pool).curve.basis["fallback"])


def test_a_forecast_of_the_past_leaves_no_evidence() -> None:
    w = world(series(60), 5)
    issue_forecast(w.ctx, w.pool)
    before = (w.ctx.ports.models.versions("p"), w.ctx.ports.learning.backtests("p"))
    issue_forecast(w.ctx.at(START + timedelta(days=2)), w.pool)
    assert (w.ctx.ports.models.versions("p"), w.ctx.ports.learning.backtests("p")) == before


# --------------------------------------------------------------------------- quarantine


def test_a_strange_day_is_put_into_quarantine_with_its_reason_and_not_learnt_from() -> None:
    w = world(series(60, d35=6.0), 40)
    lesson = round_of(w.ctx, w.pool, POOR)
    (held,) = lesson.review.added
    assert (held.day, held.actor) == (day_of(35), DETECTOR)
    assert "times what is usual" in held.reason
    assert lesson.given.quarantined == {held.day} == quarantined_days(w.ctx, "p")
    assert inputs(w.ctx, w.pool, w.clock.now()).quarantined == {held.day}


def test_a_level_that_stays_is_lifted_by_itself() -> None:
    w = world(series(70, **{f"d{d}": 4.0 for d in range(40, 70)}), 41.5)
    assert [d.day for d in round_of(w.ctx, w.pool, POOR).review.added] == [day_of(40)]
    go_to(w.clock, 48)
    later = round_of(w.ctx, w.pool, POOR).review
    assert [d.day for d in later.lifted] == [day_of(40)]
    assert later.held == ()
    assert quarantined_days(w.ctx, "p") == frozenset()


def test_what_a_person_said_of_a_day_holds() -> None:
    w = world(series(60, d35=6.0), 40)
    strange, named = day_of(35), day_of(20)
    round_of(w.ctx, w.pool, POOR)
    lift(w.ctx, w.pool, strange, "a real campaign")
    put_in_quarantine(w.ctx, w.pool, named, "the migration")
    go_to(w.clock, 41)
    assert [d.day for d in round_of(w.ctx, w.pool, POOR).review.held] == [named]
    with pytest.raises(ConfigError, match="not in quarantine"):
        lift(w.ctx, w.pool, strange, "again")
    with pytest.raises(ConfigError, match="has not come"):
        put_in_quarantine(w.ctx, w.pool, day_of(99), "?")
