"""The port for places where work lives: how far they were read, and the runs, schedules and shapes found there."""

import json
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
from sqlalchemy import delete, func, insert
from sqlmodel import Session, col, select

from preprov.contracts import (
    UNROUTED,
    Applied,
    Claimed,
    OpenRun,
    PoolRuns,
    RoutedBatch,
    SeenRuns,
    SourceState,
    SourceStatus,
)
from preprov.model.time import aware, epoch
from preprov.model.waits import Cause, SlotLimit
from preprov.model.work import Schedule
from preprov.model.worktable import WorkTable
from preprov.store import history, sourcenames, sourceruns
from preprov.store.engine import Database
from preprov.store.rows import ScheduleRow, SourceLimitRow, SourceNoteRow, SourceRow, SourceRunRow, SourceShapeRow
from preprov.store.runcodec import dump_runs, load_runs
from preprov.store.sourcenames import Counted

_SOME: Final = 500
"""Names in one statement."""


class SqlSourceStore:
    """Implements `contracts.SourceStore`."""

    def __init__(self, db: Database, counted: Counted) -> None:
        self._db, self._counted = db, counted

    def count_only(self, names: Collection[str]) -> tuple[str, ...]:
        """Leave aside, in this process, what other sources told; returns which these are."""
        self._counted.names = frozenset(names)
        with self._db.read() as session:
            return tuple(sorted(self._counted.aside(session)))

    def forget(self, source: str) -> int:
        """Drop all that a source told."""
        return sourcenames.forget(self._db, source)

    def rename(self, old: str, new: str) -> None:
        """Give all that a source told another name."""
        sourcenames.rename(self._db, old, new)

    def state(self, source: str) -> SourceState:
        """What is known of a source."""
        with self._db.read() as session:
            row = session.get(SourceRow, source)
            notes = session.exec(select(SourceNoteRow).where(col(SourceNoteRow.source) == source)).all()
            open_ = session.exec(
                select(SourceRunRow.run_id, SourceRunRow.dag_id, SourceRunRow.submit)
                .where(col(SourceRunRow.source) == source, ~col(SourceRunRow.over))
                .order_by(col(SourceRunRow.submit), col(SourceRunRow.run_id))
                .distinct()
            ).all()
        return SourceState(
            cursor=row.cursor if row else "",
            open=tuple(OpenRun(*found) for found in open_),
            notebook={n.key: n.value for n in notes},
        )

    def apply(self, source: str, batch: RoutedBatch, at: datetime) -> Applied:
        """Keep a batch in one transaction."""
        pools = {*batch.parts, *(batch.shapes or ()), *(s.pool for s in batch.schedules or ())} - {""}
        with self._db.write(f"source:{source}", *(f"work:{p}" for p in pools)) as session:
            row = _source(session, source)
            row.zone = batch.zone
            row.pools = json.dumps(sorted({*json.loads(row.pools), *pools}))
            if batch.cursor is not None:
                row.cursor = batch.cursor
            session.add(row)
            counts = sourceruns.apply(session, source, batch)
            aside = self._counted.aside(session)
            notes = () if batch.schedules is None else _replace_schedules(session, source, batch.schedules, aside)
            if batch.shapes is not None:
                _replace_shapes(session, source, batch)
            if batch.limits is not None:
                _replace_limits(session, source, batch.limits)
            for key, value in batch.notebook.items():
                _note(session, source, key, value)
        sourceruns.fold(self._db, epoch(aware(at)))
        return Applied(counts.new, counts.changed, counts.same, counts.gone, notes)

    def held(self, source: str, run_ids: Sequence[str]) -> frozenset[str]:
        """Which of these runs the source has spoken of."""
        found: set[str] = set()
        with self._db.read() as session:
            for i in range(0, len(run_ids), _SOME):
                some = col(SourceRunRow.run_id).in_(run_ids[i : i + _SOME])
                found.update(session.exec(select(SourceRunRow.run_id).where(col(SourceRunRow.source) == source, some)))
        return frozenset(found)

    def began(self, source: str, at: datetime) -> None:
        """A pass begins."""
        with self._db.write(f"source:{source}") as session:
            row = _source(session, source)
            row.tried_at = aware(at)
            session.add(row)

    def ended(self, source: str, at: datetime, error: str = "", notes: Sequence[str] = ()) -> None:
        """A pass came to its end, or broke off."""
        with self._db.write(f"source:{source}") as session:
            row = _source(session, source)
            row.error = error
            if not error:
                row.read_at = aware(at)
            session.add(row)
            if notes:
                sourcenames.say(session, source, notes, aware(at))

    def rewind(self, source: str) -> None:
        """Forget the cursor and the notebook."""
        with self._db.write(f"source:{source}") as session:
            row = session.get(SourceRow, source)
            if row is not None:
                row.cursor = ""
                session.add(row)
            session.execute(delete(SourceNoteRow).where(col(SourceNoteRow.source) == source))

    def statuses(self) -> tuple[SourceStatus, ...]:
        """Every source that was ever read."""
        with self._db.read() as session:
            rows = session.exec(select(SourceRow).order_by(col(SourceRow.source))).all()
            counted = session.exec(
                select(
                    SourceRunRow.source, SourceRunRow.over, func.count(func.distinct(col(SourceRunRow.run_id)))
                ).group_by(col(SourceRunRow.source), col(SourceRunRow.over))
            ).all()
            notes = sourcenames.said(session)
        count = {(source, over): n for source, over, n in counted}
        return tuple(
            SourceStatus(
                source=r.source,
                zone=r.zone,
                cursor=r.cursor,
                read_at=r.read_at,
                tried_at=r.tried_at,
                error=r.error,
                open=count.get((r.source, False), 0),
                over=count.get((r.source, True), 0),
                pools=tuple(json.loads(r.pools)),
                notes=notes.get(r.source, ()),
            )
            for r in rows
        )

    def shapes(self, pool: str, dag_ids: Sequence[str]) -> WorkTable:
        """A run for each of these DAGs."""
        wanted = sorted(set(dag_ids))
        found: dict[str, str] = {}
        with self._db.read() as session:
            counts = col(SourceShapeRow.source).not_in(sorted(self._counted.aside(session)))
            for i in range(0, len(wanted), _SOME):
                some = col(SourceShapeRow.dag_id).in_(wanted[i : i + _SOME])
                rows = session.exec(
                    select(SourceShapeRow.dag_id, SourceShapeRow.content)
                    .where(col(SourceShapeRow.pool) == pool, some, counts)
                    .order_by(col(SourceShapeRow.source))
                ).all()
                found.update((dag_id, content) for dag_id, content in rows)
        return load_runs([found[d] for d in sorted(found)])

    def limits(self) -> tuple[SlotLimit, ...]:
        """Limits that all sources told of."""
        with self._db.read() as session:
            counts = col(SourceLimitRow.source).not_in(sorted(self._counted.aside(session)))
            rows = session.exec(select(SourceLimitRow).where(counts)).all()
        found = (SlotLimit(Cause(r.cause), r.name, r.slots, r.per_run, r.source, _spans(r.reserved)) for r in rows)
        return tuple(sorted(found, key=lambda f: f.key))

    def claimed(self, since: datetime) -> tuple[Claimed, ...]:
        """What runs submitted since then held."""
        fields = (SourceRunRow.source, SourceRunRow.pool, SourceRunRow.dag_id, SourceRunRow.tenant)
        with self._db.read() as session:
            counts = col(SourceRunRow.source).not_in(sorted(self._counted.aside(session)))
            rows = session.execute(
                select(*fields, col(SourceRunRow.claims)).where(col(SourceRunRow.submit) >= epoch(aware(since)), counts)  # type: ignore[call-overload]
            ).all()
        total: dict[tuple[str, str, str, str, str], tuple[int, float]] = {}
        for source, pool, dag_id, tenant, claims in rows:
            for queue, tasks, seconds in json.loads(claims):
                key = (source, pool, dag_id, queue, tenant)
                count, hours = total.get(key, (0, 0.0))
                total[key] = (count + tasks, hours + seconds / 3600)
        return tuple(Claimed(*key, tasks=count, core_hours=hours) for key, (count, hours) in sorted(total.items()))


