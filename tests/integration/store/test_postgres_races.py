"""A change of one reservation holds no lock between reading and writing: what comes in between is never undone."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sqlalchemy import Engine, create_engine, text

from preprov.model.reservations import ReservationState
from preprov.model.resources import Resources
from preprov.store.database import open_store
from preprov.store.engine import resolve
from preprov.testing.store_examples import T0, claim, minutes

ROOM = Resources(cpu=4, memory=4)
THEIRS = "UPDATE reservation SET state = 'released', reason = 'theirs' WHERE reservation_id = 'a'"
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


def until_somebody_waits(engine: Engine) -> None:
    """Until a transaction of this database waits for another."""
    end = time.monotonic() + 30
    with engine.connect() as connection:
        while not connection.execute(text(WAITING)).scalar():
            assert time.monotonic() < end, "nobody waits"
            connection.rollback()  # a transaction sees the activity of its first look


def test_a_change_that_was_forestalled_is_made_on_what_is_there_then(postgres_url: str, tmp_path: Path) -> None:
    store = open_store(postgres_url, tmp_path)
    ledger = store.ports().ledger
    ledger.reserve(claim("a"))
    ledger.commit("a", "n0", ROOM, T0)
    engine = create_engine(resolve(postgres_url, tmp_path))
    with ThreadPoolExecutor(1) as threads:
        with engine.begin() as other:
            other.execute(text(THEIRS))
            mine = threads.submit(ledger.rebook, "a", T0 + minutes(9), "its node is gone")
            until_somebody_waits(engine)
        after = mine.result(timeout=30)
    assert (after.state, after.reason, after.node_id) == (ReservationState.RELEASED, "theirs", "n0")
    assert ledger.get("a") == (after,)
    engine.dispose()
    store.close()


def test_a_change_goes_on_if_the_other_one_is_taken_back(postgres_url: str, tmp_path: Path) -> None:
    store = open_store(postgres_url, tmp_path)
    ledger = store.ports().ledger
    ledger.reserve(claim("a"))
    ledger.commit("a", "n0", ROOM, T0)
    engine = create_engine(resolve(postgres_url, tmp_path))
    with ThreadPoolExecutor(1) as threads:
        with engine.connect() as other:
            other.execute(text(THEIRS))
            mine = threads.submit(ledger.release, "a", "mine")
            until_somebody_waits(engine)
            other.rollback()
        after = mine.result(timeout=30)
    assert (after.state, after.reason) == (ReservationState.RELEASED, "mine")
    assert ledger.get("a") == (after,)
    engine.dispose()
    store.close()


def test_a_claim_by_one_statement_leaves_nothing_where_it_is_refused(postgres_url: str, tmp_path: Path) -> None:
    store = open_store(postgres_url, tmp_path)
    ledger = store.ports().ledger
    first = ledger.reserve(claim("a", claimant="x"))
    assert ledger.reserve(claim("b", claimant="x")) == first
    assert [r.reservation_id for r in ledger.reservations(live=False)] == ["a"]
    assert ledger.reserve(claim("c", claimant="y")).reservation_id == "c", "the connection goes on"
    store.close()
