"""A tenant never sees or touches what is another's: every endpoint there is has a case here."""

from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from preprov.contracts import PoolSnapshot
from preprov.control.submitting import submit
from preprov.model.access import Scope
from preprov.model.demand import DemandCurve
from preprov.model.plans import Action, ActionKind, ActionRecord, CapacityPlan
from preprov.model.pools import Mode
from preprov.model.resources import Resources
from preprov.model.work import DagSpec, TaskSpec
from preprov.web.application import routed
from tests.unit.web.conftest import T0, WINDOW, Client, Site

SECRET = "bluesecret"


@pytest.fixture
def run_id(site: Site) -> str:
    """A world in which blue has a run, a reservation and events, and a plan speaks of its work."""
    ctx = site.app.ctx
    dag = DagSpec(f"{SECRET}-dag", (TaskSpec(f"{SECRET}-task"),), tenant="blue", pool="batch")
    (run,) = submit(ctx, (dag,))
    node = {"g": {"ready": 2, "warming": 1}}
    room = Resources(cpu=8, memory=32)
    for at in (T0 - timedelta(minutes=1), T0):
        ctx.ports.history.record(PoolSnapshot("batch", at, node, room, Resources(cpu=2), 0.4, 3, Resources(cpu=1)))
    action = Action("a1", ActionKind.LAUNCH, T0, "g", 1, f"because {SECRET} is due", "m")
    ctx.ports.audit.record(ActionRecord(action, "batch", "p1", "controller", T0, "done", f"for {SECRET}", ("n1",)))
    resize = Action("a2", ActionKind.RESIZE, T0, "g", 1, "it wants more", task=f"{run.run_id}/{SECRET}-task#0")
    ctx.ports.audit.record(ActionRecord(resize, "batch", "p1", "controller", T0, "done"))
    ctx.ports.plans.save(CapacityPlan("p1", "batch", Mode.FULL, T0, T0 + timedelta(minutes=5), (action,)))
    ctx.ports.forecasts.save(DemandCurve("batch", T0, T0, 300, np.ones((20, 12, 5), dtype=np.float32)))
    return run.run_id


def calls(run_id: str, reservation: str, window: str) -> list[tuple[str, str, Any]]:
    """One call of every endpoint, aimed at what is blue's."""
    body = {"pool": "batch", "claimant": SECRET, "request": {"cpu": 1}, "tenant": "blue"}
    hours = {**WINDOW, "name": SECRET, "tenant": "blue"}
    event = {"event_id": "1", "kind": "started", "at": T0.isoformat(), "dag_id": "d", "run_id": "r"}
    return [
        ("POST", "/v1/reservations", body),
        ("GET", "/v1/reservations", None),
        ("GET", f"/v1/reservations/{reservation}", None),
        ("GET", f"/v1/reservations/{reservation}/wait?seconds=0", None),
        ("GET", f"/v1/reservations/{reservation}/events", None),
        ("DELETE", f"/v1/reservations/{reservation}", None),
        ("POST", "/v1/windows", hours),
        ("GET", "/v1/windows", None),
        ("GET", f"/v1/windows/{window}", None),
        ("DELETE", f"/v1/windows/{window}", None),
        ("POST", "/v1/nodes/NODE/state", {"pool": "batch", "phase": "ready"}),
        ("GET", "/v1/nodes/NODE/events", None),
        ("POST", "/v1/events", {"source": "x", "tenant": "blue", "events": [event]}),
        ("GET", "/v1/capacity", None),
        ("GET", "/v1/capacity/batch", None),
        ("GET", "/v1/capacity/batch/history", None),
        ("GET", "/v1/outcomes", None),
        ("GET", "/v1/decisions/batch", None),
        ("GET", "/v1/plans/batch", None),
        ("GET", "/v1/forecasts/batch", None),
        ("GET", f"/v1/why/run/{run_id}", None),
        ("GET", "/v1/why/node/n1", None),
        ("GET", "/v1/why/action/a1", None),
        ("GET", "/v1/health", None),
        ("GET", "/v1/ready", None),
        ("GET", "/metrics", None),
    ]


def test_no_endpoint_tells_or_changes_what_is_anothers(site: Site, run_id: str, blue: Client) -> None:
    red = site.client("red", *(s for s in Scope if s not in (Scope.ADMIN, Scope.NODE)))
    made = blue.reserve(claimant=SECRET, request={"cpu": 1}).json()
    hours = blue.window(name=SECRET).json()
    ids = (run_id, made["reservation_id"], hours["window_id"])
    for method, path, body in calls(*ids):
        answer = red(method, path, body, headers={"Idempotency-Key": "mine"})
        # what was asked for by its name may be named again, and nothing else is
        asked = [i for i in ids if answer.status_code == 404 and i in path]
        known = answer.text.replace(asked[0], "") if asked else answer.text
        assert not [i for i in (SECRET, *ids) if i in known], f"{method} {path}"
    assert blue("GET", f"/v1/reservations/{made['reservation_id']}").json() == made
    assert blue("GET", "/v1/windows").json()["windows"] == [hours]
    assert site.app.ctx.ports.events.events() == ()


