"""The port for recurring windows."""

from sqlmodel import col, select

from preprov.model.windows import RecurringWindow
from preprov.store.codec import dump, load
from preprov.store.engine import Database
from preprov.store.rows import WindowRow


class SqlWindowStore:
    """Implements `contracts.WindowStore`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def put(self, window: RecurringWindow) -> None:
        """Keep it, in place of an earlier one of that pool, tenant and name."""
        with self._db.write(f"windows:{window.pool}") as session:
            session.merge(_row(window))

    def add(self, window: RecurringWindow) -> RecurringWindow:
        """Keep it, unless there is one of that pool, tenant and name; returns the one that is kept."""
        with self._db.write(f"windows:{window.pool}") as session:
            held = session.get(WindowRow, (window.pool, window.tenant, window.name))
            if held is not None:
                return load(RecurringWindow, held.document)
            session.add(_row(window))
            return window

    def remove(self, pool: str, tenant: str, name: str) -> bool:
        """Forget it; False if there is none."""
        with self._db.write(f"windows:{pool}") as session:
            row = session.get(WindowRow, (pool, tenant, name))
            if row is None:
                return False
            session.delete(row)
            return True

    def windows(self, pool: str | None = None, tenant: str | None = None) -> tuple[RecurringWindow, ...]:
        """By pool, tenant and name."""
        wanted = select(WindowRow.document).order_by(col(WindowRow.pool), col(WindowRow.tenant), col(WindowRow.name))
        if pool is not None:
            wanted = wanted.where(col(WindowRow.pool) == pool)
        if tenant is not None:
            wanted = wanted.where(col(WindowRow.tenant) == tenant)
        with self._db.read() as session:
            return tuple(load(RecurringWindow, document) for document in session.exec(wanted).all())


def _row(window: RecurringWindow) -> WindowRow:
    return WindowRow(pool=window.pool, tenant=window.tenant, name=window.name, document=dump(window))
