"""Opening a store: which address, which schema, and how it fails."""

import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from preprov.model.errors import StoreError, StoreUnavailableError
from preprov.store import engine, migrate
from preprov.store.database import Store, open_store
from preprov.store.engine import Database, resolve
from tests.processes import join, start

AT = datetime(2025, 1, 1, tzinfo=UTC)
pytestmark = pytest.mark.usefixtures("migrations")


def test_a_fresh_store_is_made_ready(tmp_path: Path) -> None:
    store = open_store("", tmp_path / "deep" / "home")
    assert store.current() == store.head == migrate.HEAD
    assert (tmp_path / "deep" / "home" / "preprov.db").exists()
    assert store.ports().work.runs() == ()


def test_an_address_may_name_another_file(tmp_path: Path) -> None:
    open_store(f"sqlite:///{tmp_path}/elsewhere/x.db", tmp_path / "home").close()
    assert (tmp_path / "elsewhere" / "x.db").exists()
    assert not (tmp_path / "home" / "preprov.db").exists()


def test_what_was_stored_is_there_when_opened_again(tmp_path: Path) -> None:
    first = open_store("", tmp_path)
    first.ports().intent.set_halt("stop", actor="ann", at=AT)
    first.close()
    assert open_store("", tmp_path).ports().intent.halted() == "stop"


def test_the_embedded_store_keeps_a_log_and_waits_for_its_turn(store: Store) -> None:
    with store._db.read() as session:
        pragmas = {p: session.execute(text(f"PRAGMA {p}")).scalar() for p in ("journal_mode", "busy_timeout")}
    assert pragmas == {"journal_mode": "wal", "busy_timeout": 30_000}


@pytest.mark.parametrize(
    "url", ["mysql://u:hunter2@h/d", "nonsense", "sqlite://", "sqlite:///:memory:", "://", "x://y"]
)
def test_an_address_that_will_not_do_is_explained(url: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError) as error:
        open_store(url, tmp_path)
    assert error.value.hint.startswith("sqlite:////")
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2"])
def test_postgresql_is_spoken_to_through_psycopg_3(scheme: str, tmp_path: Path) -> None:
    assert resolve(f"{scheme}://u@h/d", tmp_path).drivername == "postgresql+psycopg"


def test_a_server_that_does_not_answer_is_one_paragraph_without_the_password(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError) as error:
        open_store("postgresql://ann:hunter2@127.0.0.1:1/preprov?sslpassword=opensesame", tmp_path)
    told = str(error.value)
    assert "hunter2" not in told
    assert "opensesame" not in told
    assert "\n" not in told
    assert "ann:***@127.0.0.1:1" in error.value.where
    assert "PREPROV_STORE__URL" in error.value.hint
    assert error.value.retryable


def test_a_writer_that_waits_too_long_may_try_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = sqlite3.connect(str(store._db.url.database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_MS", 20)
    impatient = open_store(f"sqlite:///{store._db.url.database}", tmp_path)
    with pytest.raises(StoreUnavailableError, match="another process was writing") as error:
        impatient.ports().votes.replace("p", {})
    assert error.value.retryable
    assert impatient.ports().votes.votes("p") == {}
    other.execute("ROLLBACK")
    impatient.ports().votes.replace("p", {"n": AT})
    assert store.ports().votes.votes("p") == {"n": AT}


def test_a_folder_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailableError, match="folder"):
        open_store("", tmp_path / "file" / "home")


def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "preprov.db").write_bytes(b"these are my notes, not a database" * 100)
    with pytest.raises(StoreError, match="not a database"):
        open_store("", tmp_path)
    assert (tmp_path / "preprov.db").read_bytes().startswith(b"these are my notes")


def test_a_store_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    open_store("", tmp_path).close()
    with sqlite3.connect(tmp_path / "preprov.db") as raw:
        raw.execute(f"UPDATE {migrate.VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(StoreError, match="newer") as error:
        open_store("", tmp_path)
    assert "upgrade preprov" in error.value.hint
    assert open_store("", tmp_path, check=False).current() == "9999"


def test_an_embedded_store_of_an_earlier_program_is_brought_up_to_date(tmp_path: Path) -> None:
    db = Database(resolve("", tmp_path))
    migrate.move(db)
    migrate.move(db, "base", down=True)
    db.close()
    store = open_store("", tmp_path)
    assert store.current() == migrate.HEAD


def test_upgrading_twice_is_upgrading_once(store: Store) -> None:
    assert store.upgrade() == store.upgrade() == migrate.HEAD


def _open_and_write(home: str, name: str) -> None:
    store = open_store("", Path(home))
    for i in range(5):
        store.ports().votes.replace(f"{name}-{i}", {"n": AT})
    store.close()


@pytest.mark.slow
def test_processes_that_open_a_fresh_store_at_once_all_get_it(tmp_path: Path) -> None:
    assert join(start(_open_and_write, [(str(tmp_path), f"p{i}") for i in range(4)])) == [0] * 4
    votes = open_store("", tmp_path).ports().votes
    assert all(votes.votes(f"p{p}-{i}") == {"n": AT} for p in range(4) for i in range(5))
