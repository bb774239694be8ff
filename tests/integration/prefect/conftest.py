"""Prefect on PostgreSQL, as its makers advise where several clients write; on SQLite it stands still for a minute."""

from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

from tests.postgres import system_binaries


@pytest.fixture(scope="module")
def prefect_on_postgres(postgres_database: Callable[[], str]) -> Iterator[None]:
    """Every Prefect server that the module starts keeps its runs there."""
    if system_binaries() is None:
        pytest.skip("no PostgreSQL of the system's: Prefect wants pg_trgm, and the packaged one is without")
    address = urlsplit(postgres_database())._replace(scheme="postgresql+asyncpg").geturl()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", address)
        yield
