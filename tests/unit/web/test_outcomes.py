"""What came of it all, at /metrics; and that the dashboard and the alerts ask for nothing that is not there."""

import json
import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from dashboards.build import FILE, ROWS, build
from preprov.contracts import PoolSnapshot
from preprov.model.access import Scope
from preprov.model.resources import Resources
from preprov.model.work import DagSpec, State, TaskSpec
from tests.unit.web.conftest import T0, Site

ALERTS = yaml.safe_load(FILE.with_name("alerts.yaml").read_text())["groups"]
NAME = re.compile(r"\bpreprov_\w+")
Samples = dict[tuple[Any, ...], float]


def scraped(site: Site, *, pools: tuple[str, ...] = ()) -> Samples:
    answer = site.client("prometheus", Scope.METRICS, pools=pools)("GET", "/metrics")
    return {
        (s.name, *sorted(s.labels.items())): s.value
        for family in text_string_to_metric_families(answer.text)
        for s in family.samples
    }


def start(site: Site, name: str, waited: float | None, instances: int = 1) -> None:
    work, now = site.app.ctx.ports.work, site.clock.at
    run = work.submit(DagSpec(name, (TaskSpec("t", ("true",), instances=instances),)), "batch", now, name)
    assert run is not None
    (task,) = work.task_runs([name])
    work.save_tasks([replace(task, state=State.RUNNING, started_at=now, provision_wait_s=waited)])


def look(site: Site, ready: int, used: float) -> None:
    """A pass sees nodes of 4 cores at 0.2 USD each."""
    row = PoolSnapshot(
        "batch", site.clock.at, {"g": {"ready": ready}}, Resources(cpu=4 * ready, memory=16 * ready),
        Resources(cpu=used), 0.2 * ready, ready, Resources(cpu=1),
    )  # fmt: skip
    site.app.ctx.ports.history.record(row)


POOL = ("pool", "batch")


def test_waits_are_counted_once_from_when_the_server_began(site: Site) -> None:
    site.clock.sleep(-60)
    start(site, "before", 500.0)
    site.clock.sleep(70)
    start(site, "warm", 0.0, instances=3)
    start(site, "cold", 40.0)
    start(site, "unknown", None)
    site.clock.sleep(5)
    first = scraped(site)
    assert first["preprov_provision_wait_seconds_count", POOL] == 4
    assert first["preprov_provision_wait_seconds_sum", POOL] == 40
    assert first["preprov_provision_wait_seconds_bucket", ("le", "0.0"), POOL] == 3
    assert first["preprov_provision_wait_seconds_bucket", ("le", "30.0"), POOL] == 3
    assert first["preprov_provision_wait_seconds_bucket", ("le", "60.0"), POOL] == 4
    assert first["preprov_warm_hits_total", POOL] == 3
    assert scraped(site)["preprov_provision_wait_seconds_count", POOL] == 4
    site.clock.sleep(5)
    start(site, "late", 0.0)
    assert scraped(site)["preprov_warm_hits_total", POOL] == 3  # it starts at this very instant
    site.clock.sleep(1)
    assert scraped(site)["preprov_warm_hits_total", POOL] == 4


def test_money_is_counted_once_whenever_somebody_scrapes(site: Site) -> None:
    for minute in range(1, 61):
        site.clock.at = T0 + timedelta(minutes=minute)
        look(site, ready=2, used=6.0)
        if minute % 7 == 0:
            scraped(site)
    found = scraped(site)
    hours = 59 / 60
    assert found["preprov_cost_dollars_total", POOL] == pytest.approx(0.4 * hours)
    assert found["preprov_idle_cost_dollars_total", POOL] == pytest.approx(0.1 * hours)


def test_a_token_for_one_pool_reads_of_that_pool_only(site: Site) -> None:
    site.clock.sleep(1)
    start(site, "warm", 0.0)
    site.clock.sleep(1)
    assert ("preprov_warm_hits_total", POOL) in scraped(site)
    told = scraped(site, pools=("other",))
    assert told
    assert not [key for key in told if POOL in key]


def everything(site: Site) -> Samples:
    """A scrape in which every family has a sample."""
    site.clock.sleep(60)
    start(site, "warm", 0.0)
    for _ in range(3):
        look(site, ready=2, used=1.0)
        site.clock.sleep(30)
    made = site.client("blue").reserve(claimant="b", request={"cpu": 3, "memory": 4}).json()
    ledger = site.app.ctx.ports.ledger
    ledger.commit(made["reservation_id"], "n1", Resources(cpu=4, memory=16), site.clock.at)
    return scraped(site)


def test_every_metric_that_a_panel_or_an_alert_asks_for_is_there(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from preprov.control.watching import Watch
    from preprov.web import outcomes

    monkeypatch.setattr(outcomes, "standing", lambda *_: Watch(coverage={"80": 0.79, "90": None}))
    there = everything(site)
    assert there["preprov_forecast_coverage_ratio", ("interval", "0.80"), POOL] == 0.79
    names = {key[0] for key in there}
    asked = {n for panels in ROWS.values() for p in panels for q in p.queries.values() for n in NAME.findall(q)}
    assert len(asked) > 10
    assert asked - names == set()
    assert {n for g in ALERTS for r in g["rules"] for n in NAME.findall(r["expr"])} - names == set()
    assert {n for n in names if not n.endswith(("_sum", "_bucket"))} - asked == set()  # nor is one shown nowhere


def test_the_checked_in_dashboard_is_what_the_code_makes() -> None:
    assert FILE.read_text() == build(), "make dashboards"
    made = json.loads(build())
    drawn = [p for p in made["panels"] if p["type"] != "row"]
    assert len({p["id"] for p in made["panels"]}) == len(made["panels"])
    assert sum(len(panels) for panels in ROWS.values()) == len(drawn)
    for panel in drawn:
        place = panel["gridPos"]
        assert 0 <= place["x"] <= 24 - place["w"]
        assert panel["description"].endswith(".")


def test_the_alerts_say_what_to_do() -> None:
    rules = [r for g in ALERTS for r in g["rules"]]
    assert len(rules) >= 5
    for rule in rules:
        assert set(rule["annotations"]) == {"summary", "action"}
        assert rule["labels"]["severity"] in ("page", "ticket")
    tested = FILE.with_name("alerts_test.yaml").read_text()
    assert [r["alert"] for r in rules if f"alertname: {r['alert']}" not in tested] == []
