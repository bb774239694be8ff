"""The commands on a small store: each document is what its schema says, and the numbers hang together."""

import json
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import jsonschema
import pytest

from preprov.app import open_app
from preprov.model.plans import ActionRecord, CapacityPlan
from preprov.model.pools import Mode
from preprov.model.resources import Resources
from preprov.planning.reaction import react
from tests.unit.cli.conftest import nights
from tests.unit.planning.test_reaction import nodes, situation

SCHEMAS = Path(__file__).resolve().parents[3] / "docs" / "reference" / "schemas"


def valid(document):
    """The document, checked against the published schema of its command."""
    schema = json.loads((SCHEMAS / f"{document['command'].replace(' ', '-')}.json").read_text())
    jsonschema.validate(document, schema, format_checker=jsonschema.FormatChecker())
    assert document["schema"] == f"preprov/{document['command'].replace(' ', '-')}/1"
    assert datetime.fromisoformat(document["issued_at"]).tzinfo is not None
    return document


@pytest.fixture
def stored(preprov, tmp_path):
    (tmp_path / "t.csv").write_text(nights(20))
    result = preprov("ingest", "dags", "t.csv", "--pool", "bi", "--tz", "UTC", "-o", "json")
    assert result.code == 0, result.err
    valid(result.json)
    return preprov


def test_the_same_file_twice_changes_nothing(stored):
    again = valid(stored("ingest", "dags", "t.csv", "--pool", "bi", "--tz", "UTC", "-o", "json").json)
    assert again["already"] is True
    assert "nothing changed" in stored("ingest", "dags", "t.csv", "--pool", "bi", "--tz", "UTC").out


def test_a_pool_without_configuration_observes_with_the_reference_node(stored):
    (pool,) = valid(stored("pool", "list", "-o", "json").json)["pools"]
    assert (pool["pool"], pool["mode"], pool["zone"]) == ("bi", "observe", "UTC")


def test_the_queue_in_the_middle_of_a_run(stored):
    q = valid(stored("queue", "analyze", "--pool", "bi", "--at", "2025-03-20T02:02", "-o", "json").json)
    assert (q["running"]["task_instances"], q["running"]["cores"]) == (1, 2)
    (run,) = q["runs"]
    assert (run["run_id"], run["tasks"], run["depth"]) == ("etl/20", 2, 2)
    assert q["step_seconds"] == 300
    peak = max(p["demand"][q["quantiles"].index(0.5)] for p in q["points"])
    assert peak == pytest.approx(4, abs=0.5), "load comes after extract and wants four cores"


def test_what_is_submitted_later_does_not_show(stored, preprov, tmp_path):
    at = ["--at", "2025-03-10T02:02"]
    before = stored("queue", "analyze", "--pool", "bi", *at, "-o", "json").json
    (tmp_path / "short.csv").write_text("\n".join(nights(20).splitlines()[: 1 + 2 * 10]) + "\n")
    preprov("ingest", "dags", "short.csv", "--pool", "short", "--tz", "UTC")
    alone = preprov("queue", "analyze", "--pool", "short", *at, "-o", "json").json
    for name in ("running", "queued", "runs", "due", "points"):
        assert before[name] == alone[name]


def test_each_hour_of_a_forecast_can_be_taken_apart(stored, tmp_path):
    assert "forecast run" in stored("forecast", "explain", "--pool", "bi").err  # none yet: what to do
    stored("forecast", "run", "--pool", "bi", "--at", "2025-03-20T12:00")
    words = ("forecast", "explain", "--pool", "bi", "--at", "2025-03-20T13:00", "--picture", "parts.svg")
    told = valid(stored(*words, "-o", "json").json)
    assert len(told["steps"]) == 24
    for step in told["steps"]:
        assert sum(step["parts"].values()) == pytest.approx(step["mean"], rel=1e-3, abs=1e-3)
    wave = max(told["steps"], key=lambda s: s["mean"])
    assert wave["ts"].startswith("2025-03-21T02:00")
    assert wave["parts"]["scheduled"] > 0.5 * wave["mean"]
    assert b"due by schedule" in (tmp_path / "parts.svg").read_bytes()
    (only,) = stored(*words, "--hour", "2025-03-21T02:30", "-o", "json").json["steps"]
    assert only == wave
    assert "02:00" in stored(*words).out
    assert "goes from" in stored(*words, "--hour", "2025-04-21T02:30").err
    assert "parts.gif" in stored(*words[:-1], "parts.gif").err


