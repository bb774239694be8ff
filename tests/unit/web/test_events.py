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


def test_all_are_kept_or_none(site: Site, red: Client) -> None:
    assert tell(red, event(1), event(2, pool="nowhere")).status_code == 404
    assert tell(red, event(1), event(2, kind="finished")).status_code == 422
    assert tell(red, event(1), event(2, state="succeeded")).status_code == 422
    assert site.app.ctx.ports.events.events() == ()
