"""Recurring windows in memory."""

from preprov.model.windows import RecurringWindow


class MemoryWindows:
    """WindowStore in memory."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str, str], RecurringWindow] = {}

    def put(self, window: RecurringWindow) -> None:
        """Keep it."""
        self._rows[window.pool, window.tenant, window.name] = window

    def add(self, window: RecurringWindow) -> RecurringWindow:
        """Keep it, unless there is one; the one that is kept."""
        return self._rows.setdefault((window.pool, window.tenant, window.name), window)

    def remove(self, pool: str, tenant: str, name: str) -> bool:
        """Forget it; False if there is none."""
        return self._rows.pop((pool, tenant, name), None) is not None

    def windows(self, pool: str | None = None, tenant: str | None = None) -> tuple[RecurringWindow, ...]:
        """By pool, tenant and name."""
        found = (w for w in self._rows.values() if pool in (None, w.pool) and tenant in (None, w.tenant))
        return tuple(sorted(found, key=lambda w: (w.pool, w.tenant, w.name)))
