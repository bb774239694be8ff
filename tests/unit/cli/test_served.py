"""`pool served`: what is set at a place, what would be, and what is wrong with it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from preprov.launch import prefect
from preprov.sim.clock import VirtualClock
from preprov.testing.fake_prefect import FakePrefect
from preprov.testing.store_examples import T0

CONFIG = """
[[pool]]
name = "batch"
mode = "full"
[[pool.group]]
name = "g"
provider = "local"
offering = [{ type = "m", cpu = 4, memory = 16 }]

[[serve]]
name = "flows"
pool = "batch"
url = "http://pf/api"
work_pool = "workers"
run = { cpu = 1 }
queues = { high = 0.5 }
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePrefect:
    import httpx

    made = FakePrefect(VirtualClock(T0))
    made.pools["workers"] = {"name": "workers", "concurrency_limit": 5, "base_job_template": {}}
    made.queues.append({"name": "high", "work_pool_name": "workers", "concurrency_limit": None})
    client = httpx.Client

    def through(**more: Any) -> httpx.Client:
        return client(**{**more, "transport": made.transport()})

    monkeypatch.setattr(httpx, "Client", through)
    (tmp_path / "preprov.toml").write_text(CONFIG)
    return made


def test_it_says_what_is_and_what_would_be_and_writes_nothing(fake: FakePrefect, preprov: Callable[..., Any]) -> None:
    told = preprov("pool", "served", "batch", "-o", "json")
    assert told.code == 0, told.err
    (place,) = told.json["places"]
    assert (place["slots"], place["nodes"], place["mode"]) == (0, [], "full")
    rows = {s["setting"]: (s["now"], s["wanted"], s["found"]) for s in place["settings"]}
    assert rows == {
        prefect.limit_of_pool("workers"): (5, 0, None),
        prefect.limit_of_queue("workers", "high"): (None, 0, None),
    }
    assert "0 warm nodes, 0 slots" in preprov("pool", "served").out
    assert fake.changed == []


def test_a_place_that_cannot_be_asked_is_said_and_is_exit_code_1(
    fake: FakePrefect, preprov: Callable[..., Any]
) -> None:
    del fake.pools["workers"]
    told = preprov("pool", "served")
    assert told.code == 1
    assert "no such work pool" in told.out


def test_where_nothing_is_served_it_says_how(tmp_path: Path, preprov: Callable[..., Any]) -> None:
    (tmp_path / "preprov.toml").write_text(CONFIG[: CONFIG.index("[[serve]]")])
    assert "[[serve]]" in preprov("pool", "served").out
