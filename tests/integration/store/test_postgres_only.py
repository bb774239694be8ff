"""What only a server can show: many processes, an outdated schema, a shared database, two databases that agree."""

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, text

from preprov.contracts import Reject, SourceBatch
from preprov.model.errors import OverbookedError, ReservationError, StoreError, StoreUnavailableError
from preprov.model.resources import Resources
from preprov.store import migrate
from preprov.store.database import open_store
from preprov.store.engine import Database, resolve
from preprov.store.rows import Row
from preprov.testing.store_examples import A_DAG, POOL, T0, assert_same_work, claim, history, minutes
from tests.ledgertruth import peak
from tests.processes import join, start

ROOM = Resources(cpu=4, memory=4)


def test_both_databases_give_the_same_work_bit_for_bit(postgres_url: str, tmp_path: Path) -> None:
    tables = []
    for url in ("", postgres_url):
        store = open_store(url, tmp_path)
        work = store.ports().work
        batches = [SourceBatch(history(500, first=100 * i, seed=i), rejects=(Reject(1, "x"),)) for i in (3, 0, 1)]
        work.ingest(POOL, "k", "d", batches)
        run = work.submit(A_DAG, POOL, T0 + minutes(3.14159), run_id="live")
        assert run is not None
        tables.append(work.work(POOL, since=T0 + minutes(1)))
        store.close()
    assert_same_work(tables[1], tables[0])


def test_the_migrations_make_what_the_rows_say_and_go_up_down_up(postgres_url: str, tmp_path: Path) -> None:
    db = Database(resolve(postgres_url, tmp_path))
    for down in (False, True, False):
        migrate.move(db, "base" if down else "head", down=down)
    with db.engine.connect() as connection:
        options = {"version_table": migrate.VERSION_TABLE, "compare_type": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), Row.metadata) == []
    db.close()


def test_an_outdated_schema_is_left_to_its_owner(postgres_url: str, tmp_path: Path) -> None:
    open_store(postgres_url, tmp_path).close()
    engine = create_engine(resolve(postgres_url, tmp_path))
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {migrate.VERSION_TABLE} SET version_num = '0000'"))
    with pytest.raises(StoreError) as error:
        open_store(postgres_url, tmp_path)
    assert error.value.hint == "preprov db upgrade"
    store = open_store(postgres_url, tmp_path, check=False)
    assert store.current() == "0000"
    store.close()
    engine.dispose()


def test_a_database_shared_with_another_program_is_fine(postgres_url: str, tmp_path: Path) -> None:
    """Prefect and Airflow keep an `alembic_version` of their own, and tables named as ours might be."""
    engine = create_engine(resolve(postgres_url, tmp_path))
    with engine.begin() as connection:
        for statement in (
            "CREATE TABLE alembic_version (version_num varchar(32))",
            "INSERT INTO alembic_version VALUES ('theirs')",
            "CREATE TABLE task_run (id int)",
            "CREATE TABLE dag_run (id int)",
        ):
            connection.execute(text(statement))
    store = open_store(postgres_url, tmp_path)
    assert store.current() == migrate.HEAD
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "theirs"
        assert set(inspect(connection).get_table_names()) >= {"alembic_version", *Row.metadata.tables}
    store.close()
    engine.dispose()


def test_many_that_open_an_empty_database_at_once_all_get_it(postgres_url: str, tmp_path: Path) -> None:
    with ThreadPoolExecutor(6) as threads:
        stores = list(threads.map(lambda _: open_store(postgres_url, tmp_path), range(6)))
    assert {s.current() for s in stores} == {migrate.HEAD}
    for store in stores:
        store.close()


def test_a_wrong_database_name_is_explained(postgres_url: str, tmp_path: Path) -> None:
    missing = urlsplit(postgres_url)._replace(path="/nowhere").geturl().replace("postgres@", "postgres:hunter2@")
    with pytest.raises(StoreUnavailableError) as error:
        open_store(missing, tmp_path)
    assert "nowhere" in str(error.value)
    assert "hunter2" not in str(error.value)
    assert "\n" not in str(error.value)


def _client(url: str, home: str, number: int, rounds: int) -> None:
    """Claim, commit to whichever node has room, give every other one back."""
    store = open_store(url, Path(home))
    ledger = store.ports().ledger
    for i in range(rounds):
        name = f"c{number}-{i}"
        try:
            ledger.reserve(claim(name, claimant=f"shared-{i}" if i % 3 == 0 else "", at=T0 + minutes(i % 4)))
            ledger.commit(name, f"n{(number + i) % 3}", ROOM, T0)
        except (OverbookedError, ReservationError):
            continue
        if i % 2:
            ledger.release(name)
    store.close()


