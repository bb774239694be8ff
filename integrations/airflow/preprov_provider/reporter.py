"""Tell preprov what happens, from a thread of its own: whoever tells never waits and never sees an error."""

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
_AT_EXIT_S = 2.0

Send = Callable[[list[Mapping[str, Any]]], object]


class Reporter:
    """Events wait in a queue of bounded length; when preprov does not answer for long, the newest are not taken.

    What is lost is no harm: preprov reads Airflow's own account of all runs, and events only make it quicker.
    """

    def __init__(self, send: Send, *, rest_s: float = _REST_S) -> None:
        """Start nothing yet: a process that tells nothing has no thread."""
        self._send = send
        self._rest_s = rest_s
        self._queue: queue.Queue[Mapping[str, Any]] = queue.Queue(MOST_WAITING)
        self._pid = 0
        self._lock = threading.Lock()
        self._idle = threading.Event()
        self._stop = threading.Event()
        self.dropped = 0
        self.told = 0

    def tell(self, event: Mapping[str, Any]) -> None:
        """Take an event; returns at once."""
        try:
            self._ensure_thread()
            self._idle.clear()
            self._queue.put_nowait(event)
        except queue.Full:
            self.dropped += 1
            if self.dropped in (1, 100, 10_000):
                log.warning("preprov does not answer: %d events were not kept", self.dropped)
        except Exception:
            log.debug("an event was not taken", exc_info=True)

    def flush(self, seconds: float) -> bool:
        """Wait until all is told, for so long at most."""
        return self._pid != os.getpid() or self._idle.wait(seconds)

    def _ensure_thread(self) -> None:
        """A thread of this process: one does not survive a fork."""
        if self._pid == os.getpid():
            return
        with self._lock:
            if self._pid != os.getpid():
                self._queue = queue.Queue(MOST_WAITING)
                self._idle, self._stop = threading.Event(), threading.Event()
                threading.Thread(target=self._run, name="preprov-reporter", daemon=True).start()
                atexit.register(self.flush, _AT_EXIT_S)
                self._pid = os.getpid()

    def _run(self) -> None:
        rest = self._rest_s
        while not self._stop.is_set():
            batch = [self._queue.get()]
            while len(batch) < MOST_AT_ONCE:
                try:
                    batch.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            while not self._stop.is_set():
                try:
                    self._send(batch)
                    self.told += len(batch)
                    rest = self._rest_s
                    break
                except PermanentError as error:
                    log.warning("preprov refuses %d events: %s", len(batch), error)
                    break
                except Exception as error:
                    log.info("preprov does not answer (%s); told again in %.0f s", error, rest)
                    self._stop.wait(rest)
                    rest = min(rest * 2, _REST_AT_MOST_S)
            if self._queue.empty():
                self._idle.set()


class PermanentError(Exception):
    """Telling it again would not help."""
