"""One thread of this process works out at a time; the others wait for clouds, or for their turn.

Python's threads take turns in any case. Those that fight for it from several cores take twice as long.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Final

_TURN: Final = RLock()
_PATIENCE_S: Final = 5.0


@contextmanager
def thinking() -> Iterator[None]:
    """Have the turn; call no cloud within. Who has waited for some seconds goes on without: a model may be learnt."""
    had = _TURN.acquire(timeout=_PATIENCE_S)
    try:
        yield
    finally:
        if had:
            _TURN.release()
