"""A node calls once for each token it is given, over what nobody listens in on, and lets go of calls that fail."""

import json
from dataclasses import replace

import pytest

from preprov.agent.callback import Callback
from preprov.agent.clouds import CloudError
from preprov.model.agent import Health
from preprov.model.notes import CALLBACK, spread

READY = Health("i-1/ü", "ready", 10.0, 1, 5.0)


class Server:
    """Answers as it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str], dict[str, str]]] = []
        self.status: int | None = 202

    def __call__(self, url: str) -> "Server":
        assert url == "https://api"
        return self

    def ask(self, method, path, headers=None, body=None):
        self.asked.append((method, path, dict(headers), json.loads(body)))
        if self.status != 202:
            raise CloudError("no", self.status)
        return ""


@pytest.fixture
def server():
    return Server()


def notes(token="preprov_a_b", url="https://api"):
    return spread(CALLBACK, {"url": url, "pool": "p", "token": token})


def test_it_calls_once_when_it_is_ready_and_again_with_the_next_token(server):
    callback = Callback(server)
    assert callback.round(replace(READY, phase="warming"), notes()) == ""
    assert callback.round(READY, {}) == ""
    assert callback.round(READY, notes()) == "told the controller: ready"
    assert callback.round(READY, notes()) == ""
    assert callback.round(replace(READY, phase="failed", reason="no\ndisk"), notes("preprov_c_d"))
    first, second = server.asked
    assert first[:2] == ("POST", "/v1/nodes/i-1%2F%C3%BC/state")
    assert first[2]["Authorization"] == "Bearer preprov_a_b"
    assert first[3] == {"pool": "p", "phase": "ready", "reason": ""}
    assert second[3] == {"pool": "p", "phase": "failed", "reason": "no disk"}


@pytest.mark.parametrize("url", ["http://api.example", "ftp://x", "", "https"])
def test_it_never_shows_its_token_in_clear(url):
    def nobody(_url):
        raise AssertionError("called")

    assert Callback(nobody).round(READY, notes(url=url)) == ""


@pytest.mark.parametrize(("status", "calls"), [(401, 1), (0, 3)])
def test_a_call_that_fails_is_let_go_of(server, status, calls):
    """One that is refused at once, one that nobody answers after some rounds; the log says no token."""
    server.status = status
    callback = Callback(server)
    said = [callback.round(READY, notes()) for _ in range(6)]
    assert len(server.asked) == calls
    assert not any("preprov_" in line for line in said)
