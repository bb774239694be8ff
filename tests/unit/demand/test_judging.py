from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from preprov.demand.aggregate_peers import AggregatePeers, hours_before
from preprov.demand.judging import MEAN, REACH_S, STEP, STEPS, Losses, Truth, instants, judged, judged_days
from preprov.demand.starts import Starts, matched
from preprov.model.demand import QUANTILES
from preprov.model.errors import ForecastError
from tests.unit.demand.work import AT, HOUR, Run, Task, instant, table


def steady(days: int = 10) -> list[Run]:
    """Two cores for an hour every three hours."""
    return [Run(f"r{i}", "d", -3 * HOUR * i, [Task("t", HOUR, cpu=2.0)]) for i in range(8 * days, -10, -1)]


def test_truth_is_the_demand_of_tasks_while_they_ran() -> None:
    work = table([Run("r", "d", 0.0, [Task("a", 450.0, cpu=4.0), Task("b", 300.0, ("a",), cpu=1.0, instances=2)])])
    truth = Truth.of(work)
    after = truth.after(AT)
    assert after[MEAN][:4] == pytest.approx([4.0, 3.0, 1.0, 0.0])
    assert after["300"][:3] == pytest.approx([4.0, 4.0, 2.0])
    assert after["1800"][0] == pytest.approx(4.0)
    assert truth.after(instant(600))[MEAN][0] == pytest.approx(1.0)
    assert all(len(v) == STEPS for v in after.values())


def test_a_trace_without_spans_is_an_error() -> None:
    with pytest.raises(ForecastError, match="no task"):
        Truth.of(table([Run("r", "d", 0.0, [Task("t")])]))


def test_losses_add_up_and_a_forecast_that_is_right_has_none() -> None:
    rng = np.random.default_rng(0)
    actual = rng.gamma(2.0, 5.0, 100)
    said = np.sort(rng.gamma(2.0, 5.0, (100, len(QUANTILES))), axis=1)
    whole = Losses.of(actual, said)
    parts = Losses.of(actual[:40], said[:40]) + Losses.of(actual[40:], said[40:])
    assert parts.metrics() == pytest.approx(whole.metrics())
    exact = Losses.of(actual, np.repeat(actual[:, None], len(QUANTILES), axis=1)).metrics()
    assert (exact["wql"], exact["wape"], exact["coverage80"]) == (0.0, 0.0, 1.0)
    assert np.isnan(Losses.of(np.zeros(3), np.zeros((3, len(QUANTILES)))).metrics()["wql"])


def test_each_horizon_counts_its_own_steps() -> None:
    actual = {MEAN: np.ones(STEPS)}
    found = judged(actual, {MEAN: np.ones((STEPS, len(QUANTILES)))})
    assert {h: m[MEAN].points for h, m in found.items()} == {"900": 3, "3600": 12, "21600": 72, "86400": 288}


def test_judged_days_follow_history_or_end_the_log() -> None:
    work = table([Run(f"r{i}", "d", 24 * HOUR * i, [Task("t", 60.0)]) for i in range(101)])
    begin, until = judged_days(work, "Europe/Zurich")
    assert begin.astimezone(UTC) == datetime(2026, 5, 9, 22, tzinfo=UTC)
    assert until - begin == timedelta(days=14)
    begin, until = judged_days(work, "UTC", at_the_end=True)
    assert (begin, until) == (datetime(2026, 6, 5, tzinfo=UTC), datetime(2026, 6, 19, tzinfo=UTC))
    since = datetime(2026, 4, 1, tzinfo=UTC)
    assert judged_days(work, "UTC", since=since, days=2) == (since, since + timedelta(days=2))
    with pytest.raises(ForecastError, match="too short"):
        judged_days(table([Run("a", "d", 0.0, [Task("t", 60.0)]), Run("b", "d", HOUR, [Task("t", 60.0)])]), "UTC")


@for_all(st.integers(1, 60), st.floats(1.6, 40))
def test_instants_are_on_steps_and_leave_a_day_to_judge(count: int, days: float) -> None:
    until = AT + timedelta(days=days)
    found = instants(AT, until, count)
    assert found == sorted(set(found))
    assert len(found) >= min(count, 2)
    for at in found:
        assert at.timestamp() % STEP == 0
        assert AT <= at <= until - timedelta(seconds=REACH_S)


def test_peers_say_it_from_what_was_known() -> None:
    work = table(steady())
    truth, peers = Truth.of(work), AggregatePeers(("last", "snaive24", "profile7"), "UTC")
    peers.fit(truth, AT)
    said = peers.said(truth, AT)
    assert set(said) == {"last", "snaive24", "profile7"}
    median = said["snaive24"][MEAN][:, QUANTILES.index(0.5)]
    np.testing.assert_allclose(median, truth.after(AT)[MEAN], atol=1e-6)
    highest = said["snaive24"]["1800"][:, QUANTILES.index(0.5)]
    np.testing.assert_allclose(highest, truth.after(AT)["1800"], atol=1e-6)
    changed = Truth(truth.start, truth.mean.copy(), truth.peak.copy())
    changed.mean[truth.step_at(AT) :] = changed.peak[truth.step_at(AT) :] = 99.0
    again = AggregatePeers(("last", "snaive24", "profile7"), "UTC")
    again.fit(changed, AT)
    for name, measures in again.said(changed, AT).items():
        for measure, values in measures.items():
            assert np.array_equal(values, said[name][measure])
    assert hours_before(truth, AT, "UTC").values[-3:] == pytest.approx([2.0, 0.0, 0.0])


def starts(*pairs: tuple[str, float]) -> Starts:
    return Starts(
        np.array([s for s, _ in pairs], dtype=object), np.array([t for _, t in pairs], dtype=float), np.ones(len(pairs))
    )


def test_starts_are_matched_one_to_one() -> None:
    assert matched(starts(("a", 0.0), ("a", 10.0)), starts(("a", 5.0))) == 1
    assert matched(starts(("a", 0.0), ("a", 500.0)), starts(("a", 300.0), ("a", 310.0))) == 2
    assert matched(starts(("a", 0.0)), starts(("b", 0.0))) == 0
    assert matched(starts(), starts(("b", 0.0))) == 0


@for_all(st.lists(st.integers(0, 3_000), max_size=5), st.lists(st.integers(0, 3_000), max_size=5), st.integers(1, 600))
def test_no_better_matching_exists(mine: list[int], theirs: list[int], near: int) -> None:
    import networkx as nx

    graph = nx.Graph()
    graph.add_nodes_from(("m", i) for i in range(len(mine)))
    graph.add_edges_from(
        (("m", i), ("t", j)) for i, a in enumerate(mine) for j, b in enumerate(theirs) if abs(a - b) <= near
    )
    best = len(nx.max_weight_matching(graph, maxcardinality=True))
    assert matched(starts(*(("s", a) for a in mine)), starts(*(("s", b) for b in theirs)), near) == best
