"""The Google Cloud provider, through the real SDK over HTTP, against the suite every provider passes."""

from collections.abc import Iterator

import pytest

from preprov.testing.pool_contract import PoolContract
from tests.gcpworld import GcpWorld, gcp_world


class TestGcp(PoolContract):
    @pytest.fixture
    def world(self) -> Iterator[GcpWorld]:
        with gcp_world() as world:
            yield world