def test_forecast_then_plan(stored):
    f = valid(stored("forecast", "run", "--pool", "bi", "--at", "2025-03-20T12:00", "-o", "json").json)
    assert len(f["points"]) == 24
    assert f["quantiles"] == sorted(f["quantiles"])
    assert all(a <= b for p in f["points"] for a, b in pairwise(p["demand"]))
    night = next(p for p in f["points"] if p["ts"].startswith("2025-03-21T02:00"))
    noon = next(p for p in f["points"] if p["ts"].startswith("2025-03-21T08:00"))
    middle = f["quantiles"].index(0.5)
    assert night["demand"][middle] == pytest.approx(4, abs=0.5)
    assert noon["demand"][middle] == 0
    assert (
        valid(stored("forecast", "show", "--pool", "bi", "--at", "2025-03-20T13:00", "-o", "json").json)["points"]
        == f["points"]
    )
    p = valid(stored("plan", "make", "--pool", "bi", "--at", "2025-03-20T20:00", "-o", "json").json)
    launches = [a for a in p["actions"] if a["kind"] == "launch"]
    assert launches
    assert all("02:0" in a["reason"] for a in launches), "the night's run is what they are for"
    assert p["mode"] == "observe"
    assert valid(stored("plan", "show", p["plan_id"][:8], "-o", "json").json)["actions"] == p["actions"]
    assert stored("plan", "make", "--pool", "bi", "--at", "2025-03-20T20:00").code == 0
    assert valid(stored("model", "list", "-o", "json").json)["models"][0]["champion"] is True


def test_other_resources_are_asked_for_by_name(stored):
    f = stored("forecast", "run", "--pool", "bi", "--at", "2025-03-20T12:00", "--resource", "memory", "-o", "json").json
    assert (f["resource"], f["unit"]) == ("memory", "GiB")
    assert max(p["demand"][-1] for p in f["points"]) == pytest.approx(8, abs=1)
    assert stored("forecast", "run", "--pool", "bi", "--resource", "cores").code == 2


def test_a_pool_of_local_nodes_from_init_to_doctor(preprov):
    assert preprov("init").code == 0
    assert preprov("init").code == 2, "a file that is there is not replaced"
    assert valid(preprov("config", "show", "-o", "json").json)["configuration"]["pool"][0]["name"] == "laptop"
    shown = valid(preprov("pool", "show", "laptop", "-o", "json").json)
    assert shown["nodes"] == []
    assert {(g["provider"], g["leases"], g["preloads"]) for g in shown["groups"]} == {("local", False, True)}
    assert "stopped" in shown["groups"][0]["standby_states"]
    (line,) = [ln for ln in preprov("pool", "show", "laptop").out.splitlines() if " local " in ln]
    assert line.index("preloads") < line.index("leases"), "what it can comes before what it cannot"
    assert preprov("pool", "reconcile", "laptop", "--check").code == 0
    assert valid(preprov("pool", "reconcile", "laptop", "-o", "json").json)["actions"] == []
    doctor = valid(preprov("doctor", "-o", "json").json)
    assert {"python", "packages", "configuration", "store"} <= {c["what"] for c in doctor["checks"]}
    assert valid(preprov("db", "current", "-o", "json").json)["revision"]


def test_halt_and_go_on(preprov):
    preprov("init")
    assert valid(preprov("halt", "--reason", "a look", "-o", "json").json)["reason"] == "a look"
    assert preprov("pool", "show", "laptop", "-o", "json").json["halted"] == "a look"
    assert valid(preprov("halt", "--resume", "-o", "json").json)["halted"] is False


