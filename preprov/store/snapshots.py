"""The port for snapshots of pools over time."""

from datetime import datetime

from sqlmodel import col, select

from preprov.contracts import PoolSnapshot
from preprov.store.codec import dump, load
from preprov.store.engine import Database
from preprov.store.rows import SnapshotRow


class SqlHistoryStore:
    """Implements `contracts.HistoryStore`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def record(self, snapshot: PoolSnapshot) -> None:
        """Keep it. Idempotent by (pool, at)."""
        with self._db.write(f"snapshot:{snapshot.pool}") as session:
            session.merge(SnapshotRow(pool=snapshot.pool, at=snapshot.at, document=dump(snapshot)))

    def instants(self, pool: str, *, since: datetime) -> tuple[datetime, ...]:
        """When the pool was looked at."""
        wanted = select(SnapshotRow.at).where(col(SnapshotRow.pool) == pool, col(SnapshotRow.at) >= since)
        with self._db.read() as session:
            return tuple(session.exec(wanted.order_by(col(SnapshotRow.at))).all())

    def snapshots(
        self, pool: str, *, since: datetime | None = None, until: datetime | None = None
    ) -> tuple[PoolSnapshot, ...]:
        """In time order."""
        wanted = select(SnapshotRow.document).where(col(SnapshotRow.pool) == pool)
        if since is not None:
            wanted = wanted.where(col(SnapshotRow.at) >= since)
        if until is not None:
            wanted = wanted.where(col(SnapshotRow.at) <= until)
        with self._db.read() as session:
            documents = session.exec(wanted.order_by(col(SnapshotRow.at))).all()
        return tuple(load(PoolSnapshot, d) for d in documents)
