"""Sources by their names: which of them count, what they said, and a name that is taken back or given anew."""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, delete, update
from sqlmodel import Session, SQLModel, col, select

from preprov.contracts import kept_notes
from preprov.model.errors import StoreError
from preprov.store import sourceruns
from preprov.store.engine import Database
from preprov.store.rows import ScheduleRow, SourceLimitRow, SourceNoteRow, SourceRow, SourceRunRow, SourceShapeRow

_SAID: Final = ":said"
"""Under this name, which no source can have, the store keeps what all of them said."""


@dataclass
class Counted:
    """Which sources count in this process. `names`: None = all."""

    names: frozenset[str] | None = None

    def aside(self, session: Session) -> frozenset[str]:
        """Those that do not: they were read once and are configured no more. What was told, unread, has other names."""
        if self.names is None:
            return frozenset()
        known = session.exec(select(SourceRow.source)).all()
        return frozenset(s for s in known if s not in self.names and "/" not in s and not s.startswith(":"))


def _of(table: type[SQLModel], source: str) -> ColumnElement[bool]:
    return col(table.source) == source  # type: ignore[attr-defined]


def said(session: Session) -> Mapping[str, tuple[tuple[datetime, str], ...]]:
    """Source -> its notes, the newest last."""
    rows = session.exec(select(SourceNoteRow).where(col(SourceNoteRow.source) == _SAID)).all()
    return {row.key: tuple((datetime.fromisoformat(at), text) for at, text in json.loads(row.value)) for row in rows}


def say(session: Session, source: str, notes: Sequence[str], at: datetime) -> None:
    """Keep what a pass said."""
    kept = kept_notes(said(session).get(source, ()), notes, at)
    text = json.dumps([(when.isoformat(), text) for when, text in kept], ensure_ascii=False)
    session.merge(SourceNoteRow(source=_SAID, key=source, value=text))


def _unsay(session: Session, source: str) -> None:
    row = session.get(SourceNoteRow, (_SAID, source))
    if row is not None:
        session.delete(row)


def folded(session: Session, pool: str, aside: Collection[str]) -> dict[int, Counter[str]]:
    """Block -> run id -> how many runs of that id in it were told by these sources."""
    out: dict[int, Counter[str]] = {}
    if aside:
        rows = session.exec(
            select(SourceRunRow.block, SourceRunRow.run_id).where(
                col(SourceRunRow.source).in_(sorted(aside)),
                col(SourceRunRow.pool) == pool,
                col(SourceRunRow.block).is_not(None),
            )
        ).all()
        for block, run_id in rows:
            out.setdefault(int(block or 0), Counter())[run_id] += 1
    return out


def forget(db: Database, source: str) -> int:
    """Drop all that a source told, its history too; returns how many runs."""
    with db.read() as session:
        pools = session.exec(select(SourceRunRow.pool).where(col(SourceRunRow.source) == source).distinct()).all()
    with db.write(f"source:{source}", *(f"work:{p}" for p in pools if p)) as session:
        runs = sourceruns.forget(session, source)
        for row in session.exec(select(ScheduleRow).where(col(ScheduleRow.source) == source)).all():
            session.delete(row)
        for table in (SourceNoteRow, SourceLimitRow, SourceShapeRow, SourceRow):
            session.execute(delete(table).where(_of(table, source)))
        _unsay(session, source)
        return runs


def rename(db: Database, old: str, new: str) -> None:
    """Give all that a source told another name; it is read again from the beginning.

    Raises:
        StoreError: something is held under the new name already, or nothing under the old one.
    """
    with db.write(f"source:{old}", f"source:{new}") as session:
        row = session.get(SourceRow, old)
        if row is None:
            raise StoreError(f"no source was ever read under the name {old!r}", hint="preprov source list")
        if session.get(SourceRow, new) is not None:
            raise StoreError(
                f"source {new} was read already: its runs stand under both names",
                hint=f"preprov source remove {old} drops what was read under the old one",
            )
        session.add(SourceRow(source=new, zone=row.zone, cursor="", read_at=row.read_at, pools=row.pools))
        for told in (SourceRunRow, SourceShapeRow, ScheduleRow):
            session.execute(update(told).where(_of(told, old)).values(source=new))
        for again in (SourceNoteRow, SourceLimitRow):  # told anew; what waits for a limit names its source
            session.execute(delete(again).where(_of(again, old)))
        _unsay(session, old)
        session.delete(row)
