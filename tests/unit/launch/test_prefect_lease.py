"""What is asked of Prefect for a lease; that its server then acts is seen on a real one (tests/integration/prefect)."""

from collections.abc import Callable
from typing import Any

import pytest

from preprov.launch.prefect_lease import EVENT, PrefectLease, path_of_pool, path_of_queue
from preprov.model.errors import NotFoundError, PoolError

POOL, QUEUE = path_of_pool("a b/c"), path_of_queue("a b/c", "high")


class Prefect:
    """As much of its API as is used."""

    def __init__(self) -> None:
        self.blocks: dict[str, dict[str, Any]] = {}
        self.automations: dict[str, dict[str, Any]] = {"x": {"id": "x", "name": "somebody's"}}
        self.events: list[Any] = []
        self.asked: list[str] = []
        self.kinds = [{"id": "schema"}]
        self.installed = False

    def ask(self, method: str, path: str, body: Any) -> Any:
        self.asked.append(f"{method} {path}")
        parts = path.strip("/").split("/")
        if path == "/events":
            return self.events.extend(body)
        if path == "/block_types/install_system_block_types":
            self.installed = True
            return None
        if path.startswith("/block_types/slug/webhook"):
            if not self.installed:
                raise NotFoundError("no such type")
            return list(self.blocks.values()) if path.endswith("documents") else {"id": "kind"}
        if path == "/block_schemas/filter":
            return self.kinds
        if path == "/automations/filter":
            found = sorted(self.automations.values(), key=lambda a: str(a["name"]))
            return found[body["offset"] : body["offset"] + body["limit"]]
        kept = self.blocks if parts[0] == "block_documents" else self.automations
        if method == "DELETE":
            if parts[1] not in kept:
                raise NotFoundError("no such thing")
            return kept.pop(parts[1])
        name = parts[1] if len(parts) > 1 else f"id-{len(self.asked)}"
        kept[name] = {**kept.get(name, {}), **body, "id": name}
        return kept[name] if method == "POST" else None


class Hand:
    """Seconds that are moved by hand."""

    at = 0.0

    def __call__(self) -> float:
        return self.at


def lease(name: str = "Flows!", now: Callable[[], float] = lambda: 0.0) -> PrefectLease:
    return PrefectLease(name, "http://prefect/api/", lambda: {"Authorization": "Bearer k"}, 60, now)


def test_a_silence_of_one_length_is_answered_once_for_each_limit() -> None:
    prefect, ours = Prefect(), lease()
    ours.hold(prefect.ask, {POOL: 3, QUEUE: None})
    mine = [a for a in prefect.automations.values() if a["id"] != "x"]
    assert [a["trigger"]["within"] for a in mine] == [60, 75], "calls at the same moment would end each other"
    for a in mine:
        trigger = a["trigger"]
        assert (trigger["posture"], trigger["after"], trigger["expect"]) == ("Proactive", [EVENT], [EVENT])
        assert trigger["for_each"] == ["prefect.resource.id"], "else Prefect counts without a word, again and again"
    calls = {b["id"]: b["data"] for b in prefect.blocks.values()}
    put = {calls[a["actions"][0]["block_document_id"]]["url"]: a["actions"][0]["payload"] for a in mine}
    assert put == {
        "http://prefect/api/work_pools/a%20b%2Fc": '{"concurrency_limit": 3}',
        "http://prefect/api/work_pools/a%20b%2Fc/queues/high": '{"concurrency_limit": null}',
    }
    assert {d["method"] for d in calls.values()} == {"PATCH"}
    assert all(d["headers"]["Authorization"] == "Bearer k" for d in calls.values())


def test_renewing_it_is_one_request() -> None:
    prefect, ours = Prefect(), lease()
    ours.hold(prefect.ask, {POOL: 3})
    del prefect.asked[:]
    ours.hold(prefect.ask, {POOL: 3})
    assert prefect.asked == ["POST /events"]
    assert len({e["id"] for e in prefect.events}) == 2


