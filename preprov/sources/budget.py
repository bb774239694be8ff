"""How fast a place may be asked: never above a rate, and slower as soon as it answers slowly."""

import threading
from datetime import datetime, timedelta
from typing import Final

from preprov.contracts import Clock

_REST_AT_MOST_S: Final = 30.0


class RequestBudget:
    """Hands out turns to ask. Threads that share one share its rate.

    After an answer that took longer than a turn, the next turn comes after a rest as long as the answer took: whoever
    is slow is then asked half of the time at most, whatever rate is allowed.
    """

    def __init__(self, per_second: float, clock: Clock) -> None:
        """Allow `per_second` requests, evenly, on this clock."""
        self._gap = timedelta(seconds=1.0 / per_second)
        self._clock = clock
        self._lock = threading.Lock()
        self._next: datetime | None = None
        self.asked = 0

    def take(self) -> datetime:
        """Wait for a turn; returns when it began."""
        with self._lock:
            now = self._clock.now()
            turn = now if self._next is None else max(now, self._next)
            self._next = turn + self._gap
            self.asked += 1
        if turn > now:
            self._clock.sleep((turn - now).total_seconds())
        return turn

    def answered(self, began: datetime) -> None:
        """The answer to the question of that turn is there, or will not come."""
        now = self._clock.now()
        took = now - began
        if took > self._gap:
            self.rest(min(took.total_seconds(), _REST_AT_MOST_S))

    def rest(self, seconds: float) -> None:
        """Nobody has a turn for so long: it said so itself, or it is slow."""
        with self._lock:
            until = self._clock.now() + timedelta(seconds=seconds)
            self._next = until if self._next is None else max(self._next, until)
