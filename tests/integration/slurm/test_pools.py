"""Cloud nodes of a real Slurm, over the local provider, against the suite every provider passes."""

import pytest

from preprov.testing.pool_contract import PoolContract
from tests.slurmworld import SlurmWorld


class TestRealSlurm(PoolContract):
    @pytest.fixture
    def world(self, world: SlurmWorld) -> SlurmWorld:  # type: ignore[override]
        return world