def pools(session: Session) -> dict[str, str]:
    """Pools that work from a source goes to, with the source's zone."""
    rows = session.exec(select(SourceRow.pools, SourceRow.zone).order_by(col(SourceRow.source))).all()
    return {pool: zone for named, zone in rows for pool in json.loads(named)}


def _source(session: Session, source: str) -> SourceRow:
    row = session.get(SourceRow, source)
    return row if row is not None else SourceRow(source=source, zone="UTC", cursor="")


def _note(session: Session, source: str, key: str, value: str | None) -> None:
    if value is not None:
        session.merge(SourceNoteRow(source=source, key=key, value=value))
        return
    row = session.get(SourceNoteRow, (source, key))
    if row is not None:
        session.delete(row)


def _replace_schedules(
    session: Session, source: str, schedules: Iterable[Schedule], aside: Collection[str]
) -> tuple[str, ...]:
    """Set what a source declares; returns what was left out because somebody else declared it who is not aside."""
    wanted = {(s.pool, s.dag_id): s for s in schedules}
    held = {(r.pool, r.dag_id): r.source for r in session.exec(select(ScheduleRow)).all()}
    notes = []
    for place, owner in held.items():
        if owner == source and place not in wanted:
            session.delete(session.get(ScheduleRow, place))
    for place, schedule in sorted(wanted.items()):
        owner = held.get(place, source)
        if owner == source or owner in aside:
            history.declare(session, schedule.pool, schedule, source)
        elif schedule.pool != UNROUTED:
            by = f"source {owner}" if owner else "a submission or a file"
            notes.append(f"the schedule of {place[1]} in pool {place[0]} was declared by {by} before: left as it is")
    return tuple(notes)


def _replace_limits(session: Session, source: str, limits: Iterable[SlotLimit]) -> None:
    session.execute(delete(SourceLimitRow).where(col(SourceLimitRow.source) == source))
    rows = [
        {
            **{"source": source, "cause": str(f.cause), "name": f.name, "slots": f.slots, "per_run": f.per_run},
            "reserved": json.dumps(f.reserved),
        }
        for f in limits
    ]
    if rows:
        session.execute(insert(SourceLimitRow), rows)


def _spans(text: str) -> tuple[tuple[float, float, float], ...]:
    return tuple((since, until, slots) for since, until, slots in json.loads(text))


def _replace_shapes(session: Session, source: str, batch: RoutedBatch) -> None:
    session.execute(delete(SourceShapeRow).where(col(SourceShapeRow.source) == source))
    rows: list[dict[str, Any]] = []
    for pool, work in (batch.shapes or {}).items():
        none = np.full(len(work), "", dtype=object)
        part = PoolRuns(SeenRuns(work, np.zeros(len(work.runs), dtype=bool), none), np.ones(len(work), dtype=bool))
        rows += [
            {"source": source, "pool": pool, "dag_id": run.dag_id, "content": run.content} for run in dump_runs(part)
        ]
    if rows:
        session.execute(insert(SourceShapeRow), rows)