@pytest.mark.slow
def test_processes_that_claim_at_once_never_overbook_a_node(postgres_url: str, tmp_path: Path) -> None:
    open_store(postgres_url, tmp_path).close()
    calls = [(postgres_url, str(tmp_path), n, 40) for n in range(4)]
    assert join(start(_client, calls)) == [0] * 4
    _nothing_overbooked(postgres_url, tmp_path)


@pytest.mark.slow
def test_clients_that_are_killed_lose_nothing_and_block_nobody(postgres_url: str, tmp_path: Path) -> None:
    store = open_store(postgres_url, tmp_path)
    ledger = store.ports().ledger
    ledger.reserve(claim("before"))
    ledger.commit("before", "n0", ROOM, T0)
    clients = start(_client, [(postgres_url, str(tmp_path), n, 100_000) for n in range(3)])
    while len(ledger.reservations(live=False)) < 30:
        assert any(c.is_alive() for c in clients)
    for client in clients:
        os.kill(int(client.pid or 0), signal.SIGKILL)
    assert set(join(clients)) == {-signal.SIGKILL}
    assert "before" in {r.reservation_id for r in ledger.reservations(node_id="n0")}
    for r in ledger.reservations(node_id="n1"):
        ledger.release(r.reservation_id)
    ledger.reserve(claim("after"))
    assert ledger.commit("after", "n1", ROOM, T0).node_id == "n1"
    _nothing_overbooked(postgres_url, tmp_path)
    store.close()


def _nothing_overbooked(url: str, home: Path) -> None:
    store = open_store(url, home)
    live = store.ports().ledger.reservations(POOL)
    assert live
    assert len({r.claimant for r in live}) == len(live)
    for node in {r.node_id for r in live if r.node_id}:
        assert peak([r for r in live if r.node_id == node], T0, T0 + minutes(60)).fits_in(ROOM)
    store.close()


def test_two_threads_that_promote_leave_one_champion(postgres_url: str, tmp_path: Path) -> None:
    models = open_store(postgres_url, tmp_path).ports().models
    made = [models.save("p", "k", "json", b"[%d]" % i, at=T0 + minutes(i), metrics={}).version for i in range(4)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda v: models.promote(v, at=T0 + minutes(9), reason="race"), made * 3))
    assert sum(v.champion for v in models.versions("p")) == 1


def test_a_turn_is_made_once_however_many_ask(postgres_url: str, tmp_path: Path) -> None:
    from dataclasses import replace

    work = open_store(postgres_url, tmp_path).ports().work
    work.submit(replace(A_DAG, schedule="0 2 * * *"), POOL, T0)
    (schedule,) = work.schedules(POOL)
    with ThreadPoolExecutor(6) as threads:
        made = set(threads.map(lambda _: work.materialise(schedule, T0, T0).run_id, range(6)))
    assert len(made) == len(work.runs(POOL)) == 1


def test_one_file_ingested_by_many_at_once_is_ingested_once(
    postgres_database: Callable[[], str], tmp_path: Path
) -> None:
    work = open_store(postgres_database(), tmp_path).ports().work
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda _: work.ingest(POOL, "k", "d", [SourceBatch(history(9))]), range(4)))
    assert sorted(r.already for r in results) == [False, True, True, True]
    assert len(work.work(POOL).runs) == 9


@pytest.mark.parametrize("rested", [True, False])
def test_a_connection_that_the_server_ended_is_replaced(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rested: bool
) -> None:
    """One that has rested is asked first; of one just used the call says so, and the next is served."""
    monkeypatch.setattr("preprov.store.engine._RESTED_S", 0.0 if rested else 3600.0)
    store = open_store(postgres_url, tmp_path)
    ledger = store.ports().ledger
    assert ledger.reservations(POOL) == ()
    other = create_engine(resolve(postgres_url, tmp_path))
    with other.connect() as connection:
        mine = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = "
        connection.execute(text(mine + "current_database()"))
    if not rested:
        with pytest.raises(StoreUnavailableError):
            ledger.reservations(POOL)
    assert ledger.reservations(POOL) == ()
    other.dispose()
    store.close()