def test_reservations_from_soft_to_released(preprov):
    preprov("init")
    words = ["--pool", "laptop", "--claimant", "me", "--cpu", 2, "--start", "+10m", "--for", "30m"]
    made = valid(preprov("reservation", "create", *words, "-o", "json").json)["reservation"]
    assert made["state"] == "soft"
    again = preprov("reservation", "create", *words, "-o", "json").json["reservation"]
    assert again["reservation_id"] == made["reservation_id"], "one live claim per claimant"
    assert len(valid(preprov("reservation", "list", "-o", "json").json)["reservations"]) == 1
    gone = valid(preprov("reservation", "release", made["reservation_id"], "-o", "json").json)["reservation"]
    assert gone["state"] == "released"
    assert preprov("reservation", "commit", made["reservation_id"], "nowhere").code == 1
    assert preprov("reservation", "create", *words[:-6], "--cpu", 2000, "--for", "30m").code == 1, "it fits nowhere"


def test_units_by_type(preprov):
    preprov("init")
    assert valid(preprov("reservation", "units", "--pool", "laptop", "-o", "json").json)["units"] == []
    told = preprov("reservation", "units", "--pool", "laptop", "--kind", "tape")
    assert told.code == 2
    assert "types: gpu, process, vm, volume" in told.err
    assert preprov("reservation", "resize", "nothing", "--memory", 1).code == 1


def test_a_check_says_by_its_code_that_something_would_change(preprov):
    preprov("init")
    preprov("reservation", "create", "--pool", "laptop", "--claimant", "me", "--cpu", 2, "--for", "30m")
    assert preprov("pool", "reconcile", "laptop", "--check").code == 3
    assert preprov("plan", "make", "--pool", "laptop", "--check").code == 3


def test_why_of_nothing_known_is_an_error(preprov):
    preprov("init")
    for words in (("node", "nobody"), ("run", "nothing"), ("action", "none")):
        assert preprov("why", *words).code == 2


def test_what_was_done_between_plans_is_told_with_what_it_was_chosen_over(preprov):
    preprov("init")
    found = react(situation(nodes(hibernated=2), waiting=Resources(cpu=32.0)))
    told = found.explain(found.actions)
    (start,) = told.actions
    plan = CapacityPlan(
        "plan", "laptop", Mode.FULL, start.at, start.at, told.actions, cost_usd=told.usd, alternatives=told.alternatives
    )
    with open_app() as app:
        app.ctx.ports.plans.save(plan)
        app.ctx.ports.audit.record(ActionRecord(start, "laptop", "plan", "me", start.at, "done", "", start.node_ids))
    for words in (("action", start.action_id), ("node", start.node_ids[0])):
        story = valid(preprov("why", *words, "-o", "json").json)
        assert story["plans"][0]["actions"][0]["cost_usd"] == start.cost_usd > 0
        assert [a["cost_usd"] for a in story["plans"][0]["alternatives"]] == [a.cost_usd for a in told.alternatives]
        text = preprov("why", *words).out
        assert f"{start.cost_usd:+.4f} USD within" in text
        for a in told.alternatives:
            assert f"instead of {a.name}: {a.cost_usd:.4f} USD, {a.wait_core_hours:.2f} core-h waiting" in text


def test_a_backtest_of_demand_with_its_peers(preprov, tmp_path):
    (tmp_path / "n.csv").write_text(nights(20))
    words = ["backtest", "demand", "n.csv", "--origins", 2, "--days", 3, "--peer", "last", "--workers", 1]
    shown = preprov(*words, "--resume", "done", "--picture", "p.png")
    assert shown.code == 0, shown.err
    assert "preprov" in shown.out
    assert (tmp_path / "p.png").stat().st_size > 1000
    report = valid(preprov(*words, "--resume", "done", "-o", "json").json)
    assert list(report["horizons"]) == ["900", "3600", "21600", "86400"]
    assert report["horizons"]["86400"]["wql"] < report["horizons"]["86400"]["peers"]["last"]["wql"]
    hidden = valid(preprov(*words, "--schedules", "hidden", "-o", "json").json)
    assert (hidden["schedules"], report["schedules"]) == ("hidden", "declared")
    assert preprov(*words, "--picture", "p.txt").code == 2
    assert preprov("backtest", "demand", "nowhere.csv").code == 1


