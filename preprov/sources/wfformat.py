"""Workflow instances in WfFormat 1.5 (1.4 and 1.3 are understood too): a file, a folder of files, or a tar archive.

Format: Coleman et al., "WfCommons: a framework for enabling scientific workflow research and development", FGCS 2022;
schema at github.com/wfcommons/WfFormat.
"""

import math
import re
import tarfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np

from preprov.contracts import Progress, Reject, SourceBatch
from preprov.model.errors import SourceError, WorkError
from preprov.model.resources import Resources
from preprov.model.time import epoch as seconds_of
from preprov.model.worktable import WorkTable, nominal_ready
from preprov.sources.building import BATCH_TASKS, labels, runs_frame, tasks_frame
from preprov.sources.files import digest_of, members, opened, reading
from preprov.sources.wfformat_file import Workflow, parse_workflow

_GIB: Final = 1024.0**3
_DEFAULT_GIB_PER_CORE: Final = 2.0
_ARCHIVE: Final = re.compile(r"\.(tar(\.\w+)?|tgz|txz|tbz2?)$", re.IGNORECASE)


class WfFormatSource:
    """Workflow instances as runs: one file, one run.

    The application is the first word of the file's name, a DAG is the file's name less its running number, a task
    behaves as its application and its name less its running number say. A task wants `coreCount` cores, else as many
    whole cores as its average use needs (up to a quarter of a core over is taken as an error of measurement), and
    `memoryInBytes`; a missing one (0 is missing: nothing runs in no memory) takes the application's median over all
    files read, else 2 GiB per core, and is counted as imputed.

    The format knows no arrivals: a run is submitted when the file says it was executed, else when it was created, else
    at `at`; without any of them it is rejected. A task without an execution is kept, its runtime not known.

    The line of a reject is the position of the task in its file, from 1, or the line of a syntax error; its raw text
    begins with the file's name.

    Attributes:
        key: name of the file, folder or archive. digest: of its bytes and the options. zone: UTC. capacity: None.

    Args:
        path: a .json file, a folder (searched to its depths), or a tar archive, packed or not.
        at: submit time of files that do not say when they were executed or created.

    Raises:
        SourceError: it cannot be read.
    """

    def __init__(self, path: Path | str, *, at: datetime | None = None) -> None:
        self.path = Path(path)
        self.key = self.path.resolve().name
        self.digest = digest_of(self.path, at and at.isoformat())
        self.zone = "UTC"
        self.capacity: Resources | None = None
        self._at = None if at is None else seconds_of(at)

    def read(self, progress: Progress | None = None) -> Iterator[SourceBatch]:
        """Batches of about 50,000 tasks, by name of file. See WorkSource.

        Raises:
            SourceError: damaged, cut short, or without a usable workflow.
        """
        workflows, rejects = self._workflows(progress)
        medians = _medians(workflows)
        waiting: list[WorkTable] = []
        imputed, tasks, sent = 0, 0, 0
        lost = sum(w.lost_parents for w in workflows)
        unfinished = sum(int(np.isnan(w.runtime).sum()) for w in workflows)
        notes = tuple(
            f"{n:,} {text}"
            for n, text in (
                (lost, "parents that are no usable task of their workflow were dropped"),
                (unfinished, "tasks have no execution: their runtime is not known"),
            )
            if n
        )
        for workflow in workflows:
            try:
                table, missing = _table(workflow, medians)
            except WorkError as e:
                rejects += [Reject(i, f"{e.what}: the run is left out", workflow.name) for i in workflow.positions]
                continue
            waiting.append(table)
            imputed += missing
            tasks += len(table)
            sent += 1
            if tasks >= BATCH_TASKS:
                yield _batch(waiting, rejects, notes, imputed)
                waiting, rejects, notes, imputed, tasks = [], [], (), 0, 0
        if not sent:
            raise SourceError(
                f"{self.key} holds no usable workflow ({len(rejects)} rejects"
                + (f", the first: {rejects[0].reason})" if rejects else ")"),
                where=str(self.path),
                hint="WfFormat 1.5 is JSON with workflow.specification.tasks; --at gives a submit time",
            )
        if waiting or rejects:
            yield _batch(waiting, rejects, notes, imputed)

    def _workflows(self, progress: Progress | None) -> tuple[list[Workflow], list[Reject]]:
        """All usable workflows by name, and what is rejected, by name of file."""
        found: dict[str, Workflow] = {}
        rejects: dict[str, list[Reject]] = {}
        for name, text, share in _texts(self.path):
            if progress is not None:
                progress(share, name)
            workflow, rejects[name] = parse_workflow(name, text, at=self._at)
            if workflow is not None:
                found[name] = workflow
        out: dict[str, Workflow] = {}
        for name, workflow in sorted(found.items()):
            if out.setdefault(workflow.run_id, workflow) is not workflow:
                rejects[name].append(Reject(1, f"a second workflow called {workflow.run_id}", name))
        return list(out.values()), [r for name in sorted(rejects) for r in rejects[name]]


