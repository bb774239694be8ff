"""The ledger against an obvious one, and under threads."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy.exc import IntegrityError

from preprov.contracts import ReservationLedger
from preprov.model.errors import OverbookedError, ReservationError
from preprov.model.reservations import ReservationState
from preprov.model.resources import Resources
from preprov.sim.ports import memory_ports
from preprov.store.database import Store, open_store
from preprov.store.rows import ReservationRow
from preprov.testing.store_examples import POOL, T0, claim, minutes
from tests.ledgermachine import SETTINGS, LedgerMachine

ROOM = Resources(cpu=4, memory=4)


class SqliteLedger(LedgerMachine):
    def make(self) -> ReservationLedger:
        self.folder = TemporaryDirectory()
        self.store = open_store("", Path(self.folder.name))
        return self.store.ports().ledger

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()


class MemoryLedgerMachine(LedgerMachine):
    def make(self) -> ReservationLedger:
        return memory_ports().ledger


TestSqliteLedger = pytest.mark.slow(SqliteLedger.TestCase)
TestSqliteLedger.settings = SETTINGS
TestMemoryLedger = pytest.mark.slow(MemoryLedgerMachine.TestCase)
TestMemoryLedger.settings = SETTINGS


def test_two_rows_of_one_claimant_cannot_be_written_even_past_the_port(store: Store) -> None:
    store.ports().ledger.reserve(claim("a", claimant="job"))

    def second(state: ReservationState) -> None:
        with store._db.write() as session:
            row = session.get_one(ReservationRow, 1).model_dump(exclude={"id"})
            session.add(ReservationRow(**(row | {"reservation_id": f"b-{state}", "state": str(state)})))

    second(ReservationState.RELEASED)
    with pytest.raises(Exception, match="UNIQUE") as error:
        second(ReservationState.COMMITTED)
    assert isinstance(error.value.__cause__, IntegrityError)


def test_threads_that_claim_at_once_get_what_there_is(store: Store) -> None:
    ledger = store.ports().ledger

    def take(i: int) -> bool:
        try:
            ledger.reserve(claim(f"r{i}"), ROOM)
            ledger.commit(f"r{i}", "n1", ROOM, T0)
        except OverbookedError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(take, range(12))) == 4
    assert len(ledger.reservations(node_id="n1")) == 4


def test_threads_with_one_claimant_get_one_claim(store: Store) -> None:
    ledger = store.ports().ledger
    with ThreadPoolExecutor(8) as threads:
        got = set(threads.map(lambda i: ledger.reserve(claim(f"r{i}", claimant="job")).reservation_id, range(12)))
    assert len(got) == 1


def test_a_claim_that_is_not_soft_is_not_taken(store: Store) -> None:
    made = replace(claim("r"), state=ReservationState.COMMITTED, node_id="n1")
    with pytest.raises(ReservationError, match="committed"):
        store.ports().ledger.reserve(made)


def test_a_refusal_says_what_is_short(store: Store) -> None:
    ledger = store.ports().ledger
    ledger.reserve(claim("a", cpu=3))
    ledger.commit("a", "n1", ROOM, T0)
    ledger.reserve(claim("b", cpu=3))
    with pytest.raises(OverbookedError) as error:
        ledger.commit("b", "n1", ROOM, T0)
    assert "cpu 6 of 4" in str(error.value)
    assert "n1" in error.value.where
    assert ledger.reservations(POOL)[1].state is ReservationState.SOFT


def test_a_minute_of_the_year_9999_is_kept_exactly(store: Store) -> None:
    far = datetime.max.replace(tzinfo=T0.tzinfo) - timedelta(days=1)
    made = claim("far", at=far - minutes(10))
    store.ports().ledger.reserve(made)
    assert store.ports().ledger.reservations() == (made,)
