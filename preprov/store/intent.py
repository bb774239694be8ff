"""The port for what people asked for at run time."""

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime

from sqlmodel import col, delete, select

from preprov.model.pools import Mode, Override
from preprov.store.engine import Database
from preprov.store.rows import DrainRow, HaltRow, OverrideRow, PoolModeRow


class SqlIntentStore:
    """Implements `contracts.IntentStore`. Halts and modes are rows added, so that who asked for what stays known."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def halted(self) -> str:
        """Reason if all writes are stopped, else ""."""
        with self._db.read() as session:
            return session.exec(select(HaltRow.reason).order_by(col(HaltRow.id).desc()).limit(1)).first() or ""

    def set_halt(self, reason: str, *, actor: str, at: datetime) -> None:
        """Stop all writes ("" = go on)."""
        with self._db.write() as session:
            session.add(HaltRow(reason=reason, actor=actor, at=at))

    def mode(self, pool: str, now: datetime) -> Mode | None:
        """A mode set at run time that has not expired."""
        last = select(PoolModeRow).where(col(PoolModeRow.pool) == pool).order_by(col(PoolModeRow.id).desc()).limit(1)
        with self._db.read() as session:
            row = session.exec(last).first()
        if row is None or (row.until is not None and row.until <= now):
            return None
        return Mode(row.mode)

    def set_mode(self, pool: str, mode: Mode, until: datetime | None, *, actor: str, at: datetime) -> None:
        """Set the mode until an instant."""
        with self._db.write() as session:
            session.add(PoolModeRow(pool=pool, mode=str(mode), until=until, actor=actor, at=at))

    def overrides(self, pool: str, at: datetime) -> tuple[Override, ...]:
        """Floors in force."""
        wanted = select(OverrideRow).where(
            col(OverrideRow.pool) == pool, col(OverrideRow.since) <= at, col(OverrideRow.until) > at
        )
        with self._db.read() as session:
            rows = session.exec(wanted.order_by(col(OverrideRow.id))).all()
        return tuple(Override(r.pool, r.floor, r.since, r.until, r.reason) for r in rows)

    def add_override(self, override: Override) -> None:
        """Keep a floor, once."""
        made = OverrideRow(**asdict(override))
        same = select(OverrideRow).where(
            *(getattr(OverrideRow, name) == value for name, value in asdict(override).items())
        )
        with self._db.write(f"override:{override.pool}") as session:
            if session.exec(same).first() is None:
                session.add(made)

    def drains(self, pool: str) -> frozenset[str]:
        """Node ids a person asked to drain ("*" = all)."""
        with self._db.read() as session:
            return frozenset(session.exec(select(DrainRow.node_id).where(col(DrainRow.pool) == pool)).all())

    def set_drain(self, pool: str, node_ids: Iterable[str]) -> None:
        """Replace the set."""
        with self._db.write(f"drain:{pool}") as session:
            session.exec(delete(DrainRow).where(col(DrainRow.pool) == pool))
            session.add_all(DrainRow(pool=pool, node_id=n) for n in dict.fromkeys(node_ids))
