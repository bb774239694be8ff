"""What every test relies on: a clean environment, the traces, deterministic examples, markers by folder."""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from preprov.store.database import Store

ROOT = Path(__file__).resolve().parent.parent

# Set before anything imports Prefect or a cloud's SDK, for they read the environment once.
_scratch = tempfile.mkdtemp(prefix="preprov-tests-")
_CLOUD_VARIABLES = ("AWS_", "GOOGLE_", "CLOUDSDK_", "AZURE_", "PREFECT_")
_KEPT = ("PREPROV_TRACES", "PREPROV_TEST_", "PREPROV_LONG")


def _clean_environment() -> None:
    """Take away what points at somebody's store, server or account; a test must never reach one."""
    for name in list(os.environ):
        if name.startswith((*_CLOUD_VARIABLES, "PREPROV_")) and not name.startswith(_KEPT):
            del os.environ[name]
    os.environ.update(
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        DO_NOT_TRACK="1",
        PREFECT_HOME=f"{_scratch}/prefect",
        AWS_CONFIG_FILE=os.devnull,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
        AWS_EC2_METADATA_DISABLED="true",
        AWS_DEFAULT_REGION="us-east-1",
        MOTO_EC2_LOAD_DEFAULT_AMIS="false",  # of each account; nobody asks for one of those
        CLOUDSDK_CONFIG=f"{_scratch}/gcloud",
        AZURE_CONFIG_DIR=f"{_scratch}/azure",
    )


_clean_environment()

# Suites that are shipped assert as the tests do: a failure shows what was compared.
_suites = [f.stem for f in (ROOT / "preprov" / "testing").glob("*_contract.py")]
pytest.register_assert_rewrite(*(f"preprov.testing.{name}" for name in (*_suites, "pool_tiers", "pool_world")))

# The same examples on every machine and in every run; CI looks at more of them.
settings.register_profile(
    "dev",
    max_examples=30,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("ci", settings.get_profile("dev"), max_examples=60, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything under tests/integration and tests/e2e, so that no test is left out of both runs.

    Whatever waits for a real component is given longer than it waits itself.
    """
    real = (ROOT / "tests" / "integration", ROOT / "tests" / "e2e")
    for item in items:
        if any(item.path.is_relative_to(folder) for folder in real):
            item.add_marker(pytest.mark.integration)
        if item.get_closest_marker("integration") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(900))


def pytest_unconfigure() -> None:
    """Remove the scratch folder of this process."""
    shutil.rmtree(_scratch, ignore_errors=True)


@pytest.fixture(autouse=True)
def preprov_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """PREPROV_HOME of this test alone; its path is short, for sockets live under it."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("PREPROV_HOME", str(home))
    return home


@pytest.fixture(scope="session", autouse=True)
def migrated_once() -> Iterator[Callable[["Store"], str]]:
    """An empty SQLite store gets the statements that the migrations came to for the first one, instead of running them.

    In this process only. Gives what runs them; a test of the migrations asks for `migrations`.
    """
    from preprov.store.database import Store, open_store

    migrate = Store.upgrade

    @cache
    def statements() -> list[str]:
        first = open_store(f"sqlite:///{_scratch}/first.db", Path(_scratch), check=False)
        migrate(first)
        first.close()
        with closing(sqlite3.connect(f"{_scratch}/first.db")) as made:
            return list(made.iterdump())[1:-1]  # without its BEGIN and COMMIT

    def upgrade(store: Store) -> str:
        if not store._db.is_sqlite:
            return migrate(store)
        with store._db.connection() as connection:
            empty = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar() == 0
            for statement in statements() if empty else ():
                connection.exec_driver_sql(statement)
        return store.head if empty else migrate(store)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "upgrade", upgrade)
        yield migrate


@pytest.fixture
def migrations(migrated_once: Callable[["Store"], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every store of this test is made by the migrations themselves."""
    monkeypatch.setattr("preprov.store.database.Store.upgrade", migrated_once)


@pytest.fixture
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models learn with few trees, where their number is not what is asked about: most of a fit's time goes there."""
    from preprov.demand.forecasting.registry import Effort

    monkeypatch.setattr(Effort.__init__, "__defaults__", (12, 1_500))


@pytest.fixture(scope="session")
def traces() -> Path:
    """The folder of public traces: $PREPROV_TRACES, ./traces or ../shared/data."""
    named = os.environ.get("PREPROV_TRACES")
    places = [Path(named)] if named else [ROOT / "traces", ROOT.parent / "shared" / "data"]
    for place in places:
        if place.is_dir():
            return place.resolve()
    pytest.skip(f"no traces in {' or '.join(map(str, places))}: set PREPROV_TRACES")
