"""Tell preprov what happens, from a thread of its own: whoever tells never waits and never sees an error.

Only where a process ends, what is not told yet is waited for: once, for a second at the most, and not at all while
preprov is known not to answer.
"""

import atexit
import logging
import os
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

log = logging.getLogger(__name__)

MOST_WAITING = 2_000
MOST_AT_ONCE = 200
TIMEOUT_S = 5.0
_REST_S = 5.0
_REST_AT_MOST_S = 120.0
AT_EXIT_S = 1.0

Send = Callable[[list[Mapping[str, Any]]], object]


class Reporter:
    """Events wait in a queue of bounded length; when preprov does not answer for long, the newest are not taken.

    What is lost is no harm: preprov reads Airflow's own account of all runs, and events only make it quicker.
    """

    def __init__(self, send: Send, *, rest_s: float = _REST_S) -> None:
        """Start nothing yet: a process that tells nothing has no thread."""
        self._send = send
        self._rest_s = rest_s
        self._pid = 0
        self._lock = threading.Lock()
        self._begin()
        self.dropped = 0
        self.told = 0

    def _begin(self) -> None:
        self._queue: queue.Queue[Mapping[str, Any]] = queue.Queue(MOST_WAITING)
        self._stop = threading.Event()
        self._news = threading.Condition()
        self._open = 0
        self._silent = self._left = False

    def tell(self, event: Mapping[str, Any]) -> None:
        """Take an event; returns at once."""
        try:
            self._ensure_thread()
            with self._news:
                self._queue.put_nowait(event)
                self._open += 1
        except queue.Full:
            self.dropped += 1
            if self.dropped in (1, 100, 10_000):
                log.warning("preprov does not answer: %d events were not kept", self.dropped)
        except Exception:
            log.debug("an event was not taken", exc_info=True)

    def flush(self, seconds: float) -> bool:
        """Wait until all is told, for so long at most."""
        if self._pid != os.getpid():
            return True
        with self._news:
            return self._news.wait_for(lambda: not self._open, seconds)

    def leave(self, seconds: float = AT_EXIT_S) -> None:
        """The process ends: wait until all is told or preprov is seen to be silent, so long at most, and only once."""
        if self._pid != os.getpid():
            return
        with self._news:
            if not self._left:
                self._left = not self._news.wait_for(lambda: not self._open or self._silent, seconds)

    def _note(self, *, silent: bool, done: int = 0) -> None:
        with self._news:
            self._silent = silent
            self._open -= done
            self._news.notify_all()

    def _ensure_thread(self) -> None:
        """A thread of this process: one does not survive a fork."""
        if self._pid == os.getpid():
            return
        with self._lock:
            if self._pid != os.getpid():
                self._begin()
                threading.Thread(target=self._run, name="preprov-reporter", daemon=True).start()
                atexit.register(self.leave)
                self._pid = os.getpid()

    def _run(self) -> None:
        while not self._stop.is_set():
            batch = [self._queue.get()]
            while len(batch) < MOST_AT_ONCE:
                try:
                    batch.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            parts = [batch]
            while parts:
                parts += reversed(self._told(parts.pop()))

    def _told(self, batch: list[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
        """Tell until it is heard; parts that have to be told again, where one event spoilt it for the others."""
        rest = self._rest_s
        while not self._stop.is_set():
            try:
                self._send(batch)
            except PermanentError as error:
                if error.of_one and len(batch) > 1:
                    half = len(batch) // 2
                    return [batch[:half], batch[half:]]
                log.warning("preprov refuses %d events: %s", len(batch), error)
                break
            except Exception as error:
                self._note(silent=True)
                log.info("preprov does not answer (%s); told again in %.0f s", error, rest)
                self._stop.wait(rest)
                rest = min(rest * 2, _REST_AT_MOST_S)
            else:
                self.told += len(batch)
                break
        self._note(silent=False, done=len(batch))
        return []


class PermanentError(Exception):
    """Telling it again would not help. `of_one`: without one of the events it might."""

    def __init__(self, why: str, *, of_one: bool = False) -> None:
        super().__init__(why)
        self.of_one = of_one