def test_another_preprov_goes_on_with_what_is_there_and_it_is_taken_away_whole() -> None:
    prefect = Prefect()
    prefect.automations |= {f"o{i}": {"id": f"o{i}", "name": f"a other {i}"} for i in range(250)}
    lease().hold(prefect.ask, {POOL: 3, QUEUE: 2})
    lease().hold(prefect.ask, {POOL: 4})
    mine = [a for a in prefect.automations.values() if a["name"].startswith("preprov")]
    assert [a["actions"][0]["payload"] for a in mine] == ['{"concurrency_limit": 4}']
    lease().end(prefect.ask)
    lease().end(prefect.ask)
    assert prefect.blocks == {}
    assert len(prefect.automations) == 251, "nobody else's is touched"


def test_a_prefect_without_webhooks_says_how_to_go_on() -> None:
    prefect = Prefect()
    prefect.kinds = []
    with pytest.raises(PoolError) as e:
        lease().hold(prefect.ask, {POOL: 3})
    assert "lease = 0" in e.value.hint
    assert prefect.events == []


@pytest.mark.parametrize(
    ("one", "other"), [("a", "a-b"), ("a_b", "a-b"), ("ä", "ö"), ("a", "A"), ("a", "a-1"), ("a", "a: 1")]
)
def test_the_end_of_one_is_not_the_end_of_another_whatever_they_are_called(one: str, other: str) -> None:
    prefect = Prefect()
    lease(one).hold(prefect.ask, {POOL: 3})
    before = set(prefect.blocks), set(prefect.automations)
    lease(other).hold(prefect.ask, {POOL: 5, QUEUE: 6})
    assert len(prefect.blocks) == 3
    assert prefect.automations.keys() >= before[1]
    lease(other).end(prefect.ask)
    assert (set(prefect.blocks), set(prefect.automations)) == before
    (mine,) = (a for a in prefect.automations.values() if a["name"].startswith("preprov"))
    assert mine["actions"][0]["payload"] == '{"concurrency_limit": 3}'


def test_a_block_as_an_earlier_preprov_called_it_goes_with_its_automation() -> None:
    prefect = Prefect()
    lease("a-b").hold(prefect.ask, {POOL: 3})
    prefect.blocks["old"] = {"id": "old", "name": "preprov-lease-a-b-0"}
    prefect.blocks["theirs"] = {"id": "theirs", "name": "preprov-lease-a-0"}
    (made,) = (a for a in prefect.automations.values() if a["name"].startswith("preprov"))
    made["actions"][0]["block_document_id"] = "old"
    lease("a-b").hold(prefect.ask, {POOL: 3})
    (made,) = (a for a in prefect.automations.values() if a["name"].startswith("preprov"))
    assert set(prefect.blocks) == {"theirs", made["actions"][0]["block_document_id"]}


@pytest.mark.parametrize("what", ["automation", "block", "disabled"])
def test_what_somebody_has_taken_away_is_there_again_within_its_time(what: str) -> None:
    prefect, now = Prefect(), Hand()
    ours = lease(now=now)
    ours.hold(prefect.ask, {POOL: 3})
    (name,) = (i for i, a in prefect.automations.items() if i != "x")
    if what == "automation":
        del prefect.automations[name]
    elif what == "block":
        prefect.blocks.clear()
    else:
        prefect.automations[name]["enabled"] = False
    now.at = 59
    ours.hold(prefect.ask, {POOL: 3})
    now.at = 61
    ours.hold(prefect.ask, {POOL: 3})
    (mine,) = (a for i, a in prefect.automations.items() if i != "x")
    assert mine["enabled"]
    assert mine["actions"][0]["block_document_id"] in prefect.blocks
    del prefect.asked[:]
    ours.hold(prefect.ask, {POOL: 3})
    assert prefect.asked == ["POST /events"]
