"""The Azure provider, through the real SDK over HTTP, against the suite every provider passes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from preprov.testing.pool_contract import PoolContract
from tests.azureworld import AzureWorld, azure_world


class TestAzure(PoolContract):
    @pytest.fixture
    def world(self) -> Iterator[AzureWorld]:
        with azure_world() as world:
            yield world


@pytest.mark.integration
class TestAzureWithAgents(PoolContract):
    """Nodes are ready because a real agent verified them, and tasks are handed to it."""

    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[AzureWorld]:
        with azure_world(home=tmp_path) as world:
            yield world


class TestAzureStandbyPool(PoolContract):
    @pytest.fixture
    def world(self) -> Iterator[AzureWorld]:
        with azure_world("Deallocated") as world:
            yield world
