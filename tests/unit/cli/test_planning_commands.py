"""prices, pool leads, and the configuration that plans are made by."""

from collections.abc import Callable
from pathlib import Path

import pytest

from preprov import configfile
from preprov.model.errors import ConfigError
from preprov.model.limits import Deadline, SharedLimit
from preprov.model.pools import Within
from tests.unit.cli.conftest import nights
from tests.unit.cli.test_commands import valid

CONFIG = """
[[pool]]
name = "bi"
mode = "full"
zone = "Europe/Zurich"
[pool.objective]
late_usd_per_minute = 0.5
[[pool.floor]]
nodes = 2
start = "08:00"
end = "18:00"
weekdays = ["mon"]
zone = "Asia/Tokyo"
[[pool.disruption]]
nodes = 1
[[pool.group]]
name = "od"
[[pool.group.offering]]
type = "m7i.xlarge"
zone = "us-east-1a"
cpu = 4
memory = 16
[[pool.group]]
name = "spot"
[[pool.group.offering]]
type = "m7i.xlarge"
zone = "us-east-1a"
capacity_type = "spot"
cpu = 4
memory = 16
[[pool]]
name = "ml"
[[pool.group]]
name = "gpu"
[[pool.group.offering]]
type = "none.such"
cpu = 4
memory = 16
[[route]]
pool = "bi"
dag = "etl*"
land_by = "07:00"
late_usd_per_minute = 3
[[limit]]
name = "account"
pools = ["ml"]
groups = ["bi/spot"]
max_cpu = 64
[[limit]]
name = "purse"
pools = ["bi", "ml"]
max_usd_per_day = 50
[prices]
shipped = true
[[prices.commitment]]
discount = 0.25
type = "m7i.*"
"""


@pytest.fixture
def configured(preprov: Callable, tmp_path: Path) -> Callable:
    (tmp_path / "preprov.toml").write_text(CONFIG)
    return preprov


