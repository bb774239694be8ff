"""Sizing judged on a trace: what each way of asking for memory would have wasted, task by task as submitted.

The protocol of Witt et al. 2019 and Sizey (Bader et al. 2024): the first 30 % of each process are history, the rest is
judged one after the other, and each task is learnt from once it was judged. An attempt with less than the task's peak
fails after a share of the runtime, and the next one asks for twice as much, up to a node. Nothing that only the run
itself can tell is known before it: `Task` does not have it.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from preprov.model.executions import Executions
from preprov.profiles.history import Facts
from preprov.profiles.kin import INPUT, facts
from preprov.profiles.waste import Price, outcome

Floats = NDArray[np.float64]

HISTORY: Final = 0.3
"""Share of each process that is not judged."""


@dataclass(frozen=True, slots=True)
class Task:
    """A task before it runs: which process, what is asked for it (GiB, NaN = nothing), what is known."""

    process: str
    request: float
    facts: Facts


@dataclass(frozen=True, slots=True)
class Ended:
    """A task after it ran: peak in GiB, hours, bytes it read (NaN = not known)."""

    task: Task
    peak: float
    hours: float
    read_bytes: float


class Method(Protocol):
    """A way to ask for memory."""

    def ask(self, task: Task) -> float:
        """GiB for the first attempt."""
        ...

    def retry(self, task: Task, given: float) -> float:
        """GiB for the attempt after one that had `given` and failed."""
        ...

    def learn(self, ended: Ended) -> None:
        """A task has ended."""
        ...


@dataclass(frozen=True)
class Trial:
    """One workflow's tasks in the order of submission.

    Attributes:
        tasks, ended: (N,) before and after. judged: (N,) whether it counts.
        submitted, finished: (N,) epoch s.
    """

    tasks: Sequence[Task]
    ended: Sequence[Ended]
    judged: NDArray[np.bool_]
    submitted: Floats
    finished: Floats

    @classmethod
    def of(cls, ran: Executions) -> "Trial":
        """Of one workflow. A task whose peak was not measured tells its kin what it wrote, and is left out here."""
        known = facts(ran)
        rows = np.flatnonzero(np.isfinite(ran.column("peak"))).tolist()
        process, request = ran.column("process"), ran.column("memory")
        tasks = [Task(str(process[i]), float(request[i]), known[i]) for i in rows]
        peak, runtime, read = ran.column("peak"), ran.column("runtime_s"), ran.column("read_bytes")
        ended = [
            Ended(task, float(peak[i]), float(runtime[i]) / 3600, float(read[i]))
            for task, i in zip(tasks, rows, strict=True)
        ]
        return cls(
            tasks, ended, _judged([t.process for t in tasks]), ran.column("submitted")[rows], ran.column("ended")[rows]
        )

    @property
    def processes(self) -> int:
        """How many there are."""
        return len({t.process for t in self.tasks})

    def in_hindsight(self) -> "Trial":
        """The same, where every task's input size is what it will read: as published evaluations have it."""
        tasks = [
            replace(e.task, facts=replace(e.task.facts, numbers={**e.task.facts.numbers, INPUT: e.read_bytes}))
            for e in self.ended
        ]
        ended = [replace(e, task=t) for e, t in zip(self.ended, tasks, strict=True)]
        return replace(self, tasks=tasks, ended=ended)

    def history(self) -> "Trial":
        """Only what is not judged, with the second half of each process judged: what prices may be chosen on."""
        rows = np.flatnonzero(~self.judged).tolist()
        tasks = [self.tasks[i] for i in rows]
        return Trial(
            tasks,
            [self.ended[i] for i in rows],
            _judged([t.process for t in tasks]),
            self.submitted[rows],
            self.finished[rows],
        )


@dataclass
class Tally:
    """What came of the judged tasks: GiB hours wasted and used, failed attempts, how many tasks."""

    wasted: float = 0.0
    used: float = 0.0
    failures: int = 0
    tasks: int = 0

    @property
    def maq(self) -> float:
        """Memory allocation quality: used over allocated (Witt et al. 2019); 1 if nothing was allocated."""
        return self.used / (self.used + self.wasted) if self.used + self.wasted > 0 else 1.0


def play(trial: Trial, method: Method, price: Price, *, only_ended: bool = False) -> Tally:
    """Ask for every task and judge.

    Args:
        only_ended: a task teaches nothing before the trace says that it had ended. Else, as published, each is learnt
            from before the next one of the trace is asked for.
    """
    tally = Tally()
    running: list[tuple[float, int]] = []
    for i, ended in enumerate(trial.ended):
        while running and running[0][0] <= trial.submitted[i]:
            method.learn(trial.ended[heapq.heappop(running)[1]])
        if trial.judged[i]:
            _judge(tally, method, ended, price)
        if not only_ended:
            method.learn(ended)
        elif np.isfinite(trial.finished[i]):
            heapq.heappush(running, (float(trial.finished[i]), i))
    return tally


def _judge(tally: Tally, method: Method, ended: Ended, price: Price) -> None:
    came = outcome(
        method.ask(ended.task), ended.peak, ended.hours, price, again=lambda given: method.retry(ended.task, given)
    )
    tally.wasted += came.wasted
    tally.used += came.used
    tally.failures += came.failures
    tally.tasks += 1


def _judged(process: Sequence[str]) -> NDArray[np.bool_]:
    """(N,) false for the first 30 % of each process, rounded up: something is known of every process that is judged."""
    counts: dict[str, int] = {}
    for name in process:
        counts[name] = counts.get(name, 0) + 1
    seen: dict[str, int] = {}
    out = np.empty(len(process), dtype=bool)
    for i, name in enumerate(process):
        seen[name] = seen.get(name, 0) + 1
        out[i] = seen[name] > np.ceil(HISTORY * counts[name])
    return out
