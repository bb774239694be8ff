"""Nights of the demonstration against each cloud: the same report, and as warm as on local nodes.

A short night per cloud is played always. That the clouds are as warm as local nodes is a statement about means: it
needs several whole nights, and PREPROV_LONG.
"""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.integration.demo.test_demo import demo

WITHIN = 0.02
SHORT = ("--minutes", "5", "--speed", "12")
SEEDS = (1, 2, 3)
"""One instance is a point and more, and single nights differ by several: their mean is looked at."""
NIGHT = ("--minutes", "14", "--speed", "8")
"""Slower than `make demo`: the machine that plays the nodes plays the cloud's servers as well."""


def nights(home: Path, provider: str) -> list[dict[str, Any]]:
    """Played one after the other in one home: each wipes what the last one left."""
    return [demo(home, "--provider", provider, "--seed", str(s), *NIGHT) for s in SEEDS]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return nights(tmp_path_factory.mktemp("local"), "local")


def live(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["outcomes"][0]
    assert found["policy"] == "preprov live"
    return found


def warm(documents: list[dict[str, Any]]) -> float:
    return sum(live(d)["warm_hit_ratio"] for d in documents) / len(documents)


def policies(document: dict[str, Any]) -> list[str]:
    return [o["policy"] for o in document["outcomes"]]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("provider", ["aws", "gcp", "azure"])
def test_a_short_night_is_played_against_a_cloud(provider: str, tmp_path: Path) -> None:
    """The report's columns are those of the local night (`test_demo`)."""
    night = demo(tmp_path, "--provider", provider, *SHORT)
    assert (night["provider"], night["failed_instances"]) == (provider, 0)
    assert policies(night) == ["preprov live", "preprov", "reactive", "always-on", "clairvoyant"]
    assert night["api_calls"] > 20, "it was played against the cloud's API"
    assert live(night)["instances"] > 0
    assert live(night)["warm_hit_ratio"] > 0
    assert Path(night["report"]).exists()


@pytest.mark.skipif(
    not os.environ.get("PREPROV_LONG"), reason="a mean of three nights each takes long: PREPROV_LONG=1 plays them"
)
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("provider", ["aws", "gcp", "azure"])
def test_the_mean_of_three_nights_on_a_cloud_is_as_warm_as_on_local_nodes(
    provider: str, local: list[dict[str, Any]], tmp_path: Path
) -> None:
    played = nights(tmp_path, provider)
    for night, here in zip(played, local, strict=True):
        assert (night["provider"], night["failed_instances"]) == (provider, 0)
        assert night["api_calls"] > 100, "it was played against the cloud's API"
        assert policies(night) == policies(here)
        assert live(night)["warm_hit_ratio"] > night["outcomes"][2]["warm_hit_ratio"], "warmer than a reactive scaler"
    assert Path(played[-1]["report"]).exists()
    assert warm(played) >= warm(local) - WITHIN
