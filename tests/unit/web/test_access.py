"""Tokens, scopes and tenants; sizes and rates; what an error looks like."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from preprov.control.access import revoke_token
from preprov.model import access
from preprov.model.access import Scope
from preprov.web.application import Limits
from tests.unit.web.conftest import Client, Site


def is_problem(response: Any, status: int, kind: str) -> bool:
    document = response.json()
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert document["status"] == status
    assert {"type", "title", "detail", "instance"} <= set(document)
    return bool(document["type"] == f"urn:preprov:problem:{kind}")


def test_without_a_token_there_is_health_and_nothing_else(site: Site) -> None:
    assert site.http.get("/v1/health").json()["status"] == "ok"
    assert site.http.get("/v1/ready").json() == {"status": "ready", "store": "sqlite", "pools": 2}
    refused = site.http.get("/v1/reservations")
    assert is_problem(refused, 401, "NoToken")
    assert refused.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("shown", ["", "x", "preprov_a_b", "preprov__", "Bearer", "preprov_ü_ü"])
def test_a_wrong_token_is_refused(site: Site, shown: str) -> None:
    refused = site.http.get("/v1/reservations", headers={"Authorization": f"Bearer {shown}".encode()})
    assert refused.status_code == 401


def test_the_secret_is_kept_nowhere(site: Site) -> None:
    written = site.token("red")
    _, secret = access.read(written)
    files = [p for p in site.app.settings.home.rglob("*") if p.is_file()]
    assert files
    assert not [p for p in files if secret.encode() in p.read_bytes()]


def test_a_revoked_and_an_expired_token_are_refused(site: Site) -> None:
    client = site.client("red", ttl=timedelta(hours=1))
    assert client("GET", "/v1/reservations").status_code == 200
    site.clock.at += timedelta(hours=1)
    assert is_problem(client("GET", "/v1/reservations"), 401, "BadToken")
    other = site.client("red")
    revoke_token(site.app.ctx, access.read(other.token)[0])
    assert is_problem(other("GET", "/v1/reservations"), 401, "BadToken")


@pytest.mark.parametrize(
    ("scope", "call"),
    [
        (Scope.READ, lambda c: c("GET", "/v1/reservations")),
        (Scope.REPORT, lambda c: c.reserve()),
        (Scope.RESERVE, lambda c: c("POST", "/v1/events", {"source": "s", "events": []})),
    ],
)
def test_a_scope_opens_its_own_doors_only(site: Site, scope: Scope, call: Callable[[Client], Any]) -> None:
    assert is_problem(call(site.client("red", scope)), 403, "NoScope")


def test_a_tenant_acts_for_itself_only_an_administrator_for_all(site: Site, red: Client) -> None:
    assert is_problem(red.reserve(tenant="blue"), 403, "OtherTenant")
    admin = site.client("ops", Scope.ADMIN)
    made = admin.reserve(tenant="blue")
    assert (made.status_code, made.json()["tenant"]) == (201, "blue")
    assert len(admin("GET", "/v1/reservations").json()["reservations"]) == 1
    assert red("GET", "/v1/reservations").json()["reservations"] == []


def test_a_token_of_one_pool_sees_no_other(site: Site) -> None:
    client = site.client("red", pools=["other"])
    assert is_problem(client.reserve(), 404, "NotFound")
    assert client.reserve(pool="other").status_code == 201
    assert is_problem(client("GET", "/v1/reservations", params={"pool": "batch"}), 404, "NotFound")


class TestLimits:
    @pytest.fixture
    def limits(self) -> Limits:
        return Limits(body=2000, rate=0.01, burst=5)

    def test_who_asks_too_often_is_told_when_to_come_back(self, site: Site, red: Client, blue: Client) -> None:
        codes = [red("GET", "/v1/reservations").status_code for _ in range(6)]
        assert codes == [200] * 5 + [429]
        refused = red("GET", "/v1/reservations")
        assert is_problem(refused, 429, "TooOften")
        assert int(refused.headers["Retry-After"]) > 1
        assert blue("GET", "/v1/reservations").status_code == 200

    def test_who_guesses_tokens_is_shut_out(self, site: Site) -> None:
        def guess() -> int:
            return site.http.get("/v1/reservations", headers={"Authorization": "Bearer preprov_aa_bb"}).status_code

        assert [guess() for _ in range(11)] == [401] * 10 + [429]

    def test_what_is_too_large_is_refused_before_it_is_read(self, site: Site, red: Client) -> None:
        assert is_problem(red.reserve(reason="x" * 3000), 413, "TooLarge")

        def parts():
            yield from [b"x" * 500] * 9

        headers = {"Authorization": f"Bearer {red.token}", "Idempotency-Key": "k", "Content-Type": "application/json"}
        assert site.http.post("/v1/reservations", content=parts(), headers=headers).status_code == 413


def test_what_is_malformed_is_told_where(red: Client) -> None:
    bad = red.reserve(claimant="a\x00b", count=0)
    assert is_problem(bad, 422, "Malformed")
    assert {e["at"] for e in bad.json()["errors"]} == {"body/claimant", "body/count"}
    assert is_problem(red("GET", "/v1/nothing"), 404, "NotFound")
    assert is_problem(red("PATCH", "/v1/reservations"), 405, "MethodNotAllowed")
