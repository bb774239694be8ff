"""Recurring windows over the API: asked for once, kept apart by tenant, held by the controller as any others."""

from datetime import timedelta
from typing import Any

import pytest

from preprov.control.turns import keep_turns
from preprov.control.windows import MOST
from preprov.model.access import Scope
from preprov.model.reservations import Purpose
from tests.unit.web.conftest import T0, Client, Site
from tests.unit.web.test_access import is_problem


def test_a_window_is_asked_for_looked_at_and_removed(site: Site, red: Client) -> None:
    more = {"tz": "Europe/Berlin", "days": ["fri", "mon"], "lead_s": 600, "borrow": True, "reclaim_s": 120, "count": 2}
    answer = red.window(**more)
    made = answer.json()
    assert answer.status_code == 201
    wanted = {**more, "days": ["mon", "fri"], "start": "22:00", "end": "02:00", "tenant": "red", "priority": 3}
    assert {k: made[k] for k in wanted} == wanted
    assert red("GET", answer.headers["location"]).json() == made
    assert red("GET", "/v1/windows", params={"pool": "batch"}).json() == {"windows": [made]}
    assert red("GET", "/v1/windows", params={"pool": "other"}).json() == {"windows": []}
    gone = red("DELETE", f"/v1/windows/{made['window_id']}")
    assert (gone.status_code, gone.json()) == (200, made)
    for method in ("GET", "DELETE"):
        assert is_problem(red(method, f"/v1/windows/{made['window_id']}"), 404, "NotFound")


def test_the_same_key_with_the_same_window_makes_one(site: Site, red: Client, blue: Client) -> None:
    first, again = red.window(), red.window()
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert is_problem(red.window(count=2), 409, "ReservationError")
    assert is_problem(red.window(name="another"), 409, "ReservationError")
    assert is_problem(red.window(key="new"), 409, "ReservationError")
    assert red.window(key="new", name="another").status_code == 201
    assert blue.window().status_code == 201, "another tenant's keys and names are its own"
    assert red("POST", "/v1/windows", {}).status_code == 422


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"start": "24:00"}, 422),
        ({"end": "2:00"}, 422),
        ({"end": "26:00"}, 422),
        ({"days": []}, 422),
        ({"days": ["someday"]}, 422),
        ({"tz": "Mars/Base"}, 422),
        ({"tz": "../../etc/passwd"}, 422),
        ({"request": {}}, 422),
        ({"borrow": True, "reclaim_s": 60}, 422),
        ({"since": "2026-01-02T00:00:00Z", "until": "2026-01-02T00:00:00Z"}, 422),
        ({"until": "0001-01-01T00:00:00"}, 422),
        ({"till": "2026-01-01T00:00:00Z"}, 422),
        ({"request": {"cpu": 64}}, 409),
        ({"priority": 4}, 409),
        ({"pool": "nowhere"}, 404),
        ({"tenant": "blue"}, 403),
    ],
)
def test_what_makes_no_window_is_refused(red: Client, wrong: dict[str, Any], status: int) -> None:
    answer = red.window(**wrong)
    assert is_problem(answer, status, answer.json()["type"].rpartition(":")[2])
    assert red("GET", "/v1/windows").json() == {"windows": []}


def test_windows_are_their_tenants_and_their_pools(site: Site, red: Client) -> None:
    admin = site.client("ops", Scope.ADMIN)
    made = admin.window(tenant="red", priority=9).json()
    assert (made["tenant"], made["priority"]) == ("red", 9)
    assert red("GET", "/v1/windows").json() == {"windows": [made]}
    elsewhere = site.client("red", pools=["other"])
    assert elsewhere("GET", "/v1/windows").json() == {"windows": []}
    assert is_problem(elsewhere("DELETE", f"/v1/windows/{made['window_id']}"), 404, "NotFound")
    assert is_problem(elsewhere.window(), 404, "NotFound")
    assert is_problem(site.client("red", Scope.READ)("GET", "/v1/windows"), 403, "NoScope")
    assert admin("DELETE", f"/v1/windows/{made['window_id']}").status_code == 200


def test_a_tenant_adds_so_many_at_the_most(site: Site, red: Client) -> None:
    for n in range(MOST):
        assert red.window(key=f"k{n}", name=f"n{n}").status_code == 201
    assert is_problem(red.window(), 409, "ReservationError")
    assert red.window(key="k0", name="n0").status_code == 200


def test_its_turns_are_reservations(site: Site, red: Client) -> None:
    red.window(start="03:00", end="04:00", count=2)
    ctx = site.app.ctx
    keep_turns(ctx, ctx.pool("batch"), (), site.clock.now())
    (turn,) = [r for r in red("GET", "/v1/reservations").json()["reservations"] if r["purpose"] == Purpose.WINDOW]
    assert (turn["count"], turn["segments"][0]["start"]) == (2, "2026-01-05T03:00:00Z")


def test_a_window_comes_round_between_two_instants_only(site: Site, red: Client) -> None:
    more = {"tz": "Europe/Berlin", "since": "2026-01-06T12:00:00", "until": "2026-01-08T21:00:00Z", "borrow": False}
    made = red.window(start="22:00", end="23:00", **more).json()
    assert (made["since"], made["until"]) == ("2026-01-06T11:00:00Z", "2026-01-08T21:00:00Z")
    assert red("GET", f"/v1/windows/{made['window_id']}").json() == made
    (kept,) = site.app.ctx.ports.windows.windows()
    starts = [t.start.isoformat() for t in kept.turns(T0 - timedelta(days=3), T0 + timedelta(days=30))]
    assert starts == ["2026-01-06T21:00:00+00:00", "2026-01-07T21:00:00+00:00"]
    assert red.window(start="22:00", end="23:00", **more).status_code == 200
    assert red.window(start="22:00", end="23:00", **{**more, "until": None}).status_code == 409, "it is another window"
