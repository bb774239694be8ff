"""Runs that are served here, in columns: what `work` adds to history."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
import pandas as pd
from sqlalchemy import ColumnElement
from sqlmodel import Session, col, select

from preprov.model.resources import KINDS
from preprov.model.waits import Cause, limit_key
from preprov.model.work import State
from preprov.model.worktable import RUN_COLUMNS, TASK_COLUMNS, WAIT_COLUMNS, WorkTable
from preprov.store.live import FINAL
from preprov.store.rows import LiveRunRow, LiveTaskRow


def read_work(session: Session, pool: str, since: datetime | None, until: datetime | None) -> WorkTable:
    """Runs served here that were submitted in [since, until] and are not folded, in the order they were made."""
    return read_rows(session, _within(pool, since, until))


def read_rows(session: Session, within: Sequence[ColumnElement[bool]]) -> WorkTable:
    """The runs for which all of `within` holds, in columns."""
    runs = session.exec(select(LiveRunRow).where(*within).order_by(col(LiveRunRow.id))).all()
    if not runs:
        return WorkTable.empty()
    table = LiveTaskRow.__table__  # type: ignore[attr-defined]
    names = ("run", "position", "parents", "state", *_TASK_FIELDS, *_TIMES, *_WAITS)
    wanted = (
        select(*(table.c[n] for n in names))
        .join(LiveRunRow, col(LiveRunRow.id) == table.c.run)
        .where(*within)
        .order_by(table.c.run, table.c.position)
    )
    read = session.exec(wanted).all()
    tasks = dict(zip(names, zip(*read, strict=True), strict=True))
    place = {row.id: i for i, row in enumerate(runs)}
    run = np.array([place[r] for r in tasks["run"]], dtype=np.int64)
    frame = _task_frame(tasks, run, runs)
    first = np.searchsorted(run, np.arange(len(runs)))
    edges = [
        (first[r] + p, i) for i, (r, ps) in enumerate(zip(run, tasks["parents"], strict=True)) for p in json.loads(ps)
    ]
    parents, children = np.array(edges, dtype=np.int64).reshape(-1, 2).T
    return WorkTable(_run_frame(runs), frame, parents, children)


_TASK_FIELDS: Final = ("task_id", "signature", "operator", "instances", *KINDS, "gang", "hint_s")
_TIMES: Final = ("ready_at", "started_at", "ended_at")
_WAITS: Final = ("slot_at", "node_id", "attempt", "provision_wait_s")


def _within(pool: str, since: datetime | None, until: datetime | None) -> list[ColumnElement[bool]]:
    bounds: list[ColumnElement[bool]] = [col(LiveRunRow.pool) == pool, col(LiveRunRow.folded).is_(False)]
    if since is not None:
        bounds.append(col(LiveRunRow.submitted_at) >= since)
    if until is not None:
        bounds.append(col(LiveRunRow.submitted_at) <= until)
    return bounds


def _seconds(at: datetime | None) -> float:
    return np.nan if at is None else at.timestamp()


def _run_frame(runs: Sequence[LiveRunRow]) -> pd.DataFrame:
    rows = [
        (
            r.run_id,
            r.dag_id,
            r.tenant,
            r.priority,
            r.cron,
            r.zone,
            r.trigger,
            _seconds(r.scheduled_for),
            _seconds(r.submitted_at),
            _seconds(r.submitted_at if r.due is None else max(r.due, r.submitted_at)),
            _seconds(r.land_by),
            "observed",
        )
        for r in runs
    ]
    return pd.DataFrame(rows, columns=list(RUN_COLUMNS)).astype(RUN_COLUMNS)


def _task_frame(tasks: dict[str, Any], run: np.ndarray, runs: Sequence[LiveRunRow]) -> pd.DataFrame:
    ready, started, ended = (np.array([_seconds(t) for t in tasks[n]]) for n in _TIMES)
    state = np.array(tasks["state"], dtype=object)
    succeeded = state == str(State.SUCCEEDED)
    over = np.array([_seconds(r.ended_at or r.submitted_at) if r.state in FINAL else np.nan for r in runs])[run]
    # A task that never ran and never will has no end of its own; without one it would look as if it still waited.
    never = np.isnan(ended) & (np.isin(state, FINAL) | (np.isnan(started) & ~np.isnan(over)))
    submitted = np.array([_seconds(r.submitted_at) for r in runs])[run]
    end = np.where(np.isnan(over), np.where(np.isnan(ready), submitted, ready), over)
    columns = {n: list(tasks[n]) for n in _TASK_FIELDS} | {
        "run": run,
        "ready_at": ready,
        "started_at": np.where(never & np.isnan(started), end, started),
        "ended_at": np.where(never, end, ended),
        "runtime_s": np.where(succeeded, ended - started, np.nan),
    }
    columns |= _waits(tasks, run, runs)
    kinds = TASK_COLUMNS | WAIT_COLUMNS
    return pd.DataFrame({n: columns[n] for n in kinds}).astype(kinds)


def _waits(tasks: dict[str, Any], run: np.ndarray, runs: Sequence[LiveRunRow]) -> dict[str, Any]:
    """What tasks waited on: WAIT_COLUMNS."""
    slot = np.array([_seconds(t) for t in tasks["slot_at"]])
    held = slot > np.array([_seconds(t) for t in tasks["ready_at"]])
    waits = []
    for quota, short, r in zip(held, tasks["provision_wait_s"], run, strict=True):
        cause, name = (Cause.QUOTA, runs[r].tenant) if quota else (Cause.ROOM, runs[r].pool)
        waits.append(limit_key(cause, "", name) if quota or short else "")
    return {
        "slot_at": slot,
        "slot_of": np.array(waits, dtype=object),
        "slots": np.ones(len(run)),
        "node": np.array([n or "" for n in tasks["node_id"]], dtype=object),
        "placed_at": np.full(len(run), np.nan),
        "attempt": list(tasks["attempt"]),
        "constraint": "",
        "freed_at": np.full(len(run), np.nan),
        "priority": np.full(len(run), np.nan),
        "images": "",
        "known_as": "",
    }
