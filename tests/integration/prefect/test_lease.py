"""A real Prefect server puts limits back by itself when nothing is heard of preprov; and not while something is."""

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from preprov.contracts import Service
from preprov.launch.prefect import PrefectWorkPool, limit_of_pool, limit_of_queue
from preprov.model.resources import Resources
from preprov.prefect_server import serving
from tests.integration.prefect.up import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
POOL, QUEUE = limit_of_pool("workers"), limit_of_queue("workers", "high")


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with serving(tmp_path_factory.mktemp("prefect")) as url, httpx.Client(base_url=url, timeout=240) as client:
        made = client.post("/work_pools/", json={"name": "workers", "type": "process", "concurrency_limit": 2})
        assert made.is_success, made.text
        assert client.post("/work_pools/workers/queues", json={"name": "high"}).is_success
        yield client


def place(prefect: httpx.Client) -> PrefectWorkPool:
    service = Service("flows", "batch", Resources(cpu=1), {POOL: 1.0, QUEUE: 0.5})
    url = str(prefect.base_url).rstrip("/")
    return PrefectWorkPool(service, url, None, "workers", ("high",), lease_s=20)


def automations(prefect: httpx.Client) -> list[Any]:
    found = prefect.post("/automations/filter", json={}).json()
    return [a for a in found if a["name"].startswith("preprov lease of flows")]


def blocks(prefect: httpx.Client) -> list[Any]:
    return [b for b in prefect.post("/block_documents/filter", json={}).json() if b["name"].startswith("preprov-lease")]


def test_what_a_dead_preprov_has_raised_is_put_back_once(prefect: httpx.Client) -> None:
    ours = place(prefect)
    found = ours.look().settings
    assert found == {POOL: 2, QUEUE: None}
    ours.hold_lease(found)
    ours.write({POOL: 9, QUEUE: 4})
    began = time.monotonic()

    def renewed_for_longer_than_it_lasts() -> bool:
        ours.hold_lease(found)
        assert ours.look().settings == {POOL: 9, QUEUE: 4}
        return time.monotonic() - began > 45

    until(renewed_for_longer_than_it_lasts)
    assert (len(automations(prefect)), len(blocks(prefect))) == (2, 2)
    until(lambda: ours.look().settings == {POOL: 2, QUEUE: None})  # nobody says anything any more
    ours.write({POOL: 5})  # by hand: it is not put back again and again
    until(lambda: time.monotonic() - began > 150)
    assert ours.look().settings[POOL] == 5
    again = place(prefect)
    again.hold_lease(found)
    assert (len(automations(prefect)), len(blocks(prefect))) == (2, 2), "a restarted preprov finds what is there"
    until(lambda: ours.look().settings[POOL] == 2)


def test_it_is_taken_away(prefect: httpx.Client) -> None:
    ours = place(prefect)
    ours.hold_lease(ours.look().settings)
    ours.end_lease()
    ours.end_lease()
    assert (automations(prefect), blocks(prefect)) == ([], [])