def _texts(path: Path) -> Iterator[tuple[str, bytes, float]]:
    """(name, text, share of the whole, NaN if that is not known) of each workflow file."""
    with reading(path):
        if path.is_dir():
            files = members(path, "*.json")
            for i, file in enumerate(files):
                yield file.relative_to(path).as_posix(), file.read_bytes(), (i + 1) / len(files)
        elif _ARCHIVE.search(path.name):
            yield from _unpacked(path)
        else:
            with opened(path) as f:
                yield path.name.removesuffix(".gz"), f.read(), 1.0


def _unpacked(path: Path) -> Iterator[tuple[str, bytes, float]]:
    with tarfile.open(path, "r:*") as archive:
        for member in archive:
            content = archive.extractfile(member) if member.name.endswith(".json") else None
            if content is not None:
                yield member.name.removeprefix("./"), content.read(), math.nan


def _medians(workflows: list[Workflow]) -> dict[str, float]:
    """Application -> median bytes of the tasks whose memory was seen."""
    seen: dict[str, list[np.ndarray]] = {}
    for w in workflows:
        seen.setdefault(w.application, []).append(w.memory_bytes[w.memory_bytes > 0])
    every = {app: np.concatenate(parts) for app, parts in seen.items()}
    return {app: float(np.median(x)) for app, x in every.items() if len(x)}


def _table(w: Workflow, medians: dict[str, float]) -> tuple[WorkTable, int]:
    """The workflow as one run, and how many of its tasks took a memory that was not theirs.

    Raises:
        WorkError: its tasks wait for each other in a circle.
    """
    n = len(w.task_ids)
    missing = ~(w.memory_bytes > 0)
    median = medians.get(w.application)
    usual = np.full(n, median / _GIB) if median else _DEFAULT_GIB_PER_CORE * w.cores
    run = np.zeros(n, dtype=np.int64)
    with np.errstate(invalid="ignore"):
        ready = nominal_ready(np.array([w.submit]), w.runtime, run, w.parents, w.children)
    runs = runs_frame(1, {"run_id": labels([w.run_id]), "dag_id": labels([w.dag_id]), "submit": np.array([w.submit])})
    tasks = tasks_frame(
        n,
        {
            "run": run,
            "task_id": labels(w.task_ids),
            "signature": labels([f"{w.application}/{o}" for o in w.operators]),
            "operator": labels(w.operators),
            "cpu": w.cores,
            "memory": np.where(missing, usual, w.memory_bytes / _GIB),
            "ready_at": ready,
            "runtime_s": w.runtime,
        },
    )
    return WorkTable(runs, tasks, w.parents, w.children), int(missing.sum())


def _batch(tables: list[WorkTable], rejects: list[Reject], notes: tuple[str, ...], imputed: int) -> SourceBatch:
    return SourceBatch(WorkTable.concat(tables), (), tuple(rejects), notes, {"memory": imputed} if imputed else {})