def test_submit_show_cancel(preprov, tmp_path):
    preprov("init")
    (tmp_path / "d.toml").write_text('[dag]\nid = "d"\ndue = "+1h"\n[[task]]\nid = "a"\ncommand = "true"\n')
    (run,) = valid(preprov("submit", "d.toml", "-o", "json").json)["runs"]
    assert run["pool"] == "laptop"
    assert [r["run_id"] for r in valid(preprov("run", "list", "-o", "json").json)["runs"]] == [run["run_id"]]
    shown = valid(preprov("run", "show", "d", "-o", "json").json)
    assert [t["state"] for t in shown["tasks"]] == ["pending"]
    assert valid(preprov("why", "run", "d", "-o", "json").json)["events"]
    assert preprov("run", "cancel", run["run_id"]).code == 2, "off a terminal it wants --yes"
    assert preprov("run", "cancel", run["run_id"], "--yes").code == 0
    assert preprov("run", "show", run["run_id"], "-o", "json").json["run"]["state"] == "cancelled"


def test_a_task_that_fits_nowhere_is_refused_with_the_biggest_node(preprov, tmp_path):
    preprov("init")
    (tmp_path / "d.toml").write_text('[dag]\nid = "d"\n[[task]]\nid = "a"\nrequests = { cpu = 99 }\n')
    result = preprov("submit", "d.toml")
    assert result.code == 2
    assert "small" in result.err
    assert preprov("run", "list", "-o", "json").json["runs"] == []


def test_a_backtest_of_a_series_with_its_peers(preprov, tmp_path):
    hours = [f"2025-01-{d:02d} {h:02d}:00:00" for d in range(1, 29) for h in range(24)]
    rows = [f"s,{t},{10 + (i % 24) + (i * 7919 % 13) / 4}" for i, t in enumerate(hours)]
    (tmp_path / "s.csv").write_text("series,ts,demand\n" + "\n".join(rows) + "\n")
    words = ["backtest", "forecast", "s.csv", "--days", 1, "--peer", "last", "--peer", "snaive24", "--workers", 1]
    report = valid(preprov(*words, "-o", "json").json)
    scores = report["series"]["s"]
    assert set(scores["peers"]) == {"last", "snaive24"}
    assert scores["wql"] < scores["peers"]["last"]["wql"], "a daily pattern is worth more than the last value"
    assert preprov("backtest", "forecast", "nowhere.parquet").code == 1


def test_waits_are_told_drawn_and_written(preprov, tmp_path):
    """Of a log of which nobody told what its tasks waited on, and of a DAG of two tasks that follow each other."""
    (tmp_path / "nights.csv").write_text(nights())
    preprov("ingest", "dags", "nights.csv", "--pool", "bi", "--tz", "UTC")
    words = ("waits", "--last", "7d", "--at", "2025-03-06T00:00Z")
    document = preprov(*words, "-o", "json").json
    valid(document)
    assert document["pools"] == ["bi"]
    assert len(document["tonight"]) == 24
    told = preprov(*words, "--picture", "w.svg", "--report", "w.html")
    assert (told.code, "The next hours" in told.out) == (0, True)
    assert "nobody knows for what" in told.out
    assert "probably for their scheduler" in told.out
    assert (tmp_path / "w.svg").read_text().startswith("<?xml")
    page = (tmp_path / "w.html").read_text()
    assert "<svg" in page
    assert "Where the waiting comes from" in page
    assert preprov("waits", "--picture", "w.pdf").code == 2
    assert preprov("waits", "--last", "nonsense").code == 2


def test_reservations_are_listed_in_pages(preprov):
    preprov("init")
    for i in range(3):
        made = preprov(
            "reservation", "create", "--pool", "laptop", "--claimant", f"c{i}", "--cpu", 1, "--start", f"+{i + 1}h"
        )
        assert made.code == 0, made.err
    seen, after = [], ""
    while after is not None:
        told = preprov("reservation", "list", "--limit", 2, "--after", after, "--purpose", "booking", "-o", "json")
        assert told.code == 0, told.err
        page = valid(told.json)
        seen.append([r["claimant"] for r in page["reservations"]])
        after = page["next"]
    assert seen == [["c0", "c1"], ["c2"]]
    assert "there are more: --after" in preprov("reservation", "list", "--limit", 2).out
    assert preprov("reservation", "list", "--purpose", "fun").code != 0
    assert valid(preprov("reservation", "list", "--tenant", "nobody", "-o", "json").json)["reservations"] == []
