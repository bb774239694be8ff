"""The store on SQLite keeps the contract."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from preprov.contracts import Ports
from preprov.store.database import open_store
from preprov.testing.store_contract import StoreContract


class TestSqlite(StoreContract):
    @pytest.fixture
    def ports(self, tmp_path: Path) -> Iterator[Ports]:
        store = open_store("", tmp_path)
        yield store.ports()
        store.close()
