"""A real Prefect server puts limits back by itself when nothing is heard of preprov; and not while something is."""

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import httpx
import pytest

from preprov.contracts import Service
from preprov.launch.prefect import PrefectWorkPool, limit_of_pool, limit_of_queue
from preprov.model.errors import ConflictError
from preprov.model.resources import Resources
from preprov.prefect_server import serving
from tests.integration.prefect.up import sent, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
POOL, QUEUE = limit_of_pool("workers"), limit_of_queue("workers", "high")
LEASE_S = 30
T = TypeVar("T")


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory, prefect_on_postgres: None) -> Iterator[httpx.Client]:
    with (
        serving(tmp_path_factory.mktemp("prefect")) as url,
        httpx.Client(base_url=url, timeout=240, follow_redirects=True) as client,
    ):
        sent(client, "/work_pools/", {"name": "workers", "type": "process", "concurrency_limit": 2})
        sent(client, "/work_pools/workers/queues/", {"name": "high"})
        yield client


def place(prefect: httpx.Client) -> PrefectWorkPool:
    service = Service("flows", "batch", Resources(cpu=1), {POOL: 1.0, QUEUE: 0.5})
    url = str(prefect.base_url).rstrip("/")
    return PrefectWorkPool(service, url, None, "workers", ("high",), lease_s=LEASE_S)


def automations(prefect: httpx.Client) -> list[Any]:
    return [a for a in sent(prefect, "/automations/filter", {}) if a["name"].startswith("preprov lease of flows")]


def blocks(prefect: httpx.Client) -> list[Any]:
    return [b for b in sent(prefect, "/block_documents/filter", {}) if b["name"].startswith("preprov-lease")]


def asked(what: Callable[[], T]) -> T:
    """Once more while Prefect is busy for a moment, as each tick of the controller does."""
    found: list[T] = []

    def answered() -> bool:
        try:
            found.append(what())
        except ConflictError:
            return False
        return True

    until(answered)
    return found[-1]


def settings(ours: PrefectWorkPool) -> Any:
    return asked(ours.look).settings


def test_what_a_dead_preprov_has_raised_is_put_back_once(prefect: httpx.Client) -> None:
    ours = place(prefect)
    found = settings(ours)
    assert found == {POOL: 2, QUEUE: None}
    asked(lambda: ours.hold_lease(found))
    asked(lambda: ours.write({POOL: 9, QUEUE: 4}))
    began = time.monotonic()

    def renewed_for_longer_than_it_lasts() -> bool:
        asked(lambda: ours.hold_lease(found))
        assert settings(ours) == {POOL: 9, QUEUE: 4}
        return time.monotonic() - began > 2 * LEASE_S

    until(renewed_for_longer_than_it_lasts)
    assert (len(automations(prefect)), len(blocks(prefect))) == (2, 2)
    until(lambda: settings(ours) == {POOL: 2, QUEUE: None})  # nobody says anything any more
    asked(lambda: ours.write({POOL: 5}))  # by hand: it is not put back again and again
    by_hand = time.monotonic()
    until(lambda: time.monotonic() - by_hand > 2 * LEASE_S)
    assert settings(ours)[POOL] == 5
    again = place(prefect)
    asked(lambda: again.hold_lease(found))
    assert (len(automations(prefect)), len(blocks(prefect))) == (2, 2), "a restarted preprov finds what is there"
    until(lambda: settings(ours)[POOL] == 2)


def test_it_is_taken_away(prefect: httpx.Client) -> None:
    ours = place(prefect)
    found = settings(ours)
    asked(lambda: ours.hold_lease(found))
    asked(ours.end_lease)
    asked(ours.end_lease)
    assert (automations(prefect), blocks(prefect)) == ([], [])
