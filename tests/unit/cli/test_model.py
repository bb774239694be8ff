"""model …: champion and challengers, rollback, days in quarantine, each document as its schema says."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.unit.cli.test_commands import valid


@pytest.fixture
def stored(preprov, tmp_path):
    """Six days of an hourly series until now: little enough that a fit takes no time."""
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    hours = [now - timedelta(hours=h) for h in range(24 * 6, 0, -1)]
    rows = [f"bi,{t:%Y-%m-%d %H:%M:%S},{10 + 5 * (8 <= t.hour < 18) + i % 3}" for i, t in enumerate(hours)]
    (tmp_path / "s.csv").write_text("series,ts,demand\n" + "\n".join(rows) + "\n")
    result = preprov("ingest", "series", "s.csv", "--pool", "bi", "--tz", "UTC")
    assert result.code == 0, result.err
    return preprov


def test_retrain_promote_and_roll_back(stored):
    none = valid(stored("model", "show", "--pool", "bi", "-o", "json").json)
    assert (none["champion"], none["fallback"]) == (None, "no model: past days as they were")
    first = valid(stored("model", "retrain", "--pool", "bi", "-o", "json").json)
    assert first["backtest"]["reason"] == "the first model"
    second = valid(stored("model", "retrain", "--pool", "bi", "-o", "json").json)
    assert second["challenger"] != first["challenger"]
    if not second["backtest"]["promoted"]:
        words = ["model", "promote", second["challenger"], "--pool", "bi", "--reason", "to see"]
        assert stored(*words).code == 2, "off a terminal it wants --yes"
        made = valid(stored(*words, "--yes", "-o", "json").json)["champion"]
        assert (made["version"], made["champion"], made["reason"]) == (second["challenger"], True, "to see")
    back = valid(stored("model", "rollback", "--pool", "bi", "--reason", "worse", "--yes", "-o", "json").json)
    assert back["champion"]["version"] == first["challenger"]
    shown = valid(stored("model", "show", "--pool", "bi", "-o", "json").json)
    assert shown["champion"]["version"] == first["challenger"]
    assert [p["rollback"] for p in shown["promotions"]] == [True, False, False]
    assert [b["challenger"] for b in shown["backtests"]] == [second["challenger"], first["challenger"]]
    assert "days of history" in shown["fallback"]
    listed = valid(stored("model", "list", "-o", "json").json)["models"]
    assert [m["champion"] for m in listed] == [False, True]
    told = stored("model", "show", "--pool", "bi").out
    assert "champion" in told
    assert "rollback" in told
    assert stored("model", "rollback", "--pool", "bi", "--reason", "again", "--yes").code == 2
    assert stored("model", "promote", "nothing", "--pool", "bi", "--reason", "?", "--yes").code == 2


def test_a_forecast_carries_its_fallback_and_how_those_before_it_did(stored):
    forecast = valid(stored("forecast", "run", "--pool", "bi", "-o", "json").json)
    assert "days of history" in forecast["basis"]["fallback"]
    assert forecast["basis"]["learnt_model"] == forecast["model"]
    assert forecast["basis"]["issued_before"]["forecasts"] == 0
    watch = valid(stored("model", "show", "--pool", "bi", "-o", "json").json)["watch"]
    assert (watch["coverage80"], watch["drift"], watch["collapsed"]) == (None, [], "")


def test_a_day_goes_into_quarantine_and_out_again(stored):
    day = f"{datetime.now(UTC) - timedelta(days=3):%Y-%m-%d}"
    words = ["--pool", "bi", "-o", "json"]
    (added,) = valid(stored("model", "quarantine", "add", day, "--reason", "a migration", *words).json)["days"]
    assert (added["day"], added["in_force"], added["actor"]) == (day, True, "cli")
    assert valid(stored("model", "quarantine", "list", *words).json)["days"] == [added]
    assert "a migration" in stored("model", "quarantine", "list", "--pool", "bi").out
    (lifted,) = valid(stored("model", "quarantine", "lift", day, "--reason", "it was real", *words).json)["days"]
    assert (lifted["in_force"], lifted["lift_reason"]) == (False, "it was real")
    assert stored("model", "quarantine", "list", *words).json["days"] == []
    assert stored("model", "quarantine", "list", "--all", *words).json["days"] == [lifted]
    assert stored("model", "quarantine", "add", "yesterday", "--reason", "?", *words).code == 2
    assert stored("model", "quarantine", "lift", day, "--reason", "?", *words).code == 2
