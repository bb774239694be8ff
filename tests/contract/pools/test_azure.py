"""The Azure provider, through the real SDK over HTTP, against the suite every provider passes."""

from collections.abc import Iterator

import pytest

from preprov.testing.pool_contract import PoolContract
from tests.azureworld import AzureWorld, azure_world


class TestAzure(PoolContract):
    @pytest.fixture
    def world(self) -> Iterator[AzureWorld]:
        with azure_world() as world:
            yield world
