"""Runs that were served here and are over are copied into history blocks, so that reading work stays fast for years.

Their rows stay, for who asks about one run; `work` no longer reads them.
"""

from typing import Final

from sqlalchemy import ColumnElement, exists, func, update
from sqlmodel import col, select

from preprov.model.worktable import WorkTable
from preprov.store import columns, history, live, livecolumns
from preprov.store.engine import Database
from preprov.store.rows import LiveRunRow, LiveTaskRow

FOLD_TASKS: Final = 5_000
_AT_ONCE: Final = 500


def fold(db: Database) -> int:
    """Copy what is over, of each pool in which it is worth a block; returns how many runs were."""
    with db.read() as session:
        pools = session.exec(
            select(LiveRunRow.pool)
            .where(*_over())
            .group_by(col(LiveRunRow.pool))
            .having(func.sum(col(LiveRunRow.task_count)) >= FOLD_TASKS)
        ).all()
    return sum(_fold_pool(db, pool) for pool in pools)


def _fold_pool(db: Database, pool: str) -> int:
    with db.write(f"work:{pool}") as session:
        ids = session.exec(select(LiveRunRow.id).where(col(LiveRunRow.pool) == pool, *_over(), ~_unsettled())).all()
        if not ids:
            return 0
        parts = [ids[i : i + _AT_ONCE] for i in range(0, len(ids), _AT_ONCE)]
        tables = [livecolumns.read_rows(session, [col(LiveRunRow.id).in_(part)]) for part in parts]
        history.add_blocks(session, pool, columns.by_submit(WorkTable.concat(tables)), None)
        table = LiveRunRow.__table__  # type: ignore[attr-defined]
        for part in parts:  # these very runs: others may have come to their end meanwhile
            session.connection().execute(update(table).where(table.c.id.in_(part)).values(folded=True))
        return len(ids)


def _over() -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return col(LiveRunRow.folded).is_(False), col(LiveRunRow.state).in_(live.FINAL)


def _unsettled() -> ColumnElement[bool]:
    """A task of the run was seen to start and not to end: its times may still come."""
    return exists().where(
        col(LiveTaskRow.run) == col(LiveRunRow.id),
        col(LiveTaskRow.started_at).is_not(None),
        col(LiveTaskRow.ended_at).is_(None),
        col(LiveTaskRow.state).not_in(live.FINAL),
    )
