"""Runtimes to be foretold: what was known of each task when it was submitted, in columns."""

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from preprov.model.executions import Executions
from preprov.model.worktable import WorkTable
from preprov.profiles.kin import INPUT, facts

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEAST_S: Final = 1.0
"""A shorter run counts as this long: logs know seconds."""
_RECENT: Final = 2


@dataclass(frozen=True)
class RuntimeRows:
    """Tasks in the order of submission.

    Attributes:
        exact, kin, machine: (N,) codes: the signature, the coarser one it borrows from (user, process), the machine.
        submitted, ended: (N,) epoch s; NaN where there are no times.
        log_runtime: (N,) logarithm of seconds. log_request, log_input, log_cpus: (N,), NaN = not said.
    """

    exact: Ints
    kin: Ints
    machine: Ints
    submitted: Floats
    ended: Floats
    log_runtime: Floats
    log_request: Floats
    log_input: Floats
    log_cpus: Floats

    def __len__(self) -> int:
        return len(self.exact)

    def said(self) -> Floats:
        """(N, F) what a task says of itself: request, input, cores, codes, hour and weekday of submission."""
        day = self.submitted / 86_400
        return np.stack(
            [
                self.log_request,
                self.log_input,
                self.log_cpus,
                self.exact,
                self.kin,
                self.machine,
                day % 1,
                day // 1 % 7,
            ],
            axis=1,
        )

    def recent(self) -> Floats:
        """(N, 4) log runtimes of the last two of its signature and of its kin that had ended at its submission."""
        out = np.full((len(self), 2 * _RECENT), np.nan)
        if not np.isfinite(self.submitted).all():
            return out
        past: list[dict[int, deque[float]]] = [defaultdict(lambda: deque(maxlen=_RECENT)) for _ in range(2)]
        keys = (self.exact.tolist(), self.kin.tolist())
        # Where a clock jumped and a task ended before it was submitted, it must not tell of itself.
        ended = np.where(self.ended > self.submitted, self.ended, np.nan)
        by_end = np.argsort(ended, kind="stable")[: int(np.isfinite(ended).sum())].tolist()
        at = 0
        for row in np.argsort(self.submitted, kind="stable").tolist():
            while at < len(by_end) and ended[by_end[at]] <= self.submitted[row]:
                for known, key in zip(past, keys, strict=True):
                    known[key[by_end[at]]].append(float(self.log_runtime[by_end[at]]))
                at += 1
            for k, (known, key) in enumerate(zip(past, keys, strict=True)):
                for i, value in enumerate(reversed(known[key[row]])):
                    out[row, k * _RECENT + i] = value
        return out


@dataclass(frozen=True)
class Fold:
    """(H,) rows that had ended and may be learnt from, (J,) rows to be foretold; what the fold is about."""

    history: Ints
    judged: Ints
    name: str


def rows_of_work(work: WorkTable) -> RuntimeRows:
    """Of a job log: signature, and its DAG (user and executable)."""
    tasks = work.tasks
    submit = work.runs["submit"].to_numpy()[tasks["run"].to_numpy()]
    runtime = tasks["runtime_s"].to_numpy()
    started = tasks["started_at"].to_numpy()
    ended = np.where(np.isfinite(started), started, submit) + runtime
    kept = np.flatnonzero(np.isfinite(runtime) & (runtime > 0) & np.isfinite(submit))
    order = kept[np.argsort(submit[kept], kind="stable")]
    dag = work.runs["dag_id"].to_numpy()[tasks["run"].to_numpy()]
    nothing = np.full(len(order), np.nan)
    return RuntimeRows(
        _codes(tasks["signature"].to_numpy()[order]),
        _codes(dag[order]),
        np.zeros(len(order), dtype=np.int64),
        submit[order],
        ended[order],
        _logs(runtime[order]),
        _logs(tasks["hint_s"].to_numpy()[order]),
        nothing,
        _logs(tasks["cpu"].to_numpy()[order]),
    )


def rows_of_executions(ran: Executions) -> RuntimeRows:
    """Of an execution trace: process, and workflow; the input as far as it is known before (`kin`)."""
    parts = [part for _, part in ran.workflows()]
    inputs = np.concatenate([[f.numbers.get(INPUT, np.nan) for f in facts(part)] for part in parts])
    columns = {
        name: np.concatenate([part.column(name) for part in parts])
        for name in ("workflow", "process", "machine", "submitted", "ended", "runtime_s", "cpus")
    }
    order = np.argsort(columns["submitted"], kind="stable")
    both = np.array([f"{w}/{p}" for w, p in zip(columns["workflow"], columns["process"], strict=True)], dtype=object)
    return RuntimeRows(
        _codes(both[order]),
        _codes(columns["workflow"][order]),
        _codes(columns["machine"][order]),
        columns["submitted"][order],
        columns["ended"][order],
        _logs(np.maximum(columns["runtime_s"][order], LEAST_S)),
        np.full(len(order), np.nan),
        _logs(inputs[order]),
        _logs(columns["cpus"][order]),
    )


def folds_in_time(rows: RuntimeRows, history: float, blocks: int, most: int, seed: int = 0) -> Sequence[Fold]:
    """The rest after the first part, block by block; each learns from what had ended when it begins.

    Args:
        history: share that is not judged. blocks: refits. most: judged rows in all, drawn evenly; others teach.
    """
    first = int(np.ceil(history * len(rows)))
    rng = np.random.default_rng(seed)
    out = []
    for i, block in enumerate(np.array_split(np.arange(first, len(rows)), blocks)):
        if not len(block):
            continue
        before = np.arange(block[0])
        known = before[rows.ended[before] <= rows.submitted[block[0]]]
        if len(block) * blocks > most:
            block = np.sort(rng.choice(block, max(1, most // blocks), replace=False))
        if len(known):
            out.append(Fold(known, block, str(i)))
    return out


def folds_by_machine(rows: RuntimeRows) -> Sequence[Fold]:
    """Each kind of machine foretold from the others and a probe: of each process its smallest run on the machine."""
    out = []
    for machine in np.unique(rows.machine).tolist():
        here = np.flatnonzero(rows.machine == machine)
        elsewhere = np.flatnonzero(rows.machine != machine)
        if not len(elsewhere):
            continue
        by_size = here[np.lexsort((rows.log_runtime[here] * 0, rows.log_input[here], rows.exact[here]))]
        probes = by_size[np.unique(rows.exact[by_size], return_index=True)[1]]
        out.append(Fold(np.concatenate([elsewhere, probes]), np.setdiff1d(here, probes), f"machine {machine}"))
    return out


def _codes(words: Any) -> Ints:
    return np.unique(np.asarray(words, dtype=str), return_inverse=True)[1].astype(np.int64)


def _logs(values: Any) -> Floats:
    found = np.asarray(values, dtype=np.float64)
    out: Floats = np.log(np.where(found > 0, found, np.nan))
    return out
