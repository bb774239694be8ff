"""The Google Cloud provider, through the real SDK over HTTP, against the suite every provider passes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from preprov.testing.pool_contract import PoolContract
from tests.gcpworld import GcpWorld, gcp_world


class TestGcp(PoolContract):
    @pytest.fixture
    def world(self) -> Iterator[GcpWorld]:
        with gcp_world() as world:
            yield world


@pytest.mark.slow
@pytest.mark.integration
class TestGcpWithAgents(PoolContract):
    """Nodes are ready because a real agent verified them, and tasks are handed to it."""

    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[GcpWorld]:
        with gcp_world(tmp_path) as world:
            yield world
