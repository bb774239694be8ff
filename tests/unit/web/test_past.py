"""A pool over time, what its tasks came to, what was decided and why."""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.contracts import PoolSnapshot
from preprov.model.access import Scope
from preprov.model.demand import DemandCurve
from preprov.model.offerings import Standby
from preprov.model.plans import Action, ActionKind, ActionRecord, Alternative, CapacityPlan, Target
from preprov.model.pools import Mode
from preprov.model.resources import Resources
from preprov.model.work import DagSpec, State, TaskSpec
from preprov.web.routes.past import thinned
from tests.unit.web.conftest import T0, Client, Site


def seen(at: datetime, waiting: float = 0.0, ready: int = 2) -> PoolSnapshot:
    """Nodes of 4 cores at 0.2 USD each, half of them in use."""
    nodes = {"g": {"ready": ready}, "h": {"ready": 1, "stopped": 2}}
    room = Resources(cpu=4.0 * (ready + 1), memory=16.0)
    return PoolSnapshot("batch", at, nodes, room, Resources(cpu=2, memory=8), 0.6, 4, Resources(cpu=waiting))


@pytest.fixture
def admin(site: Site) -> Client:
    return site.client("ops", Scope.ADMIN)


def test_a_pool_over_time(site: Site, red: Client) -> None:
    for minute in range(120):
        site.app.ctx.ports.history.record(seen(T0 - timedelta(minutes=minute), waiting=3.0 if minute == 61 else 0.0))
    answer = red("GET", "/v1/capacity/batch/history?hours=1.5").json()
    first, last = answer["points"][0], answer["points"][-1]
    assert (len(answer["points"]), answer["until"]) == (91, T0.isoformat().replace("+00:00", "Z"))
    assert last["nodes"] == {"ready": 3, "stopped": 2}
    assert (last["target"], last["allocatable"], last["used"], last["waiting"]) == (4, 12, 2, 0)
    assert red("GET", "/v1/capacity/batch/history?resource=memory").json()["points"][0]["used"] == 8
    few = red("GET", "/v1/capacity/batch/history?hours=1.5&points=10").json()["points"]
    assert (len(few), few[-1]) == (10, last)
    assert max(p["waiting"] for p in few) == 3.0
    rest = red("GET", "/v1/capacity/batch/history", params={"since": answer["points"][-4]["at"]}).json()["points"]
    assert rest == answer["points"][-3:]
    assert first["at"] < rest[0]["at"]


def test_nothing_seen_is_no_error(red: Client) -> None:
    assert red("GET", "/v1/capacity/batch/history").json()["points"] == []
    assert red("GET", "/v1/decisions/batch").json() == {"pool": "batch", "decisions": []}
    none = red("GET", "/v1/outcomes").json()["pools"]
    assert [p["pool"] for p in none] == ["batch", "other"]
    assert (none[0]["instances"], none[0]["warm_hit_ratio"], none[0]["usd"]) == (0, None, None)
    for path in ("/v1/capacity/nowhere/history", "/v1/decisions/nowhere", "/v1/outcomes?pool=nowhere"):
        assert red("GET", path).status_code == 404
    for query in ("hours=0", "hours=1000", "points=0", "since=2026-01-05T00:00:00", "resource=love"):
        assert red("GET", f"/v1/capacity/batch/history?{query}").status_code == 422


@given(st.lists(st.tuples(st.integers(0, 3600), st.integers(0, 5)), unique_by=lambda p: p[0]), st.integers(1, 30))
def test_thinning_keeps_the_last_and_the_most_waiting(looks: list[tuple[int, int]], most: int) -> None:
    rows = [seen(T0 + timedelta(seconds=s), waiting=w) for s, w in sorted(looks)]
    kept = thinned(rows, T0, T0 + timedelta(hours=1), most)
    assert len(kept) <= most
    assert kept == [r for r in rows if r in kept]
    if rows:
        assert kept[-1] == rows[-1]
    if rows and most > 1:
        assert max(r.waiting.cpu for r in kept) == max(r.waiting.cpu for r in rows)


def test_what_tasks_came_to(site: Site, red: Client) -> None:
    work = site.app.ctx.ports.work
    for minute in range(61):
        site.app.ctx.ports.history.record(seen(T0 - timedelta(minutes=minute)))
    for name, waited, ago in (("warm", 0.0, 5), ("cold", 40.0, 6), ("yesterday", 900.0, 3000)):
        started = T0 - timedelta(minutes=ago)
        instances = 3 if name == "warm" else 1
        work.submit(DagSpec(name, (TaskSpec("t", ("true",), instances=instances),)), "batch", started, name)
        (task,) = work.task_runs([name])
        work.save_tasks([replace(task, state=State.RUNNING, started_at=started, provision_wait_s=waited)])
    (found,) = red("GET", "/v1/outcomes?hours=12&pool=batch").json()["pools"]
    assert (found["instances"], found["warm_hit_ratio"], found["wait_mean_s"]) == (4, 0.75, 10.0)
    assert found["wait_p95_s"] == 40.0
    assert found["watched_s"] == pytest.approx(3600)
    assert found["node_hours"] == pytest.approx(3)
    assert found["usd"] == pytest.approx(0.6)
    assert found["idle_usd"] == pytest.approx(0.3)
    (longer,) = red("GET", "/v1/outcomes?hours=168&pool=batch").json()["pools"]
    assert longer["instances"] == 5


