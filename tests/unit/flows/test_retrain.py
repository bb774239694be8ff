"""What the retrain flow keeps: a row of facts and a story, of a round in which something happened."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from preprov.control.demanding import inputs
from preprov.control.learning import learn
from preprov.demand.forecasting.scaler import ScalerConfig
from preprov.model.series import SeriesHistory
from tests.unit.control.world import START, make_pool, make_world

pytestmark = pytest.mark.slow  # Prefect takes seconds to load


def test_the_facts_and_the_story_say_who_won_and_why() -> None:
    from flows.retrain import _facts, _story

    rng = np.random.default_rng(0)
    values = np.where((np.arange(24) >= 8) & (np.arange(24) < 18), 20.0, 5.0) * rng.lognormal(0, 0.08, (60, 24))
    values[35] *= 6
    world = make_world(make_pool(step_seconds=3600))
    history = SeriesHistory("p", "UTC", 3600, datetime(2025, 3, 3, tzinfo=UTC), values.ravel())
    world.ctx.ports.work.write_series("p", "s", "d", history)
    lessons = []
    for day, members in ((40, ("last",)), (47, ("last", "snaive24", "profile7"))):
        world.clock.advance_to(START + timedelta(days=day))
        config = ScalerConfig(horizon=26, members=members, track_days=14)
        given = inputs(world.ctx, world.pool, world.clock.now())
        lessons.append(learn(world.ctx, world.pool, given, asked=True, config=config))
    first, second = (_facts(lesson) for lesson in lessons)
    assert (first["decision"], first["why"], first["quarantined"]) == ("promoted", "the first model", "2025-04-07")
    assert (second["decision"], second["origins"]) == ("promoted", 14)
    assert second["champion"] == second["challenger"]
    story = _story(lessons[1])
    assert "A challenger was put up: asked for." in story
    assert f"**{second['challenger']} promoted**: better" in story
    assert story.count("| 2025-") == 14
    assert "Drift: none." in story
    assert "- 2025-04-07: demand was" in story
