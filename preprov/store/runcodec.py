"""One run of a WorkTable as JSON and back exactly: for runs that still change, one by one.

[run columns in the order of RUN_COLUMNS, [task columns in that of TASK_COLUMNS without `run`], parents, children,
queues, own], and [task columns in the order of WAIT_COLUMNS] where these were told; positions are counted within the
run. JSON's own NaN stands for what is not known.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from preprov.contracts import PoolRuns
from preprov.model.worktable import NOT_TOLD, RUN_COLUMNS, TASK_COLUMNS, WAIT_COLUMNS, WorkTable

_SHORT: Final = 6
"""Parts of a run of which nobody told what it waited on."""
_SINCE: Final = {"placed_at": 6, "constraint": 7, "freed_at": 8, "priority": 9, "images": 10, "known_as": 11}
"""Columns that an earlier preprov did not write, in the order in which they came, and how many there were with each."""
_SLOT_OF: Final = list(WAIT_COLUMNS).index("slot_of")
_TASK_NAMES: Final = tuple(c for c in TASK_COLUMNS if c != "run")


@dataclass(frozen=True, slots=True)
class KeptRun:
    """A run as it is written down.

    Attributes:
        submit, ended: epoch seconds; `ended` is the last thing known to have happened.
        claims: (queue, tasks that ran, core seconds) of the pool's own tasks.
        holds: any of its tasks names a limit that it is under.
    """

    run_id: str
    dag_id: str
    tenant: str
    submit: float
    ended: float
    over: bool
    task_count: int
    claims: tuple[tuple[str, int, float], ...]
    content: str
    holds: bool


def dump_runs(part: PoolRuns) -> Iterator[KeptRun]:
    """Each run by itself."""
    work, over = part.runs.work, part.runs.over
    runs = {c: work.runs[c].tolist() for c in RUN_COLUMNS}
    tasks = {c: work.tasks[c].tolist() for c in _TASK_NAMES}
    waits = [work.tasks[c].tolist() for c in WAIT_COLUMNS] if work.tells_waits else []
    queues, own = part.runs.queues.tolist(), part.own.tolist()
    first = np.searchsorted(work.tasks["run"].to_numpy(), np.arange(len(work.runs) + 1))
    order = np.argsort(work.tasks["run"].to_numpy()[work.children], kind="stable")
    parents, children = work.parents[order], work.children[order]
    edge = np.searchsorted(work.tasks["run"].to_numpy()[children], np.arange(len(work.runs) + 1))
    held = _held(work)
    for i in range(len(work.runs)):
        a, b = int(first[i]), int(first[i + 1])
        e = slice(int(edge[i]), int(edge[i + 1]))
        content = [
            [runs[c][i] for c in RUN_COLUMNS],
            [tasks[c][a:b] for c in _TASK_NAMES],
            (parents[e] - a).tolist(),
            (children[e] - a).tolist(),
            queues[a:b],
            own[a:b],
            *([[told[a:b] for told in waits]] if waits else ()),
        ]
        times = [t for c in ("started_at", "ended_at") for t in tasks[c][a:b] if t == t]
        yield KeptRun(
            run_id=runs["run_id"][i],
            dag_id=runs["dag_id"][i],
            tenant=runs["tenant"][i],
            submit=runs["submit"][i],
            ended=max([runs["submit"][i], *times]),
            over=bool(over[i]),
            task_count=b - a,
            claims=_claims(queues[a:b], own[a:b], held[a:b]),
            content=json.dumps(content, separators=(",", ":"), ensure_ascii=False),
            holds=any(waits[_SLOT_OF][a:b]) if waits else False,
        )


def _held(work: WorkTable) -> np.ndarray:
    """(T,) core seconds that each task held so far, NaN if it never ran."""
    cpu = work.tasks["cpu"].to_numpy(np.float64) * work.tasks["instances"].to_numpy(np.float64)
    held: np.ndarray = (work.tasks["ended_at"].to_numpy() - work.tasks["started_at"].to_numpy()) * cpu
    return held


def _claims(queues: Sequence[str], own: Sequence[bool], held: np.ndarray) -> tuple[tuple[str, int, float], ...]:
    total: dict[str, tuple[int, float]] = {}
    for queue, ours, seconds in zip(queues, own, held.tolist(), strict=True):
        if ours:
            count, so_far = total.get(queue, (0, 0.0))
            ran = seconds == seconds
            total[queue] = (count + ran, so_far + (max(seconds, 0.0) if ran else 0.0))
    return tuple((queue, count, seconds) for queue, (count, seconds) in sorted(total.items()))


def _told(content: Sequence[Any], count: int) -> list[list[Any]]:
    """What tasks waited on, in the order of WAIT_COLUMNS, of a run that this or an earlier preprov wrote down."""
    if len(content) <= _SHORT:
        return [[v] * count for v in NOT_TOLD.values()]
    given = list(content[_SHORT])
    for name, known in _SINCE.items():
        if len(given) < known:
            given.insert(list(WAIT_COLUMNS).index(name), [NOT_TOLD[name]] * count)
    return given


def load_runs(contents: Sequence[str]) -> WorkTable:
    """The runs, in the order given, as one table."""
    if not contents:
        return WorkTable.empty()
    parsed = [json.loads(c) for c in contents]
    told = any(len(run) > _SHORT for run in parsed)
    rows: list[list[Any]] = []
    tasks: dict[str, list[Any]] = {c: [] for c in _TASK_NAMES}
    run: list[int] = []
    parents: list[int] = []
    children: list[int] = []
    waits: list[list[Any]] = [[] for _ in WAIT_COLUMNS]
    for number, content in enumerate(parsed):
        row, columns, ps, cs, queues = content[: _SHORT - 1]
        at = len(run)
        rows.append(row)
        for name, values in zip(_TASK_NAMES, columns, strict=True):
            tasks[name].extend(values)
        if told:
            for column, values in zip(waits, _told(content, len(queues)), strict=True):
                column.extend(values)
        run.extend([number] * len(queues))
        parents.extend(p + at for p in ps)
        children.extend(c + at for c in cs)
    frame = pd.DataFrame({"run": run, **tasks}, columns=list(TASK_COLUMNS)).astype(TASK_COLUMNS)
    if told:
        further = {c: np.array(v, dtype=WAIT_COLUMNS[c]) for c, v in zip(WAIT_COLUMNS, waits, strict=True)}
        frame = frame.assign(**further)
    return WorkTable(
        pd.DataFrame(rows, columns=list(RUN_COLUMNS)).astype(RUN_COLUMNS),
        frame,
        np.array(parents, dtype=np.int64),
        np.array(children, dtype=np.int64),
    )
