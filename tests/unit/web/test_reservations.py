"""Reservations over HTTP: once each, all or none, and back."""

from datetime import timedelta

import pytest

from preprov.control.forgetting import forget_reservations
from preprov.model.access import Scope
from preprov.model.resources import Resources
from tests.unit.web.conftest import T0, Client, Site


def test_a_reservation_from_asking_to_giving_back(site: Site, red: Client) -> None:
    made = red.reserve(start=T0.isoformat(), seconds=1800, expires_in=600)
    assert made.status_code == 201, made.text
    r = made.json()
    assert made.headers["Location"] == f"/v1/reservations/{r['reservation_id']}"
    assert (r["state"], r["ready"], r["tenant"], r["priority"], r["nodes"]) == ("soft", False, "red", 3, [None])
    assert r["segments"][0]["cpu"] == 2
    assert r["expires_at"].startswith("2026-01-05T02:10:00")
    assert red("GET", made.headers["Location"]).json() == r
    assert red("GET", "/v1/reservations").json() == {"reservations": [r], "next": None}

    site.app.ctx.ports.ledger.commit(r["reservation_id"], "n1", Resources(cpu=4, memory=16), T0)
    assert red("GET", made.headers["Location"] + "/wait").json() == {
        **r,
        "state": "committed",
        "ready": True,
        "nodes": ["n1"],
    }
    gone = red("DELETE", made.headers["Location"], params={"reason": "done"}).json()
    assert (gone["state"], gone["ready"], gone["reason"]) == ("released", False, "done")
    assert red("DELETE", made.headers["Location"]).json() == gone
    assert red("GET", "/v1/reservations").json() == {"reservations": [], "next": None}
    assert red("GET", "/v1/reservations", params={"live": False}).json() == {"reservations": [gone], "next": None}


def test_the_same_key_is_the_same_reservation_whatever_became_of_it(site: Site, red: Client) -> None:
    first = red.reserve("k1")
    site.clock.at += timedelta(minutes=3)  # a start of "now" is another instant by now
    again = red.reserve("k1")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    red("DELETE", first.headers["Location"])
    after = red.reserve("k1")
    assert (after.status_code, after.json()["state"]) == (200, "released")


def test_a_key_of_another_request_is_refused(red: Client) -> None:
    red.reserve("k1")
    other = red.reserve("k1", request={"cpu": 1})
    assert other.status_code == 409
    assert "another request" in other.json()["detail"]


def test_a_claimant_has_one_live_reservation_and_its_id_is_told(red: Client) -> None:
    first = red.reserve("k1").json()
    second = red.reserve("k2")
    assert second.status_code == 409
    assert second.json()["where"] == first["reservation_id"]


def test_instances_are_made_all_or_none(red: Client) -> None:
    gang = red.reserve("k1", count=3)
    assert gang.status_code == 201, gang.text
    assert (gang.json()["count"], gang.json()["nodes"], gang.json()["claimant"]) == (3, [None] * 3, "etl")
    assert red.reserve("k1", count=3).json() == gang.json()
    # four nodes of four cores: six are taken, five of two do not fit beside them, though four would
    more = red.reserve("k2", claimant="next", count=6)
    assert (more.status_code, more.json()["type"]) == (409, "urn:preprov:problem:OverbookedError")
    assert len(red("GET", "/v1/reservations").json()["reservations"]) == 1
    assert red.reserve("k3", claimant="next", count=5).status_code == 201
    assert red("DELETE", gang.headers["Location"]).json()["state"] == "released"


def test_what_no_node_can_hold_is_refused_at_once(red: Client) -> None:
    refused = red.reserve(request={"cpu": 5})
    assert refused.status_code == 409
    assert "fits on no node" in refused.json()["detail"]


