"""The smallest source there can be keeps the contract, into every store."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from preprov.contracts import Ports
from preprov.sim.ports import memory_ports
from preprov.store.database import open_store
from preprov.testing.listed import ListedPlace
from preprov.testing.live_source_contract import LiveSourceContract, Place


class TestListed(LiveSourceContract):
    @pytest.fixture
    def place(self) -> Place:
        return ListedPlace()

    @pytest.fixture(params=["memory", "sqlite"])
    def ports(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ports]:
        if request.param == "memory":
            yield memory_ports()
            return
        store = open_store("", tmp_path)
        yield store.ports()
        store.close()
