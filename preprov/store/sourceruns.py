"""Runs of places where work lives: replaced by their id as long as they change, then folded into history blocks."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, bindparam, delete, func, insert, update
from sqlmodel import Session, col, select

from preprov.contracts import UNROUTED, RoutedBatch
from preprov.model.time import epoch
from preprov.model.worktable import WorkTable
from preprov.store import columns, history
from preprov.store.engine import Database
from preprov.store.rows import HistoryBlockRow, SourceRunRow
from preprov.store.runcodec import KeptRun, dump_runs, load_runs

FOLD_TASKS: Final = 5_000
SETTLED_S: Final = 3_600.0
"""A run is folded when nothing has happened in it for so long: until then it may be begun anew at no cost."""
UNROUTED_S: Final = 36 * 86_400.0
"""Work that no route takes is kept for so long."""
_SOME: Final = 500


@dataclass
class Counts:
    """Run ids by what became of them."""

    new: int = 0
    changed: int = 0
    same: int = 0
    gone: int = 0


@dataclass
class _Changes:
    """What is to be written."""

    insert: list[dict[str, Any]] = field(default_factory=list)
    update: list[dict[str, Any]] = field(default_factory=list)
    delete: list[int] = field(default_factory=list)
    unfold: dict[int, Counter[str]] = field(default_factory=dict)

    def drop(self, row: Any) -> None:
        self.delete.append(row.id)
        self.lift(row)

    def lift(self, row: Any) -> None:
        """Take a run out of its block, because it changes after all."""
        if row.block is not None:
            self.unfold.setdefault(row.block, Counter())[row.run_id] += 1


def apply(session: Session, source: str, batch: RoutedBatch) -> Counts:
    """Add, replace and drop the runs of a batch."""
    known = _known(session, source, (*batch.seen, *batch.gone))
    wanted = {(run.run_id, pool): run for pool, part in batch.parts.items() for run in dump_runs(part)}
    changes, counts, touched = _Changes(), Counts(), set()
    for (run_id, pool), run in wanted.items():
        values = _values(source, pool, run)
        row = known.get((run_id, pool))
        if row is None:
            changes.insert.append(values)
        elif (row.fingerprint, row.over) == (values["fingerprint"], run.over):
            continue
        else:
            changes.update.append({"at": row.id, **values})
            changes.lift(row)
        touched.add(run_id)
    seen, gone = set(batch.seen), set(batch.gone) - set(batch.seen)
    for (run_id, pool), row in known.items():
        if (run_id in seen and (run_id, pool) not in wanted) or run_id in gone:
            changes.drop(row)
            touched.add(run_id)
    before = {run_id for run_id, _ in known}
    counts.gone = len(gone & before)
    counts.new = len((seen & touched) - before)
    counts.changed = len(seen & touched & before)
    counts.same = len(seen - touched)
    _write(session, changes)
    return counts


def forget(session: Session, source: str) -> int:
    """Drop all runs of a source; returns how many there were."""
    fields = (SourceRunRow.id, SourceRunRow.run_id, SourceRunRow.block)
    rows = session.execute(select(*fields).where(col(SourceRunRow.source) == source)).all()  # type: ignore[type-var]
    changes = _Changes()
    for row in rows:
        changes.drop(row)
    _write(session, changes)
    return len({row.run_id for row in rows})


def _known(session: Session, source: str, run_ids: Sequence[str]) -> dict[tuple[str, str], Any]:
    """(run id, pool) -> what is held of it."""
    fields = (SourceRunRow.id, SourceRunRow.run_id, SourceRunRow.pool, SourceRunRow.fingerprint, SourceRunRow.over)
    out: dict[tuple[str, str], Any] = {}
    ids = list(dict.fromkeys(run_ids))
    for i in range(0, len(ids), _SOME):
        rows = session.execute(
            select(*fields, SourceRunRow.block).where(  # type: ignore[call-overload]
                col(SourceRunRow.source) == source, col(SourceRunRow.run_id).in_(ids[i : i + _SOME])
            )
        )
        out.update({(row.run_id, row.pool): row for row in rows})
    return out


def _values(source: str, pool: str, run: KeptRun) -> dict[str, Any]:
    return {
        "source": source,
        "run_id": run.run_id,
        "pool": pool,
        "dag_id": run.dag_id,
        "tenant": run.tenant,
        "submit": run.submit,
        "ended": run.ended,
        "over": run.over,
        "task_count": run.task_count,
        "fingerprint": hashlib.sha256(run.content.encode("utf-8", "surrogatepass")).hexdigest()[:16],
        "claims": _claims_text(run.claims),
        "content": run.content if pool != UNROUTED or run.holds else "",
        "block": None,
    }


def _claims_text(claims: Iterable[tuple[str, int, float]]) -> str:
    return json.dumps([list(c) for c in claims], separators=(",", ":"), ensure_ascii=False)


def _write(session: Session, changes: _Changes) -> None:
    table = SourceRunRow.__table__  # type: ignore[attr-defined]
    connection = session.connection()
    session.flush()
    for some in _portions(changes.delete):
        connection.execute(delete(table).where(table.c.id.in_(some)))
    if changes.update:
        names = [n for n in changes.update[0] if n != "at"]
        connection.execute(
            update(table).where(table.c.id == bindparam("at")).values({n: bindparam(n) for n in names}),
            changes.update,
        )
    if changes.insert:
        connection.execute(insert(table), changes.insert)
    for block, run_ids in changes.unfold.items():
        _take_out(session, block, run_ids)


def _portions(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    return (ids[i : i + _SOME] for i in range(0, len(ids), _SOME))


def _take_out(session: Session, block: int, run_ids: Mapping[str, int]) -> None:
    """Write a history block anew without so many runs of these ids: two sources may have some of one id."""
    row = session.get(HistoryBlockRow, block)
    if row is None:
        return
    work = columns.decode([(row.runs, row.tasks, row.edges)])
    rest = work.select_runs(columns.without(work.runs["run_id"], run_ids))
    if not len(rest.runs):
        session.delete(row)
    else:
        (fresh,) = columns.encode(rest, block_tasks=max(len(rest), len(rest.runs)))
        for name in ("first_submit", "last_submit", "run_count", "task_count", "runs", "tasks", "edges"):
            setattr(row, name, getattr(fresh, name))
        session.add(row)
    session.flush()


# --------------------------------------------------------------------------- reading


def read_work(
    session: Session, pool: str, since: datetime | None, until: datetime | None, aside: Collection[str] = ()
) -> WorkTable:
    """Runs of the pool that are not folded and were submitted in [since, until], by their submission.

    Args:
        aside: sources whose runs are left out.
    """
    within = [*_unfolded(pool)]
    if aside:
        within.append(col(SourceRunRow.source).not_in(sorted(aside)))
    if since is not None:
        within.append(col(SourceRunRow.submit) >= epoch(since))
    if until is not None:
        within.append(col(SourceRunRow.submit) <= epoch(until))
    rows = session.exec(
        select(SourceRunRow.content).where(*within).order_by(col(SourceRunRow.submit), col(SourceRunRow.id))
    )
    return load_runs(rows.all())


def _unfolded(pool: str) -> tuple[ColumnElement[bool], ...]:
    return col(SourceRunRow.pool) == pool, col(SourceRunRow.block).is_(None), col(SourceRunRow.content) != ""


# --------------------------------------------------------------------------- folding


def fold(db: Database, now: float) -> int:
    """Put what is settled into history blocks, of each pool in which it is worth a block; returns how many runs."""
    with db.read() as session:
        pools = session.exec(
            select(SourceRunRow.pool)
            .where(col(SourceRunRow.block).is_(None), col(SourceRunRow.content) != "", *_settled(now))
            .group_by(col(SourceRunRow.pool))
            .having(func.sum(col(SourceRunRow.task_count)) >= FOLD_TASKS)
        ).all()
    done = sum(_fold_pool(db, pool, now) for pool in pools)
    if UNROUTED in pools:
        _forget_unrouted(db, now - UNROUTED_S)
    return done


def _forget_unrouted(db: Database, before: float) -> None:
    """What belongs to no pool is looked at only for whom its slots kept waiting."""
    with db.write(f"work:{UNROUTED}") as session:
        table = HistoryBlockRow.__table__  # type: ignore[attr-defined]
        session.connection().execute(delete(table).where(table.c.pool == UNROUTED, table.c.last_submit < before))


def _settled(now: float) -> tuple[ColumnElement[bool], ...]:
    return col(SourceRunRow.over).is_(True), col(SourceRunRow.ended) <= now - SETTLED_S


def _fold_pool(db: Database, pool: str, now: float) -> int:
    with db.write(f"work:{pool}") as session:
        rows = session.execute(
            select(SourceRunRow.id, SourceRunRow.content)
            .where(*_unfolded(pool), *_settled(now))
            .order_by(col(SourceRunRow.submit), col(SourceRunRow.id))
        ).all()
        if not rows:
            return 0
        ids = [row.id for row in rows]
        done = 0
        for block, count in history.add_blocks(session, pool, load_runs([row.content for row in rows]), None):
            _mark(session, ids[done : done + count], block)
            done += count
        return len(ids)


def _mark(session: Session, ids: Sequence[int], block: int) -> None:
    table = SourceRunRow.__table__  # type: ignore[attr-defined]
    for some in _portions(ids):
        session.connection().execute(update(table).where(table.c.id.in_(some)).values(block=block, content=""))
