"""The store on PostgreSQL keeps the contract."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from preprov.contracts import Ports
from preprov.store.database import open_store
from preprov.store.engine import resolve
from preprov.store.rows import Row
from preprov.testing.store_contract import StoreContract


@pytest.fixture(scope="module")
def url(postgres_database: Callable[[], str]) -> str:
    return postgres_database()


class TestPostgres(StoreContract):
    @pytest.fixture
    def ports(self, url: str, tmp_path: Path) -> Iterator[Ports]:
        store = open_store(url, tmp_path)
        yield store.ports()
        store.close()
        engine = create_engine(resolve(url, tmp_path))
        with engine.begin() as connection:
            tables = ", ".join(f'"{name}"' for name in Row.metadata.tables)
            connection.execute(text(f"TRUNCATE {tables} RESTART IDENTITY CASCADE"))
        engine.dispose()