def test_every_endpoint_has_a_case() -> None:
    there = {(m.upper(), p) for p, ops in routed().openapi()["paths"].items() for m in ops}
    aimed = {(m, p.split("?")[0].replace("/RES", "/{reservation_id}")) for m, p, _ in calls("RUN", "RES", "WIN")}
    aimed = {(m, p.replace("/WIN", "/{window_id}")) for m, p in aimed}
    aimed = {(m, p.replace("/NODE", "/{node_id}")) for m, p in aimed}
    aimed = {(m, p.replace("/batch", "/{pool}").replace("run/RUN", "{kind}/{name}")) for m, p in aimed}
    assert there - aimed == set()


def test_a_tenant_sees_its_own(site: Site, run_id: str, blue: Client) -> None:
    blue.reserve(claimant="b")
    story = blue("GET", f"/v1/why/run/{run_id}").json()
    assert f"run of {SECRET}-dag submitted" in story["events"][0]["what"]
    assert len(blue("GET", "/v1/reservations").json()["reservations"]) == 1


def test_what_is_there_adds_up(site: Site, run_id: str, blue: Client) -> None:
    made = blue.reserve(claimant="b", request={"cpu": 3, "memory": 4}).json()
    site.app.ctx.ports.ledger.commit(made["reservation_id"], "n1", Resources(cpu=4, memory=16), T0)
    here = blue("GET", "/v1/capacity/batch").json()
    assert (here["nodes"], here["target"]) == ({"ready": 2, "warming": 1}, 3)
    assert (here["held"]["cpu"], here["held_by_you"]["cpu"], here["free"]["cpu"]) == (3, 3, 5)
    assert [p["pool"] for p in blue("GET", "/v1/capacity").json()["pools"]] == ["batch", "other"]
    assert blue("GET", "/v1/plans/batch").json()["actions"][0]["reason"] is None
    assert blue("GET", "/v1/forecasts/batch").json()["points"][0]["demand"] == [1.0] * 8
    for path in ("/v1/plans/other", "/v1/forecasts/other", "/v1/plans/nowhere", "/v1/capacity/nowhere"):
        assert blue("GET", path).status_code == 404


def test_a_halt_is_told_and_its_words_are_for_administrators(site: Site, blue: Client) -> None:
    admin = site.client("ops", Scope.ADMIN)
    ctx = site.app.ctx
    ctx.ports.intent.set_mode("batch", Mode.FULL, None, actor="ops", at=T0)
    assert blue("GET", "/v1/capacity/batch").json()["blocked"] is None
    ctx.ports.intent.set_halt("the bill of red", actor="ops", at=T0)
    assert blue("GET", "/v1/capacity/batch").json()["blocked"] == "halted"
    assert admin("GET", "/v1/capacity/batch").json()["blocked"] == "halted: the bill of red"
    ctx.ports.intent.set_halt("", actor="ops", at=T0)
    ctx.ports.intent.set_mode("batch", Mode.OBSERVE, None, actor="ops", at=T0)
    assert blue("GET", "/v1/capacity/batch").json()["blocked"] == "mode is observe"


def test_an_administrator_is_told_the_reasons(site: Site, run_id: str, blue: Client) -> None:
    admin = site.client("ops", Scope.ADMIN)
    assert SECRET in admin("GET", "/v1/plans/batch").json()["actions"][0]["reason"]
    assert admin("GET", f"/v1/why/run/{run_id}").status_code == 200
    assert admin("GET", "/v1/why/node/nothing").status_code == 404
    assert blue("GET", "/v1/why/node/n1").status_code == 403


def samples(text: str) -> dict[tuple[Any, ...], float]:
    """(name, label and value, ...) -> value."""
    families = text_string_to_metric_families(text)
    return {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}


def test_metrics_are_for_who_may_scrape(site: Site, run_id: str, red: Client, blue: Client) -> None:
    made = blue.reserve(claimant=SECRET, request={"cpu": 3, "memory": 4}).json()
    site.app.ctx.ports.ledger.commit(made["reservation_id"], "n1", Resources(cpu=4, memory=16), T0)
    site.clock.at += timedelta(seconds=5)
    assert red("GET", "/metrics").status_code == 403
    answer = site.client("blue", Scope.METRICS)("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    found = samples(answer.text)
    pool = ("pool", "batch")
    assert found["preprov_nodes", ("phase", "ready"), pool] == 2
    assert found["preprov_target_nodes", pool] == 3
    assert found["preprov_snapshot_age_seconds", pool] == 5
    assert found["preprov_held_cores", pool, ("tenant", "blue")] == 3
    assert found["preprov_reservations", pool, ("purpose", "booking"), ("state", "committed")] == 1
    assert all(name.startswith("preprov_") for name, *_ in found)
    assert SECRET not in answer.text
    assert made["reservation_id"] not in answer.text


def test_metrics_name_the_tenant_that_asks_and_sum_up_the_others(site: Site, run_id: str) -> None:
    room = Resources(cpu=16, memory=64)
    for tenant, cpu in (("red", 1), ("blue", 3), ("green", 4)):
        made = site.client(tenant).reserve(claimant=tenant, request={"cpu": cpu}).json()
        site.app.ctx.ports.ledger.commit(made["reservation_id"], "n1", room, T0)

    def held(tenant: str, *scopes: Scope) -> dict[str, float]:
        found = samples(site.client(tenant, *scopes)("GET", "/metrics").text)
        return {dict(labels)["tenant"]: v for (name, *labels), v in found.items() if name == "preprov_held_cores"}

    assert held("red", Scope.METRICS) == {"red": 1, "": 7}
    assert held("prometheus", Scope.METRICS) == {"": 8}
    assert held("ops", Scope.ADMIN) == {"red": 1, "blue": 3, "green": 4}
