"""The port for what was told of work that runs elsewhere."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, func
from sqlmodel import col, select

from preprov.model.events import Event
from preprov.store.codec import dump, load
from preprov.store.engine import Database
from preprov.store.rows import EventRow


class SqlEventStore:
    """Implements `contracts.EventStore`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def record(self, events: Sequence[Event]) -> tuple[bool, ...]:
        """Keep them; one flag each: False if it was told before."""
        with self._db.write(*(f"events:{e.tenant}:{e.source}" for e in events)) as session:
            new = []
            for e in events:
                same = select(EventRow.id).where(
                    col(EventRow.tenant) == e.tenant,
                    col(EventRow.source) == e.source,
                    col(EventRow.event_id) == e.event_id,
                )
                new.append(session.exec(same).first() is None)
                if new[-1]:
                    session.add(
                        EventRow(
                            tenant=e.tenant,
                            source=e.source,
                            event_id=e.event_id,
                            run_id=e.run_id,
                            at=e.at,
                            document=dump(e),
                        )
                    )
                    session.flush()
            return tuple(new)

    def forget(self, before: datetime) -> int:
        """Drop what happened before then; the last row stays, for SQLite counts on from the highest number there is."""
        table = EventRow.__table__  # type: ignore[attr-defined]
        last = select(func.max(table.c.id)).scalar_subquery()
        with self._db.write() as session:
            gone = delete(table).where(table.c.at < before, table.c.id < last)
            return int(session.connection().execute(gone).rowcount)

    def events(
        self, tenant: str | None = None, *, run_id: str | None = None, after: int = 0, limit: int = 1000
    ) -> tuple[tuple[int, Event], ...]:
        """(number, event) in the order told."""
        wanted = select(EventRow.id, EventRow.document).where(col(EventRow.id) > after)
        if tenant is not None:
            wanted = wanted.where(col(EventRow.tenant) == tenant)
        if run_id is not None:
            wanted = wanted.where(col(EventRow.run_id) == run_id)
        with self._db.read() as session:
            rows = session.exec(wanted.order_by(col(EventRow.id)).limit(limit)).all()
        return tuple((number or 0, load(Event, document)) for number, document in rows)
