"""A node may say once, of itself alone, that it is ready; administrators listen to warmings as they end."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest

from preprov.contracts import LeadObservation
from preprov.control.access import create_node_token, create_token
from preprov.model.access import Scope
from preprov.model.offerings import Standby
from preprov.web.application import Limits
from preprov.web.listening import Listeners, Pace, Said, stream
from preprov.web.problems import Problem
from tests.unit.web.conftest import T0, Client, Site

READY = {"pool": "batch", "phase": "ready"}


@pytest.fixture
def limits() -> Limits:
    return Limits(stream_s=0.0, listeners=5)


@pytest.fixture
def node(site: Site) -> Client:
    return Client(site.http, create_node_token(site.app.ctx, "i-1", "batch", timedelta(minutes=5))[1])


def events(answer: Any) -> list[tuple[str, str, dict[str, Any]]]:
    """(id, event, data) of a stream."""
    assert answer.headers["content-type"].startswith("text/event-stream")
    parts = [dict(line.split(": ", 1) for line in p.splitlines()) for p in answer.text.split("\n\n") if "data:" in p]
    return [(p["id"], p["event"], json.loads(p["data"])) for p in parts]


# ---- what a node says


def test_a_node_says_once_that_it_is_ready(site: Site, node: Client, caplog: pytest.LogCaptureFixture) -> None:
    assert node("POST", "/v1/nodes/i-1/state", READY).status_code == 202
    assert node("POST", "/v1/nodes/i-1/state", READY).status_code == 401
    assert node.token.split("_", 2)[2] not in caplog.text


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/nodes/i-2/state", READY, 403),
        ("/v1/nodes/i-1/state", {**READY, "pool": "other"}, 403),
        ("/v1/nodes/i-1/state", {**READY, "pool": "nowhere"}, 403),
        ("/v1/nodes/i-1/state", {**READY, "phase": "warming"}, 422),
        ("/v1/nodes/i-1/state", {**READY, "tasks": []}, 422),
    ],
)
def test_it_speaks_for_itself_alone(node: Client, path: str, body: dict[str, str], status: int) -> None:
    """And what was refused has not used its token up."""
    assert node("POST", path, body).status_code == status
    assert node("POST", "/v1/nodes/i-1/state", READY).status_code == 202


def test_a_nodes_token_opens_nothing_else(site: Site, node: Client) -> None:
    for method, path in [("GET", "/v1/reservations"), ("GET", "/v1/capacity"), ("GET", "/v1/nodes/i-1/events")]:
        assert node(method, path).status_code == 403
    assert site.client("ops", Scope.ADMIN)("POST", "/v1/nodes/i-1/state", READY).status_code == 403, (
        "nor speaks for one"
    )


def test_it_expires(site: Site, node: Client) -> None:
    site.clock.at += timedelta(minutes=5)
    assert node("POST", "/v1/nodes/i-1/state", READY).status_code == 401


# ---- listening to nodes


def warmed(site: Site, node_id: str, minutes: float, pool: str = "batch", **more: Any) -> None:
    at = T0 + timedelta(minutes=minutes)
    o = LeadObservation(at, pool, "sim", "g", "", "m", "", Standby.COLD, 61.0, node_id, **more)
    site.app.ctx.ports.leads.add(o)


def test_an_administrator_hears_of_each_warming_once(site: Site, red: Client) -> None:
    admin = site.client("ops", Scope.ADMIN)
    warmed(site, "i-1", -1)
    warmed(site, "i-2", -1)
    warmed(site, "i-1", 1, outcome="failed")
    site.clock.at += timedelta(minutes=2)
    ((name, kind, data),) = events(admin("GET", "/v1/nodes/i-1/events"))
    assert (kind, data["ready"], data["seconds"], data["came_from"]) == ("warmed", True, 61.0, "cold")
    ((later, _, data),) = events(admin("GET", "/v1/nodes/i-1/events", headers={"Last-Event-ID": name}))
    assert not data["ready"]
    assert events(admin("GET", "/v1/nodes/i-1/events", headers={"Last-Event-ID": later})) == []
    assert events(admin("GET", "/v1/nodes/i-1/events", headers={"Last-Event-ID": "nonsense"}))
    assert red("GET", "/v1/nodes/i-1/events").status_code == 403


# ---- listening to reservations


def test_a_reservation_is_told_as_it_is_and_only_what_changed_since(site: Site, red: Client, blue: Client) -> None:
    made = red.reserve().json()
    path = f"/v1/reservations/{made['reservation_id']}/events"
    ((name, kind, data),) = events(red("GET", path))
    assert (kind, data) == ("state", made)
    assert events(red("GET", path, headers={"Last-Event-ID": name})) == []
    red("DELETE", path.removesuffix("/events"))
    ((last, kind, data),) = events(red("GET", path, headers={"Last-Event-ID": name}))
    assert (kind, data["state"]) == ("over", "released")
    assert [k for _, k, _ in events(red("GET", path, headers={"Last-Event-ID": last}))] == ["over"]
    assert blue("GET", path).status_code == 404
    assert red("GET", "/v1/reservations/nothing/events").status_code == 404


def test_so_many_may_listen_and_no_more(site: Site, red: Client) -> None:
    """A stream that has ended has given its place back; one tenant never takes all of them."""
    made = red.reserve().json()
    path = f"/v1/reservations/{made['reservation_id']}/events"
    assert [red("GET", path).status_code for _ in range(7)] == [200] * 7
    listeners = site.http.app.state.listeners  # type: ignore[attr-defined]
    place = listeners.enter("red", 60)
    refused = red("GET", path)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "30")
    assert refused.json()["type"].endswith("TooManyListeners")
    listeners.leave(place)
    assert red("GET", path).status_code == 200


def test_places_that_were_never_begun_are_free_again() -> None:
    now = [0.0]
    listeners = Listeners(3, 2, lambda: now[0])
    for who in ("a", "a", "b"):
        listeners.enter(who, 10)
    for who in ("a", "c"):
        with pytest.raises(Problem):
            listeners.enter(who, 10)
    now[0] = 11.0
    listeners.enter("a", 10)


# ---- the stream


def read(looks: list[Said | Problem | None], pace: Pace, last: str = "") -> tuple[list[str], list[str]]:
    """What is sent, and after which ids was looked."""
    asked: list[str] = []

    def look(told: str) -> Said | None:
        asked.append(told)
        found = looks.pop(0)
        if isinstance(found, Problem):
            raise found
        return found

    async def all_of() -> list[str]:
        return [text async for text in stream(look, last, pace, look(last))]

    return asyncio.run(all_of()), asked


async def at_once(_seconds: float) -> None:
    """No wait."""


def test_changes_are_told_with_signs_of_life_until_it_is_over() -> None:
    one, two = Said("1", "state", "{}"), Said("2", "over", "{}", last=True)
    sent, asked = read([one, None, None, two], Pace(heartbeat_s=0.0, pause=at_once))
    assert sent == ["retry: 2000\n\n", str(one), ": still here\n\n", ": still here\n\n", str(two)]
    assert asked == ["", "1", "1", "1"]


def test_a_stream_ends_when_looking_is_refused_and_by_itself() -> None:
    sent, _ = read([None, Problem(401, "revoked")], Pace(pause=at_once), "7")
    assert sent == ["retry: 2000\n\n"]
    sent, asked = read([None], Pace(most_s=0.0, pause=at_once), "7")
    assert (len(sent), asked) == (1, ["7"])


def test_a_token_that_was_revoked_hears_no_more(site: Site, red: Client) -> None:
    from preprov.web.routes.reservations import _changed
    from preprov.web.security import Caller

    made = red.reserve().json()
    token, _ = create_token(site.app.ctx, "red", [Scope.RESERVE])
    caller = Caller(token, site.app.ctx)
    assert _changed(caller, made["reservation_id"], "") is not None
    site.app.ctx.ports.tokens.revoke(token.token_id, T0)
    with pytest.raises(Problem):
        _changed(caller, made["reservation_id"], "")