def test_segments_instead_of_one_span(red: Client) -> None:
    at = [(T0 + timedelta(minutes=m)).isoformat() for m in (0, 10, 20, 30)]
    segments = [{"start": at[0], "end": at[1], "cpu": 1}, {"start": at[2], "end": at[3], "cpu": 3, "memory": 1}]
    made = red.reserve(request=None, segments=segments)
    assert made.status_code == 201, made.text
    assert [s["cpu"] for s in made.json()["segments"]] == [1, 3]
    crossed = red.reserve("k2", request=None, segments=[segments[1], segments[0]])
    assert crossed.status_code == 422


def test_waiting_ends_when_the_time_is_over(red: Client) -> None:
    made = red.reserve().json()
    waited = red("GET", f"/v1/reservations/{made['reservation_id']}/wait", params={"seconds": 0})
    assert waited.json() == made


def test_a_list_comes_in_pages_of_the_tenants_own(site: Site, red: Client) -> None:
    little = {"request": {"cpu": 0.5}}
    for i in range(5):
        red.reserve(f"k{i}", claimant=f"c{i}", start=(T0 + timedelta(minutes=i)).isoformat(), **little)
        site.client("blue").reserve(f"b{i}", claimant=f"c{i}", **little)
    gone = red.reserve("gang", claimant="gang", count=3, **little).json()
    red("DELETE", f"/v1/reservations/{gone['reservation_id']}")

    def listed(client: Client, **more: object) -> list[list[str]]:
        out: list[list[str]] = []
        after = ""
        while not out or after:
            found = client("GET", "/v1/reservations", params={"limit": 2, "after": after, **more}).json()
            out.append([r["claimant"] for r in found["reservations"]])
            after = found["next"]
            red("DELETE", f"/v1/reservations/{found['reservations'][0]['reservation_id']}")
        return out

    pages = listed(red, live=False)
    assert sorted(n for page in pages for n in page) == ["c0", "c1", "c2", "c3", "c4", "gang"]
    assert [len(page) for page in pages] == [2, 2, 2]
    found = red("GET", "/v1/reservations", params={"live": False, "limit": 100}).json()
    assert sorted(r["claimant"] for r in found["reservations"]) == ["c0", "c1", "c2", "c3", "c4", "gang"]
    assert {r["tenant"] for r in found["reservations"]} == {"red"}


def test_a_list_may_be_of_some_purposes_only(site: Site, red: Client) -> None:
    red.reserve()
    of = {"purpose": ["window", "volume"]}
    assert red("GET", "/v1/reservations", params=of).json()["reservations"] == []
    assert len(red("GET", "/v1/reservations", params={"purpose": "booking"}).json()["reservations"]) == 1
    assert red("GET", "/v1/reservations", params={"purpose": "task"}).status_code == 422


@pytest.mark.parametrize("after", ["x", "12", ".b", "9" * 40 + ".b"])
def test_a_place_that_no_list_told_is_refused(red: Client, after: str) -> None:
    refused = red("GET", "/v1/reservations", params={"after": after})
    assert refused.status_code == 422
    assert "no place in a list" in refused.json()["detail"]


def test_what_is_long_over_is_forgotten_and_its_key_free_again(site: Site, red: Client) -> None:
    ctx = site.app.ctx
    gone, live = red.reserve("k1").json(), red.reserve("k2", claimant="other").json()
    red("DELETE", f"/v1/reservations/{gone['reservation_id']}")
    site.clock.at += timedelta(days=34)
    assert forget_reservations(ctx) == 0
    assert red.reserve("k1").status_code == 200
    site.clock.at += timedelta(days=2)
    assert forget_reservations(ctx) == 1
    assert forget_reservations(ctx) == 0, "once a minute"
    kept = red("GET", "/v1/reservations", params={"live": False}).json()["reservations"]
    assert [r["reservation_id"] for r in kept] == [live["reservation_id"]]
    assert red.reserve("k1").status_code == 201


def test_a_token_whose_pools_are_gone_is_shown_nothing(site: Site, red: Client) -> None:
    red.reserve()
    nowhere = site.client("red", Scope.RESERVE, pools=("other",))
    del site.app.ctx.pools["other"]  # type: ignore[attr-defined]
    assert nowhere("GET", "/v1/reservations").json() == {"reservations": [], "next": None}
