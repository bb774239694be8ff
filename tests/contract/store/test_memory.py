"""The store in memory, on which replays run, keeps the same contract."""

import pytest

from preprov.contracts import Ports
from preprov.sim.ports import memory_ports
from preprov.testing.store_contract import StoreContract


class TestMemory(StoreContract):
    @pytest.fixture
    def ports(self) -> Ports:
        return memory_ports()
