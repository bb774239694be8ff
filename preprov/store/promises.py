"""The port for promises."""

from datetime import datetime

from sqlmodel import col, select

from preprov.model.promises import Promise
from preprov.store.codec import dump, load
from preprov.store.engine import Database
from preprov.store.rows import PromiseRow


class SqlPromiseStore:
    """Implements `contracts.PromiseStore`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def save(self, promise: Promise) -> None:
        """Keep it, by promise_id."""
        with self._db.write(f"promise:{promise.pool}") as session:
            session.merge(
                PromiseRow(promise_id=promise.promise_id, pool=promise.pool, at=promise.at, document=dump(promise))
            )

    def promises(self, pool: str, *, until: datetime | None = None) -> tuple[Promise, ...]:
        """Newest first."""
        wanted = select(PromiseRow.document).where(col(PromiseRow.pool) == pool)
        if until is not None:
            wanted = wanted.where(col(PromiseRow.at) <= until)
        with self._db.read() as session:
            rows = session.exec(wanted.order_by(col(PromiseRow.at).desc(), col(PromiseRow.promise_id))).all()
        return tuple(load(Promise, document) for document in rows)
