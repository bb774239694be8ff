"""What is over: written once, in columns; read whole. All of it was ingested, or folded from rows (see `fold`)."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from types import MappingProxyType

import numpy as np
from sqlmodel import Session, col, select

from preprov.contracts import IngestResult, SourceBatch
from preprov.model.errors import SourceError
from preprov.model.series import SeriesDirt, SeriesHistory
from preprov.model.time import epoch
from preprov.model.work import Schedule
from preprov.model.worktable import WorkTable
from preprov.store import columns
from preprov.store.codec import dump_arrays, dump_json, load_arrays, load_json
from preprov.store.engine import Database
from preprov.store.rows import DemandSeriesRow, HistoryBlockRow, IntakeRow, LiveRunRow, ScheduleRow


def ingest(db: Database, pool: str, key: str, digest: str, batches: Iterable[SourceBatch], zone: str) -> IngestResult:
    """See `contracts.WorkStore.ingest`.

    The batches are read before the transaction begins: a source may take a minute to parse, and on SQLite nobody else
    could write meanwhile. What it then takes is the time to write a few compressed blocks.
    """
    with db.read() as session:
        if done := known(session, pool, digest):
            return done
    read = list(batches)
    work = WorkTable.concat([b.work for b in read])
    if not len(work.runs):
        raise SourceError(f"{key} holds no usable run", where=key, hint="see the rejected rows for what is wrong")
    with db.write(f"work:{pool}") as session:
        if done := known(session, pool, digest):
            return done
        fresh = columns.by_submit(work.select_runs(_unknown_runs(session, pool, work)))
        intake = _intake(pool, key, digest, zone, read, fresh)
        session.add(intake)
        session.flush()
        add_blocks(session, pool, fresh, intake.id)
        for schedule in (s for b in read for s in b.schedules):
            declare(session, pool, schedule)
        return _result(intake)


def _unknown_runs(session: Session, pool: str, work: WorkTable) -> np.ndarray:
    """(R,) bool: runs that are not in the store, each id once."""
    live = select(LiveRunRow.run_id).where(col(LiveRunRow.pool) == pool)
    known: set[str] = set(session.exec(live).all())
    for data in session.exec(select(HistoryBlockRow.runs).where(col(HistoryBlockRow.pool) == pool)):
        known.update(columns.decode_run_ids(data))
    ids = work.runs["run_id"]
    return ~(ids.isin(known) | ids.duplicated()).to_numpy()


def _intake(pool: str, key: str, digest: str, zone: str, read: list[SourceBatch], fresh: WorkTable) -> IntakeRow:
    imputed: dict[str, int] = {}
    for batch in read:
        for name, count in batch.imputed.items():
            imputed[name] = imputed.get(name, 0) + count
    return IntakeRow(
        pool=pool,
        key=key,
        digest=digest,
        runs=len(fresh.runs),
        tasks=len(fresh.tasks),
        rejects=sum(len(b.rejects) for b in read),
        zone=zone,
        notes=dump_json(list(dict.fromkeys(n for b in read for n in b.notes))),
        imputed=dump_json(imputed),
    )


def add_blocks(session: Session, pool: str, work: WorkTable, intake_id: int | None) -> list[tuple[int, int]]:
    """Keep work that is over, in columns; returns the key and the number of runs of each block, in their order."""
    made = []
    for block in columns.encode(work):
        row = HistoryBlockRow(
            intake_id=intake_id,
            pool=pool,
            first_submit=block.first_submit,
            last_submit=block.last_submit,
            run_count=block.run_count,
            task_count=block.task_count,
            runs=block.runs,
            tasks=block.tasks,
            edges=block.edges,
        )
        session.add(row)
        session.flush()
        made.append((int(row.id or 0), block.run_count))
        session.expunge(row)  # one block in memory at a time
    return made


def known(session: Session, pool: str, digest: str) -> IngestResult | None:
    """What an earlier ingest of this very content did; None if there was none."""
    if not digest:
        return None
    same = select(IntakeRow).where(col(IntakeRow.pool) == pool, col(IntakeRow.digest) == digest)
    row = session.exec(same).first()
    return _result(row, already=True) if row else None


def pools(session: Session) -> Mapping[str, str]:
    """Pools that have history, with the zone of the last ingest."""
    rows = session.exec(select(IntakeRow.pool, IntakeRow.zone).order_by(col(IntakeRow.id))).all()
    return {pool: zone for pool, zone in rows}


def _result(row: IntakeRow, *, already: bool = False) -> IngestResult:
    return IngestResult(
        key=row.key,
        pool=row.pool,
        runs=0 if already else row.runs,
        tasks=0 if already else row.tasks,
        rejects=row.rejects,
        already=already,
        notes=tuple(load_json(row.notes)),
        imputed=load_json(row.imputed),
    )


# --------------------------------------------------------------------------- reading


def read_work(
    session: Session,
    pool: str,
    since: datetime | None,
    until: datetime | None,
    aside: Mapping[int, Mapping[str, int]] = MappingProxyType({}),
) -> WorkTable:
    """Runs in history blocks that were submitted in [since, until], in the order they were stored.

    Args:
        aside: block -> run id -> how many runs of that id are left out.
    """
    lo = -np.inf if since is None else epoch(since)
    hi = np.inf if until is None else epoch(until)
    fields = (HistoryBlockRow.runs, HistoryBlockRow.tasks, HistoryBlockRow.edges)
    wanted = select(HistoryBlockRow.id, HistoryBlockRow.run_count, *fields).where(  # type: ignore[call-overload]
        col(HistoryBlockRow.pool) == pool
    )
    if since is not None:
        wanted = wanted.where(col(HistoryBlockRow.last_submit) >= lo)
    if until is not None:
        wanted = wanted.where(col(HistoryBlockRow.first_submit) <= hi)
    rows = session.exec(wanted.order_by(col(HistoryBlockRow.id))).all()
    work = columns.decode([(r, t, e) for _, _, r, t, e in rows])
    submit = work.runs["submit"].to_numpy()
    within, at = (submit >= lo) & (submit <= hi), 0
    for block, count, *_ in rows:
        if block in aside:
            within[at : at + count] &= columns.without(work.runs["run_id"].iloc[at : at + count], aside[block])
        at += count
    return work.select_runs(within)


def has_run(session: Session, pool: str, run_id: str) -> bool:
    """True if a run of that id was ingested into the pool."""
    blocks = session.exec(select(HistoryBlockRow.runs).where(col(HistoryBlockRow.pool) == pool))
    return any(run_id in columns.decode_run_ids(data) for data in blocks)


# --------------------------------------------------------------------------- schedules and series


def declare(session: Session, pool: str, schedule: Schedule, source: str = "") -> None:
    """Keep a schedule. The same one declared again keeps the instant of its first declaration, unless it was paused.

    Args:
        source: the place that declares it; "" = submitted or ingested.
    """
    row = session.get(ScheduleRow, (pool, schedule.dag_id))
    since = schedule.since
    same = row is not None and (row.cron, row.zone, row.every_s) == (schedule.cron, schedule.zone, schedule.every_s)
    if row is not None and same and not (row.paused and not schedule.paused and since is not None):
        since = row.since if since is None or (row.since is not None and row.since < since) else since
    session.merge(
        ScheduleRow(
            pool=pool,
            dag_id=schedule.dag_id,
            cron=schedule.cron,
            zone=schedule.zone,
            tenant=schedule.tenant,
            priority=schedule.priority,
            since=since,
            paused=schedule.paused,
            max_active_runs=schedule.max_active_runs,
            land_by_s=schedule.land_by_s,
            source=source,
            every_s=schedule.every_s,
            anchor=schedule.anchor,
            turns=dump_json([t.isoformat() for t in schedule.turns]),
            follows=dump_json(schedule.follows),
        )
    )
    session.flush()


def schedules(session: Session, pool: str, aside: Collection[str] = ()) -> tuple[Schedule, ...]:
    """Declared schedules, by DAG; those that the sources `aside` declared are left out."""
    mine = col(ScheduleRow.pool) == pool, col(ScheduleRow.source).not_in(sorted(aside))
    rows = session.exec(select(ScheduleRow).where(*mine)).all()
    found = (
        Schedule(
            dag_id=r.dag_id,
            pool=r.pool,
            cron=r.cron,
            zone=r.zone,
            tenant=r.tenant,
            priority=r.priority,
            since=r.since,
            paused=r.paused,
            max_active_runs=r.max_active_runs,
            land_by_s=r.land_by_s,
            every_s=r.every_s,
            anchor=r.anchor,
            turns=tuple(datetime.fromisoformat(t) for t in load_json(r.turns)),
            follows=tuple(tuple((dag, task) for dag, task in parts) for parts in load_json(r.follows)),
        )
        for r in rows
    )
    return tuple(sorted(found, key=lambda s: s.dag_id))


def write_series(db: Database, pool: str, key: str, digest: str, series: SeriesHistory) -> IngestResult:
    """See `contracts.WorkStore.write_series`. A series of another content replaces the pool's earlier one."""
    with db.write(f"work:{pool}") as session:
        if done := known(session, pool, digest):
            return done
        intake = IntakeRow(
            pool=pool,
            key=key,
            digest=digest,
            runs=0,
            tasks=0,
            rejects=series.dirt.total,
            zone=series.zone,
            notes=dump_json([f"{len(series)} steps of {series.step_seconds} s from {series.start.isoformat()}"]),
            imputed=dump_json({}),
        )
        session.add(intake)
        session.merge(_series_row(pool, series))
        return _result(intake)


def _series_row(pool: str, series: SeriesHistory) -> DemandSeriesRow:
    arrays: dict[str, np.ndarray] = {"values": series.values, **{f"x:{k}": v for k, v in series.exogenous.items()}}
    if series.quarantined is not None:
        arrays["quarantined"] = series.quarantined
    header = {
        "name": series.name,
        "zone": series.zone,
        "step_seconds": series.step_seconds,
        "start": series.start,
        "dirt": asdict(series.dirt),
    }
    return DemandSeriesRow(pool=pool, header=dump_json(header), data=dump_arrays(arrays))


def read_series(session: Session, pool: str) -> SeriesHistory | None:
    """The pool's demand series, if that is its history."""
    row = session.get(DemandSeriesRow, pool)
    if row is None:
        return None
    header, arrays = load_json(row.header), load_arrays(row.data)
    return SeriesHistory(
        name=header["name"],
        zone=header["zone"],
        step_seconds=header["step_seconds"],
        start=datetime.fromisoformat(header["start"]),
        values=arrays["values"],
        quarantined=arrays.get("quarantined"),
        exogenous={k[2:]: v for k, v in arrays.items() if k.startswith("x:")},
        dirt=SeriesDirt(**header["dirt"]),
    )
