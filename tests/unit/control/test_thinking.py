"""Threads that work out take turns, and wait for none too long."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from preprov.control import thinking as room
from preprov.control.thinking import thinking


def test_one_thread_thinks_at_a_time() -> None:
    inside: list[int] = []
    most: list[int] = []

    def think(number: int) -> None:
        with thinking():
            inside.append(number)
            most.append(len(inside))
            sum(range(20_000))  # long enough for another to come in, were it let
            inside.remove(number)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(think, range(64)))
    assert most == [1] * 64


def test_the_turn_may_be_taken_again_by_who_has_it() -> None:
    with thinking(), thinking():
        pass
    free: list[bool] = []

    def other() -> None:
        with thinking():
            free.append(True)

    with ThreadPoolExecutor(1) as threads:
        threads.submit(other).result(30)
    assert free


def test_who_has_waited_for_long_goes_on_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_PATIENCE_S", 0.01)
    holds, let_go, went_on = Event(), Event(), Event()

    def hold() -> None:
        with thinking():
            holds.set()
            let_go.wait(30)

    def impatient() -> None:
        with thinking():
            went_on.set()

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(hold)
        assert holds.wait(30)
        second = threads.submit(impatient)
        try:
            assert went_on.wait(30)
        finally:
            let_go.set()
        first.result(30)
        second.result(30)
