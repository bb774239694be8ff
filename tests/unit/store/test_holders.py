"""A lease of a process that was killed is free at once; any other has to run out."""

import multiprocessing
import os
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest

from preprov.model.errors import LeaseHeldError
from preprov.store.database import open_store
from preprov.store.holders import is_dead, process_name

NOW = datetime(2025, 3, 3, tzinfo=UTC)


def hold_and_die(home: str) -> None:
    leases = open_store("", Path(home)).ports().leases
    with leases.hold("p", process_name(), 600, NOW):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_the_lease_of_a_killed_process_is_taken_over(preprov_home):
    child = multiprocessing.get_context("fork").Process(target=hold_and_die, args=(str(preprov_home),))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    store = open_store("", preprov_home)
    with store.ports().leases.hold("p", process_name(), 600, NOW):
        pass
    store.close()


@pytest.mark.parametrize("holder", ["somebody", "other-host:pid:[1]:12:34", ""])
def test_who_cannot_be_looked_up_is_not_declared_dead(preprov_home, holder):
    assert not is_dead(holder)
    store = open_store("", preprov_home)
    leases = store.ports().leases
    with leases.hold("p", holder, 600, NOW), pytest.raises(LeaseHeldError), leases.hold("p", "me", 600, NOW):
        pass
    store.close()


def test_this_process_is_alive_and_a_later_one_of_its_pid_is_another():
    mine = process_name()
    assert not is_dead(mine)
    head, _, started = mine.rpartition(":")
    assert is_dead(f"{head}:{int(started) + 1}")
