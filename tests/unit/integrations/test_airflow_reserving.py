"""The provider for Airflow reserves and tells: against the real API in this process, and the fake of its own tests."""

import importlib.util
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from preprov_provider import client as api
from preprov_provider import naming, reserving
from preprov_provider.client import Client, PreprovError, PreprovUnavailable

from tests.unit.web.conftest import Site

_FAKE = Path(__file__).resolve().parents[3] / "integrations" / "airflow" / "tests" / "fakepreprov.py"
_spec = importlib.util.spec_from_file_location("fakepreprov", _FAKE)
assert _spec is not None
assert _spec.loader is not None
fakepreprov = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fakepreprov)

LATE = "2026-01-05T22:00:00"


class Way(httpx.BaseTransport):
    """To the one or the other; what was asked of it."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response]) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str]] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append((request.method, request.url.path))
        return self.answer(request)


def to_site(site: Site) -> Callable[[httpx.Request], httpx.Response]:
    def answer(request: httpx.Request) -> httpx.Response:
        sent = site.http.request(
            request.method, str(request.url), content=request.read(), headers=dict(request.headers)
        )
        return httpx.Response(sent.status_code, content=sent.content)

    return answer


def to_fake(fake: Any) -> Callable[[httpx.Request], httpx.Response]:
    def answer(request: httpx.Request) -> httpx.Response:
        body, sent = json.loads(request.read() or b"{}"), request.headers
        key = sent.get("idempotency-key", "")
        status, told = fake.answer(request.method, str(request.url.raw_path, "ascii"), body, key, sent["authorization"])
        return httpx.Response(status, json=told)

    return answer


@pytest.fixture(params=["real", "fake"])
def there(request: pytest.FixtureRequest, site: Site) -> Client:
    """preprov, one way or the other; nothing becomes ready."""
    fake = fakepreprov.FakePreprov()
    fake.patience = 10**9
    if request.param == "fake":
        return Client("http://testserver", fakepreprov.TOKEN, transport=Way(to_fake(fake)))
    return Client("http://testserver", site.token("red"), transport=Way(to_site(site)))


def body(**changes: Any) -> dict[str, Any]:
    return api.reservation("batch", changes.pop("claimant", "d/r/t"), {"cpu": 2.0}, **{"reason": "of t", **changes})


def ours(found: Mapping[str, Any]) -> bool:
    return bool(found["reason"] == "of t")


NAMES = ("d", "r", "t", "-1")


def test_a_task_instance_has_one_reservation_however_often_it_is_tried_or_cleared(there: Client) -> None:
    seen = []
    for _ in range(4):
        found = reserving.reserve(there, body(), NAMES, ours)
        assert found["state"] == "soft"
        assert reserving.reserve(there, body(), NAMES, ours)["reservation_id"] == found["reservation_id"]
        seen.append(found["reservation_id"])
        there.release(found["reservation_id"], "cleared")
    assert len(set(seen)) == 4
    assert there.reservations()["reservations"] == []


@pytest.mark.parametrize("change", [{"seconds": 60.0}, {"count": 2}, {"start": f"{LATE}+00:00"}])
def test_one_that_was_edited_gives_back_what_it_had(there: Client, change: dict[str, Any]) -> None:
    first = reserving.reserve(there, body(count=2), NAMES, ours)
    changed = body(**{"count": 2, **change}) if "count" not in change else body(count=2, seconds=7.0)
    second = reserving.reserve(there, changed, NAMES, ours)
    again = reserving.reserve(there, changed, NAMES, ours)
    assert again["reservation_id"] == second["reservation_id"] != first["reservation_id"]
    (live,) = there.reservations("batch")["reservations"]
    assert live["reservation_id"] == second["reservation_id"]
    assert there.look(first["reservation_id"])["state"] == "released"
    back = reserving.reserve(there, body(count=2), NAMES, ours)
    assert back["reservation_id"] not in (first["reservation_id"], second["reservation_id"])


def test_what_is_not_its_own_is_left(there: Client) -> None:
    theirs = there.reserve(body(reason="of another"), "k")
    with pytest.raises(PreprovError, match="live reservation already"):
        reserving.reserve(there, body(), NAMES, ours)
    assert there.look(theirs["reservation_id"])["state"] == "soft"
    with pytest.raises(PreprovError, match="fits on no node"):
        reserving.reserve(there, {**body(), "request": {"cpu": 5000.0}}, NAMES, ours)


def test_the_live_one_is_found_without_making_any(there: Client) -> None:
    assert reserving.live(there, "batch", "d/r/t", ours) is None
    made = reserving.reserve(there, body(count=2), NAMES, ours)
    found = reserving.live(there, "batch", "d/r/t", ours)
    assert found is not None
    assert found["reservation_id"] == made["reservation_id"]
    assert reserving.live(there, "batch", "d/r/t", lambda _: False) is None
    there.release(made["reservation_id"], "over")
    assert reserving.live(there, "batch", "d/r/t", ours) is None


def refused(call: Callable[[], Any]) -> tuple[int, str]:
    with pytest.raises(PreprovError) as error:
        call()
    assert not isinstance(error.value, PreprovUnavailable)
    return error.value.status, error.value.where


def test_the_fake_has_the_rules_of_the_real_one_for_reservations(there: Client) -> None:
    made = there.reserve(body(), "k")
    name = made["reservation_id"]
    assert there.reserve(body(), "k")["reservation_id"] == name
    assert refused(lambda: there.reserve(body(seconds=1.0), "k")) == (409, name)
    assert refused(lambda: there.reserve(body(), "other")) == (409, name)
    assert there.reserve(body(claimant="x" * 250), "long")["claimant"] == "x" * 250
    assert refused(lambda: there.reserve(body(claimant="x" * 251), "longer"))[0] == 422
    assert refused(lambda: there.reserve(body(claimant="x\n"), "line"))[0] == 422
    assert refused(lambda: there.reserve(body(reason="x" * 251), "why"))[0] == 422
    assert refused(lambda: there.reserve(body(start=LATE), "naive"))[0] == 422
    assert refused(lambda: there.reserve(body(), "x" * 201))[0] == 422
    assert refused(lambda: there.reserve({**body(), "pool": "nowhere"}, "pool"))[0] == 404
    assert refused(lambda: there.look("never"))[0] == 404
    assert there.release(name, "over")["state"] == there.release(name, "again")["state"] == "released"
    assert there.reserve(body(), "k")["state"] == "released", "a key is good for one reservation"
    assert there.reserve(body(), "other")["state"] == "soft"


def event(**changes: Any) -> dict[str, Any]:
    at = "2026-01-05T02:00:00+00:00"
    return {"event_id": "e", "kind": "started", "at": at, "dag_id": "d", "run_id": "r", **changes}


def test_the_fake_has_the_rules_of_the_real_one_for_events(there: Client) -> None:
    good = [event(event_id="a"), event(event_id="b", task_id="t" * 250)]
    bad = [{"run_id": None}, {"run_id": ""}, {"dag_id": None}, {"event_id": "e" * 251}, {"task_id": "t" * 251}]
    for changes in bad:
        assert refused(lambda c=changes: there.tell("af", [*good, event(**c)]))[0] == 422, changes  # type: ignore[misc]
    assert there.tell("af", good) == {"accepted": 2, "duplicates": 0}, "of what was refused nothing was kept"
    assert there.tell("af", [*good, event()]) == {"accepted": 1, "duplicates": 2}


def test_what_the_real_one_says_of_room_is_what_the_provider_reads(site: Site) -> None:
    there = Client("http://testserver", site.token("red"), transport=Way(to_site(site)))
    (pool,) = (p for p in there.capacity()["pools"] if p["pool"] == "batch")
    told = fakepreprov.FakePreprov().pool
    assert set(told) <= set(pool)
    for name in ("allocatable", "held", "free", "held_by_you"):
        assert set(told[name]) <= set(pool[name])


@given(st.text(max_size=300), st.text(max_size=300))
def test_names_fit_and_differ_where_they_differed(one: str, other: str) -> None:
    for name in (one, other):
        assert len(naming.short(name)) <= naming.MOST
        assert naming.short(naming.short(name)) == naming.short(name)
    assert (naming.short(one) == naming.short(other)) == (one == other)


@given(st.text("ab", min_size=251, max_size=600), st.text("ab", min_size=251, max_size=600))
def test_long_ones_too(one: str, other: str) -> None:
    same = "x" * 240
    assert (naming.short(same + one) == naming.short(same + other)) == (one == other)
