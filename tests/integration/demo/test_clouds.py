"""The night of the demonstration against each cloud: the same report, and as warm as on local nodes."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.integration.demo.test_demo import demo

WITHIN = 0.02
NIGHT = ("--minutes", "14", "--speed", "8")
"""Slower than `make demo`: the machine that plays the nodes plays the cloud's servers as well."""


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return demo(tmp_path_factory.mktemp("local"), *NIGHT)


def live(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["outcomes"][0]
    assert found["policy"] == "preprov live"
    return found


@pytest.mark.skipif(not os.environ.get("PREPROV_LONG"), reason="four nights take 20 minutes: PREPROV_LONG=1 plays them")
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("provider", ["aws", "gcp", "azure"])
def test_a_night_on_a_cloud_is_as_warm_as_on_local_nodes(provider: str, local: dict[str, Any], tmp_path: Path) -> None:
    night = demo(tmp_path, "--provider", provider, *NIGHT)
    assert (night["provider"], night["failed_instances"]) == (provider, 0)
    assert night["api_calls"] > 100, "it was played against the cloud's API"
    assert [o["policy"] for o in night["outcomes"]] == [o["policy"] for o in local["outcomes"]]
    assert live(night)["warm_hit_ratio"] >= live(local)["warm_hit_ratio"] - WITHIN
    assert live(night)["warm_hit_ratio"] > night["outcomes"][2]["warm_hit_ratio"], "warmer than a reactive scaler"
    assert Path(night["report"]).exists()
