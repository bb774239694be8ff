"""One pass over a pool at a time, among threads, processes and the dead."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
import structlog

from preprov.model.errors import LeaseHeldError, StoreUnavailableError
from preprov.store.database import Store, open_store
from preprov.testing.store_examples import POOL, T0, minutes
from tests.processes import join, start


def test_of_many_threads_one_holds_the_lease(store: Store) -> None:
    leases = store.ports().leases
    together = Barrier(6)

    def try_it(i: int) -> bool:
        try:
            together.wait()
            with leases.hold(POOL, f"t{i}", 60, T0):
                together.wait()
        except LeaseHeldError:
            together.wait()
            return False
        return True

    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(try_it, range(6))) == 1


def test_a_refusal_says_who_and_until_when(store: Store) -> None:
    leases = store.ports().leases
    with leases.hold(POOL, "host-a:17", 60, T0), pytest.raises(LeaseHeldError) as error, leases.hold(POOL, "b", 60, T0):
        pass
    assert "host-a:17" in str(error.value)
    assert "12:01:00" in str(error.value)
    assert error.value.retryable


def _die_holding(home: str) -> None:
    held = open_store("", Path(home)).ports().leases.hold(POOL, "the dead", 60, T0)
    held.__enter__()
    os._exit(9)


@pytest.mark.slow
def test_a_dead_holders_lease_expires(tmp_path: Path) -> None:
    assert join(start(_die_holding, [(str(tmp_path),)])) == [9]
    leases = open_store("", tmp_path).ports().leases
    with pytest.raises(LeaseHeldError, match="the dead"), leases.hold(POOL, "next", 60, T0 + minutes(0.5)):
        pass
    with leases.hold(POOL, "next", 60, T0 + minutes(1)):
        pass


def test_a_database_that_goes_away_does_not_hide_how_the_pass_went(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: str) -> None:
        raise StoreUnavailableError("the database does not answer")

    def work() -> None:
        with store.ports().leases.hold(POOL, "a", 60, T0):
            monkeypatch.setattr(store._db, "write", gone)
            raise ValueError("what really happened")

    with structlog.testing.capture_logs() as logs, pytest.raises(ValueError, match="really"):
        work()
    assert logs[0]["event"] == "lease not given back"
