"""Promises in memory."""

from datetime import datetime

from preprov.model.promises import Promise


class MemoryPromises:
    """PromiseStore in memory."""

    def __init__(self) -> None:
        self._rows: dict[str, Promise] = {}

    def save(self, promise: Promise) -> None:
        """Keep it, by promise_id."""
        self._rows[promise.promise_id] = promise

    def promises(self, pool: str, *, until: datetime | None = None) -> tuple[Promise, ...]:
        """Newest first."""
        found = [p for p in self._rows.values() if p.pool == pool and (until is None or p.at <= until)]
        by_id = sorted(found, key=lambda p: p.promise_id)
        return tuple(sorted(by_id, key=lambda p: p.at, reverse=True))