def decide(site: Site, name: str, minutes: int, *results: str) -> None:
    at = T0 - timedelta(minutes=minutes)
    action = Action(name, ActionKind.LAUNCH, at, "g", 2, "orders are due", "m", cost_usd=0.5, numbers={"cores": 8.0})
    for second, result in enumerate(results):
        record = ActionRecord(
            action, "batch", "p1", "controller", at + timedelta(seconds=second), result, "as asked", ("n1",)
        )
        site.app.ctx.ports.audit.record(record)


def test_each_decision_once_the_latest_first(site: Site, red: Client, admin: Client) -> None:
    decide(site, "a1", 30, "intended", "done")
    decide(site, "a2", 20, "guarded", "guarded")
    decide(site, "older", 60 * 23, "done")
    decide(site, "old", 60 * 25, "done")
    answer = admin("GET", "/v1/decisions/batch").json()["decisions"]
    assert [(d["action_id"], d["result"]) for d in answer] == [("a2", "guarded"), ("a1", "done"), ("older", "done")]
    one = answer[1]
    assert (one["kind"], one["count"], one["cost_usd"], one["reason"]) == ("launch", 2, 0.5, "orders are due")
    assert (one["figures"], one["nodes"], one["actor"]) == ({"cores": 8.0}, ["n1"], "controller")
    assert one["at"] < one["told_at"]
    assert len(admin("GET", "/v1/decisions/batch?most=1").json()["decisions"]) == 1
    blind = red("GET", "/v1/decisions/batch").json()["decisions"][1]
    hidden = ("reason", "detail", "actor", "nodes", "figures")
    assert [blind[k] for k in hidden] == [None] * 5
    assert {k: v for k, v in blind.items() if k not in hidden} == {k: v for k, v in one.items() if k not in hidden}


def test_the_plan_that_looks_ahead_is_not_hidden_by_what_was_done_at_once(site: Site, red: Client) -> None:
    plans, valid = site.app.ctx.ports.plans, T0 + timedelta(minutes=5)
    target = Target(T0 + timedelta(hours=1), "g", Standby.RUNNING, 3)
    plans.save(CapacityPlan("p1", "batch", Mode.FULL, T0 - timedelta(minutes=1), valid, (), (target,)))
    plans.save(CapacityPlan("p2", "batch", Mode.FULL, T0, valid, ()))
    assert red("GET", "/v1/plans/batch").json()["plan_id"] == "p2"
    whole = red("GET", "/v1/plans/batch?ahead=true").json()
    assert (whole["plan_id"], [t["count"] for t in whole["targets"]]) == ("p1", [3])
    assert red("GET", "/v1/plans/other?ahead=true").status_code == 404


def test_forecasts_are_known_as_they_stood(site: Site, red: Client) -> None:
    for hours in (9, 3):
        issued = T0 - timedelta(hours=hours)
        curve = DemandCurve("batch", issued, issued, 3600, np.ones((20, 12, 5), dtype=np.float32))
        site.app.ctx.ports.forecasts.save(curve)

    def issued_at(**query: str) -> str:
        return str(red("GET", "/v1/forecasts/batch", params=query).json()["issued_at"])

    assert issued_at() == "2026-01-04T23:00:00Z"
    assert issued_at(at="2026-01-04T22:59:59Z") == "2026-01-04T17:00:00Z"
    assert red("GET", "/v1/forecasts/batch?at=2026-01-04T16:00:00Z").status_code == 404


def test_why_says_what_else_was_considered_and_what_it_would_have_cost(site: Site, admin: Client) -> None:
    decide(site, "a1", 30, "intended", "done")
    other = Alternative("launch when it is due", 0.3, 4.0, "4 core-h of waiting more")
    plan = CapacityPlan(
        "p1", "batch", Mode.FULL, T0, T0 + timedelta(minutes=5), (), cost_usd=1.25, alternatives=(other,)
    )
    site.app.ctx.ports.plans.save(plan)
    story = admin("GET", "/v1/why/action/a1").json()
    assert story["events"][-1]["why"] == "orders are due"
    (behind,) = story["plans"]
    assert (behind["plan_id"], behind["cost_usd"]) == ("p1", 1.25)
    assert behind["alternatives"] == [
        {
            "name": "launch when it is due",
            "cost_usd": 0.3,
            "wait_core_hours": 4.0,
            "why_not": "4 core-h of waiting more",
        }
    ]
    assert story["outcomes"][0]["node_id"] == "n1"
    assert "tasks" in story["outcomes"][0]["words"]
