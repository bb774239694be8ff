"""Random clients of a ledger in PostgreSQL: it answers as the obvious one does, whatever they ask for."""

from pathlib import Path

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import delete

from preprov.contracts import ReservationLedger
from preprov.store.database import open_store
from preprov.store.rows import ReservationRow
from tests.ledgermachine import SETTINGS, LedgerMachine


def test_the_ledger_tells_the_truth(postgres_url: str, tmp_path: Path) -> None:
    store = open_store(postgres_url, tmp_path)

    class PostgresLedger(LedgerMachine):
        def make(self) -> ReservationLedger:
            with store._db.write() as session:
                session.exec(delete(ReservationRow))
            return store.ports().ledger

    try:
        run_state_machine_as_test(PostgresLedger, settings=settings(SETTINGS, max_examples=12))
    finally:
        store.close()