def test_floors_budgets_deadlines_and_limits_are_read(configured: Callable, tmp_path: Path):
    config = configfile.load(tmp_path / "preprov.toml")
    pools = config.pools()
    bi = pools["bi"]
    assert bi.floors == (Within(2, bi.floors[0].window, "Asia/Tokyo"),)
    assert (bi.floors[0].window.start_s, bi.floors[0].window.weekdays) == (8 * 3600, frozenset({0}))
    assert [w.nodes for w in bi.disruptions] == [1]
    assert bi.deadlines == (Deadline("etl*", "*", "07:00", 3.0),)
    assert bi.objective.late_usd_per_minute == 0.5
    account, purse = config.limits(pools)
    assert account == SharedLimit("account", frozenset({("ml", "gpu"), ("bi", "spot")}), None, 64, frozenset({"ml"}))
    assert account.members == purse.members == {"bi", "ml"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('"ml"]\ngroups', '"nl"]\ngroups'), "no pool 'nl'"),
        (("bi/spot", "bi/spat"), "no group spat"),
        (('pools = ["bi", "ml"]', 'groups = ["bi/od"]'), "a budget is of whole pools"),
        (("max_cpu = 64", ""), "limits nothing"),
        (('land_by = "07:00"', 'land_by = "24:00"'), "next day's 00:00"),
        (("discount = 0.25", "discount = 1.0"), "less than 1"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(tmp_path: Path, change: tuple[str, str], words: str):
    file = tmp_path / "preprov.toml"
    assert change[0] in CONFIG
    file.write_text(CONFIG.replace(*change))

    def read():
        config = configfile.load(file)
        return config.limits(config.pools())

    with pytest.raises(ConfigError, match=words):
        read()


def test_prices_say_where_they_come_from(configured: Callable):
    rows = valid(configured("prices", "list", "-o", "json").json)["offerings"]
    od, spot, none = rows
    assert od["usd_per_hour"] == pytest.approx(0.2016 * 0.75)
    assert (od["source"], od["discount"]) == ("table", 0.25)
    assert (spot["usd_per_hour"], spot["discount"]) == (0.094752, 0)
    assert spot["interruptions_per_hour"] > 0
    assert (none["usd_per_hour"], none["source"]) == (None, "")
    assert "planned by node-hours" in configured("prices", "list").out
    shown = valid(configured("prices", "show", "m7i.xlarge", "-o", "json").json)["prices"]
    assert {p["capacity_type"] for p in shown} == {"on_demand", "spot"}
    refreshed = valid(configured("prices", "refresh", "-o", "json").json)
    assert refreshed["new"] == 0
    assert {g["problem"] for g in refreshed["groups"]} == {"names no prices"}


def test_a_catalogue_works_as_a_table(configured: Callable, tmp_path: Path):
    (tmp_path / "c.csv").write_text("instance_type,region,on_demand_usd_h\nnone.such,,9.5\nother,,1\n")
    toml = tmp_path / "preprov.toml"
    toml.write_text(CONFIG.replace("shipped = true", 'table = "c.csv"'))
    rows = valid(configured("prices", "list", "--pool", "ml", "-o", "json").json)["offerings"]
    assert [r["usd_per_hour"] for r in rows] == [9.5]


def test_lead_times_as_configured_until_they_are_seen(configured: Callable):
    rows = valid(configured("pool", "leads", "bi", "-o", "json").json)["leads"]
    assert [(r["group"], r["from"], r["observations"]) for r in rows] == [("od", "cold", 0), ("spot", "cold", 0)]
    assert rows[0]["quantiles_s"] == rows[0]["configured_s"]
    assert rows[0]["quantiles_s"]["p50"] == 180
    assert "configured" in configured("pool", "leads", "bi").out


def test_a_plan_says_how_it_was_found(configured: Callable):
    basis = valid(configured("plan", "make", "--pool", "bi", "-o", "json").json)["basis"]
    assert basis["solver"] == "dynamic programme"
    assert (basis["solved"], basis["because"]) == (True, "none held")
    assert basis["gap"] == 0
    assert "found by dynamic programme" in configured("plan", "show", "--pool", "bi").out


def test_the_order_of_the_runs_ahead(configured: Callable, tmp_path: Path):
    (tmp_path / "t.csv").write_text(nights(20))
    assert configured("ingest", "dags", "t.csv", "--pool", "bi", "--tz", "UTC").code == 0
    words = ("queue", "order", "--pool", "bi", "--at", "2025-03-20T02:02Z")
    document = valid(configured(*words, "-o", "json").json)
    now, later = document["runs"]
    assert (now["run_id"], now["expected"], later["run_id"]) == ("etl/20", False, "etl@2025-03-21T02:00Z")
    assert now["land_by"].startswith("2025-03-20T06:00"), "07:00 in Zurich, as the route says"
    assert (now["late_usd_per_minute"], now["lands"]) == (3, 1)
    assert now["start"]["p50"] <= now["end"]["p5"] <= now["end"]["p95"] <= now["land_by"]
    assert document["proposed"]["missed"] == 0
    none = valid(configured(*words, "--nodes", "0", "-o", "json").json)
    assert none["binds"]
    assert {r["lands"] for r in none["runs"]} == {0}
    assert "etl/20" in configured(*words).out


def test_who_has_what_of_a_shared_limit(configured: Callable):
    account, purse = valid(configured("limit", "list", "-o", "json").json)["limits"]
    assert (account["name"], account["max_cpu"], purse["max_usd_per_day"]) == ("account", 64, 50)
    assert [(u["pool"], u["nodes"]) for u in account["use"]] == [("bi", 0), ("ml", 0)]
    assert "may have in all" in configured("limit", "list").out


def test_what_should_lie_on_nodes(configured: Callable, tmp_path: Path):
    (tmp_path / "d.toml").write_text(
        '[[dag]]\nid = "d"\nschedule = "0 * * * *"\n[[dag.task]]\nid = "t"\ncommand = ["true"]\ninstances = 9\n'
        'datasets = [{ uri = "s3://b/x", version = "1", size = 5 }]\n'
        'images = [{ uri = "oci/y", digest = "sha256:1" }, { uri = "docker://acme/z:2" }]\n'
    )
    assert configured("submit", "d.toml", "--pool", "bi").code == 0
    document = valid(configured("preload", "plan", "--pool", "bi", "--no-bakes", "-o", "json").json)
    assert {(a["kind"], a["placing"]) for a in document["assets"]} == {("dataset", "stage"), ("image", "stage")}
    assert document["site"]["bakes"] is False
    toml = configured("preload", "plan", "--pool", "bi", "--no-bakes", "--toml").out
    (tmp_path / "preprov.toml").write_text(CONFIG.replace("[pool.objective]", toml + "[pool.objective]"))
    again = configfile.load(tmp_path / "preprov.toml").pools()["bi"]
    assert [d.uri for d in again.preload.datasets] == ["s3://b/x"]
    assert "# docker://acme/z:2: say its digest" in toml
    assert [i.uri for i in again.preload.images] == ["oci/y"], "a node cannot fetch one without a digest ahead"
    (lacking,) = valid(configured("queue", "analyze", "--pool", "bi", "-o", "json").json)["not_preloaded"]
    assert lacking == {"uri": "docker://acme/z:2", "digest": "", "dags": ["d"]}
    assert "docker://acme/z:2 is not in [pool.preload]: d" in configured("queue", "analyze", "--pool", "bi").out
    assert "stage" in configured("preload", "plan", "--pool", "bi", "--no-bakes").out
