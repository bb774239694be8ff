"""What orchestrators tell is kept once."""

from typing import Any

from tests.unit.web.conftest import T0, Client, Site


def event(n: int, **more: Any) -> dict[str, Any]:
    return {"event_id": f"e{n}", "kind": "queued", "at": T0.isoformat(), "dag_id": "etl", "run_id": "r1", **more}


def tell(client: Client, *events: dict[str, Any], **more: Any) -> Any:
    return client("POST", "/v1/events", {"source": "airflow", "events": list(events), **more})


def test_each_event_counts_once(site: Site, red: Client, blue: Client) -> None:
    assert tell(red, event(1), event(2), event(2)).json() == {"accepted": 2, "duplicates": 1}
    assert tell(red, event(2), event(3)).json() == {"accepted": 1, "duplicates": 1}
    assert tell(blue, event(1)).json() == {"accepted": 1, "duplicates": 0}
    kept = site.app.ctx.ports.events.events("red")
    assert [e.event_id for _, e in kept] == ["e1", "e2", "e3"]


def test_what_is_told_is_work_of_its_tenant(site: Site, red: Client) -> None:
    amount = {"cpu": 2, "memory": 4}
    odd = {"scheduled_for": "tonight", "queue": "x"}
    assert tell(red, event(1, task_id="load", request=amount, pool="batch", details=odd)).status_code == 200
    assert site.app.telling().fold() == 1
    work = site.app.ctx.ports.work.work("batch")
    assert (work.runs["tenant"].tolist(), work.tasks["cpu"].tolist()) == (["red"], [2.0])
    assert tell(red, event(1, task_id="load", request=amount, pool="batch")).json()["duplicates"] == 1
    site.app.telling().fold()
    assert len(site.app.ctx.ports.work.work("batch").runs) == 1, "told twice, folded twice, there once"
    assert len(site.app.ctx.ports.work.work("other").runs) == 0


def test_all_are_kept_or_none(site: Site, red: Client) -> None:
    assert tell(red, event(1), event(2, pool="nowhere")).status_code == 404
    assert tell(red, event(1), event(2, kind="finished")).status_code == 422
    assert tell(red, event(1), event(2, state="succeeded")).status_code == 422
    assert site.app.ctx.ports.events.events() == ()
