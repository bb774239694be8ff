"""preprov whatif and scorecard: prices on the own history, the promise, and what came."""

from collections.abc import Callable
from pathlib import Path

import pytest

from preprov.replay import past
from preprov.replay.production import Preprov
from tests.unit.cli.test_commands import valid
from tests.unit.cli.test_replay import nights

WORDS = ("whatif", "--pool", "bi", "--at", "2025-03-12T20:00", "--workers", "1")


@pytest.fixture
def stored(preprov: Callable, tmp_path: Path) -> Callable:
    (tmp_path / "t.csv").write_text(nights())
    assert preprov("ingest", "dags", "t.csv", "--pool", "bi", "--tz", "UTC").code == 0
    return preprov


def test_policies_on_the_own_history(stored: Callable, tmp_path: Path):
    policies = ["--policies", "reactive,static-running,clairvoyant", "--days", "3"]
    told = stored(*WORDS, *policies, "--land-by", "*=2h", "--picture", "f.svg", "-o", "json")
    assert told.code == 0, told.err
    document = valid(told.json)
    by = {o["policy"]: o for o in document["options"]}
    assert set(by) == {"reactive", "static-running", "clairvoyant"}
    assert document["days"] == pytest.approx(3)
    assert by["static-running"]["warm_hit_ratio"] > by["reactive"]["warm_hit_ratio"]
    assert by["static-running"]["usd_per_day"] > by["reactive"]["usd_per_day"] > document["bound"][-1]["cost_usd"]
    assert {o["unstarted"] for o in by.values()} == {0}
    assert by["reactive"]["land_by_runs"] == 9
    assert 0 <= by["reactive"]["land_by_met"] <= by["static-running"]["land_by_met"] <= 1
    assert document["promise"] is None
    assert (document["slo"], document["land_by"]) == ([], None)
    assert (tmp_path / "f.svg").stat().st_size > 1000
    assert "never started" in stored(*WORDS, "--policies", "reactive", "--days", "1").out
    card = valid(stored("scorecard", "--pool", "bi", "--at", "2025-03-12T20:00", "-o", "json").json)
    assert card["promise"] is None
    assert "nothing was promised" in stored("scorecard", "--pool", "bi").out


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_price_of_an_slo_is_told_and_the_promise_kept(stored: Callable, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Preprov, "_forecast", lambda self, now: None)  # no nightly fit: that is tested elsewhere
    monkeypatch.setattr(past, "WARM_UP_S", 600.0)
    words = ["--policies", "preprov", "--days", "0.14", "--slo", "0.5,0.99", "--land-by", "*=2h"]
    document = valid(stored(*WORDS, *words, "-o", "json").json)
    assert [o["objective"] for o in document["options"]] == [
        "1 USD per core-hour of waiting",
        "hit rate 0.5",
        "hit rate 0.99",
    ]
    low, high = document["slo"]
    assert high["more_usd_per_day"] == pytest.approx(high["usd_per_day"] - low["usd_per_day"])
    assert high["warm_hit_ratio"] >= low["warm_hit_ratio"]
    assert document["sentences"][0].startswith("99% warm costs ")
    assert "in time" in document["sentences"][1]
    card = valid(stored("scorecard", "--pool", "bi", "--last", "3d", "-o", "json").json)
    assert card["promise"] == document["promise"]
    rows = {r["measure"]: r for r in card["rows"]}
    assert rows["usd_per_day"]["promised"] == pytest.approx(document["options"][0]["usd_per_day"])
    assert rows["usd_per_day"]["realised"] is None, "nobody has watched the pool"
    assert "promised" in stored("scorecard", "--pool", "bi", "--last", "3d").out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--policies", "best"], "there is no policy"),
        (["--slo", "high"], "not numbers"),
        (["--slo", "1.5"], "between 0 and 1"),
        (["--land-by", "etl"], "not DAG=SPAN"),
        (["--at", "2024-01-01T00:00"], "no run submitted"),
    ],
)
def test_what_cannot_be_asked_is_said(stored: Callable, words: list[str], says: str):
    told = stored(*WORDS, *words)
    assert told.code == 2
    assert says in told.err
