"""The API in this process, over a store of its own, on a clock that is moved by hand."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from preprov.app import App, open_app
from preprov.control.access import create_token
from preprov.model.access import Scope
from preprov.web.application import Limits, create_api

T0 = datetime(2026, 1, 5, 2, 0, tzinfo=UTC)
CONFIG = """
[[pool]]
name = "batch"
mode = "full"
[[pool.group]]
name = "g"
provider = "sim"
max_nodes = 4
offering = [{ type = "m", cpu = 4, memory = 16, usd_per_hour = 0.2 }]

[[pool]]
name = "other"
[[pool.group]]
name = "g"
provider = "sim"
max_nodes = 2
offering = [{ type = "m", cpu = 4, memory = 16 }]

[[tenant]]
name = "red"
priority = 3

[[tenant]]
name = "blue"
"""

WINDOW = {"pool": "batch", "name": "eod", "request": {"cpu": 2}, "start": "22:00", "end": "02:00"}


@dataclass
class Hand:
    """A clock that is moved by hand."""

    at: datetime = T0

    def now(self) -> datetime:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@dataclass
class Site:
    """A served store, and clients with tokens of it."""

    app: App
    clock: Hand
    http: TestClient

    def token(self, tenant: str, *scopes: Scope, **more: Any) -> str:
        return create_token(self.app.ctx, tenant, scopes or (Scope.READ, Scope.RESERVE, Scope.REPORT), **more)[1]

    def client(self, tenant: str = "red", *scopes: Scope, **more: Any) -> "Client":
        return Client(self.http, self.token(tenant, *scopes, **more))


@dataclass
class Client:
    """One owner of a token."""

    http: TestClient
    token: str

    def __call__(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.token}", **more.pop("headers", {})}
        return self.http.request(method, path, json=body, headers=headers, **more)

    def reserve(self, key: str = "k", **more: Any) -> Any:
        body = {"pool": "batch", "claimant": "etl", "request": {"cpu": 2, "memory": 4}, **more}
        return self("POST", "/v1/reservations", body, headers={"Idempotency-Key": key})

    def window(self, key: str = "w", **more: Any) -> Any:
        return self("POST", "/v1/windows", {**WINDOW, **more}, headers={"Idempotency-Key": key})


@pytest.fixture
def config() -> str:
    return CONFIG


@pytest.fixture
def limits() -> Limits:
    return Limits()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str, limits: Limits) -> Iterator[Site]:
    (tmp_path / "preprov.toml").write_text(config)
    monkeypatch.chdir(tmp_path)
    clock = Hand()
    with open_app(clock=clock) as app:
        api = create_api(app, limits)
        with TestClient(api, raise_server_exceptions=False) as http:
            yield Site(app, clock, http)


@pytest.fixture
def red(site: Site) -> Client:
    return site.client("red")


@pytest.fixture
def blue(site: Site) -> Client:
    return site.client("blue")


Serve = Callable[..., Site]
