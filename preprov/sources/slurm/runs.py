"""From submissions that hang together to runs with tasks and edges."""

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from preprov.contracts import SeenRuns
from preprov.model.agent import Usage
from preprov.model.signature import signature_path
from preprov.model.signature_sources import slurm
from preprov.model.time import Timescale, epoch
from preprov.model.work import Trigger
from preprov.model.worktable import WAIT_COLUMNS, WorkTable
from preprov.slurm.records import gib
from preprov.sources.building import labels, runs_frame, tasks_frame
from preprov.sources.slurm.chains import Chains
from preprov.sources.slurm.crontab import CronTurns
from preprov.sources.slurm.looks import Looks, Stretch
from preprov.sources.slurm.units import Unit, UnitTask, waits_for
from preprov.sources.text import clean

_FAR_S: Final = 3650 * 86_400.0
"""A submission that no node would help is expected so long after it was made: never."""
_MOST_EDGES: Final = 20_000
_MB_PER_MIB: Final = 1.048576
_MOST_LINES: Final = 20_000
_NAN: Final = float("nan")


class RunBuilder:
    """Makes runs.

    Args:
        scale: how wall time is shown. tenant: of a submission without an account. crons: turns of the crontab.
        source: key of the source. given: job number -> when nodes were given to it, where that was seen.
        lines: what is submitted -> the command by which it last was, as far as was read; it is added to.
    """

    def __init__(
        self,
        scale: Timescale,
        tenant: str,
        zone: str,
        crons: CronTurns,
        source: str = "",
        given: Mapping[int, float] | None = None,
        lines: MutableMapping[str, str] | None = None,
    ) -> None:
        self._scale, self._tenant, self._zone, self._crons = scale, tenant, zone, crons
        self._source, self._given = source, given or {}
        self._lines: MutableMapping[str, str] = {} if lines is None else lines

    def build(self, runs: Mapping[int, Sequence[Unit]], chains: Chains) -> SeenRuns:
        """Runs of these units, which are whole: run -> its units, the first submission first."""
        table = _Table()
        for run, units in runs.items():
            self._add(table, run, units, chains)
        return table.seen(self)

    def used(
        self, run: int, units: Sequence[Unit], since: float, until: float, looks: Looks
    ) -> Iterator[tuple[str, Usage]]:
        """(claimant, what it used) of tasks of a run that ended in [since, until), wall: one sample each, at its end.

        It is the mean since the last look, or over its life, and its largest memory; what nobody measured is None.
        """
        for task, name in self._tasks_named(run, units):
            measured = task.used.cpu_s is not None or task.used.peak_mib is not None
            if task.ended_at is None or not since <= task.ended_at < until or not task.runtime_s or not measured:
                continue
            yield from self._samples(name, task, looks.rest(task), task.ended_at, memory_share=1.0)

    def uses(
        self, run: int, units: Sequence[Unit], found: Mapping[int, Stretch], at: float
    ) -> Iterator[tuple[str, Usage]]:
        """(claimant, what it used since the look before) of running tasks of a run that were looked at, wall."""
        for task, name in self._tasks_named(run, units):
            if task.job_id in found and not task.over and task.started_at is not None:
                yield from self._samples(name, task, found[task.job_id], at, memory_share=1.0 / task.nodes)

    def _tasks_named(self, run: int, units: Sequence[Unit]) -> Iterator[tuple[UnitTask, str]]:
        for unit, stem, _ in _named(units):
            for index, task in sorted(unit.tasks.items()):
                yield task, f"{run}/{_task_id(stem, unit, index)}"

    def _samples(
        self, name: str, task: UnitTask, found: Stretch, at: float, *, memory_share: float
    ) -> Iterator[tuple[str, Usage]]:
        """One for each of its nodes."""
        share = 1.0 / task.nodes
        usage = Usage(
            self.at(at),
            cpu=None if found.cpu is None else found.cpu * share,
            memory=None if found.memory_mib is None else gib(found.memory_mib) * memory_share,
            disk_io=None if found.disk_mib_s is None else found.disk_mib_s * _MB_PER_MIB * share,
        )
        yield from ((f"{name}#{i}", usage) for i in range(task.nodes))

    def _line(self, unit: Unit) -> str:
        """The command by which it was submitted; while the queue does not tell, by which the last of its name was."""
        if unit.line:
            if len(self._lines) >= _MOST_LINES:
                self._lines.clear()
            self._lines[unit.dag] = unit.line
        return unit.line or self._lines.get(unit.dag, "")

    def _add(self, table: "_Table", run: int, units: Sequence[Unit], chains: Chains) -> None:
        first = units[0]
        submit = min(u.submit for u in units)
        dag = clean(first.dag) or f"job {run}"
        shown = self.at(submit)
        turn = self._crons.turn_of(dag, shown)
        due = max(self.at(first.due) if first.due else shown, shown)
        table.runs.append(
            {
                "run_id": str(run),
                "dag_id": dag,
                "tenant": clean(first.account) or self._tenant,
                "priority": first.priority,
                "schedule": self._crons.cron_of(dag),
                "zone": self._zone,
                "trigger": str(Trigger.SCHEDULED if turn is not None or first.cron else Trigger.MANUAL),
                "scheduled_for": _NAN if turn is None else turn,
                "submit": shown,
                "due": due + _FAR_S if first.waits else due,
                "over": all(u.over for u in units),
            }
        )
        where: dict[int, dict[int, int]] = {}
        for unit, stem, place in _named([replace(u, line=self._line(u)) for u in units]):
            where[unit.unit_id] = self._tasks(table, stem, unit, place, dag)
        for unit in units:
            for parent, corr in chains.parents.get(unit.unit_id, {}).items():
                if parent in where:
                    table.link(where[parent], where[unit.unit_id], element_wise=corr)

    def _tasks(self, table: "_Table", stem: str, unit: Unit, place: int, dag: str) -> dict[int, int]:
        """Tasks of a unit, the `place`-th of its name in the run: index -> position.

        Elements of an array with a limit follow each other.
        """
        where: dict[int, int] = {}
        waiting: list[int] = []
        for index, task in sorted(unit.tasks.items()):
            where[index] = len(table.tasks)
            table.tasks.append(self._task(stem, unit, index, task, len(table.runs) - 1, place, dag))
            if task.started_at is None and not task.over:
                waiting.append(where[index])
        if unit.at_once:
            table.edges.extend(zip(waiting, waiting[unit.at_once :], strict=False))
        return where

    def _task(
        self, stem: str, unit: Unit, index: int, task: UnitTask, run: int, place: int, dag: str
    ) -> dict[str, object]:
        begun, ended = self.at(task.started_at), self.at(task.ended_at)
        return {
            "run": run,
            "task_id": _task_id(stem, unit, index),
            "signature": self._signature(unit, task, place, dag),
            "operator": "slurm",
            "instances": task.nodes,
            "gang": task.nodes > 1,
            "cpu": task.cpu,
            "memory": task.memory_gib if task.memory_gib > 0 or task.cpu <= 0 else _NAN,
            "gpu": task.gpu,
            "hint_s": _NAN if task.hint_s is None else task.hint_s * self._scale.speed,
            "ready_at": self.at(task.ready_at),
            "started_at": begun,
            "ended_at": max(ended, begun) if ended == ended and begun == begun else ended,
            "runtime_s": _NAN if task.runtime_s is None else task.runtime_s * self._scale.speed,
            "queue": clean(task.partition),
            "slot_at": self.at(self._slot(task)),
            "slot_of": waits_for(task.reason, self._source, clean(task.partition)),
            "slots": task.cpu * task.nodes,
            "node": task.host if task.started_at else "",
            "placed_at": _NAN,
            "attempt": task.attempt,
            "constraint": clean(task.features),
            "freed_at": _NAN,
            "priority": _NAN,
            "images": "",
            "known_as": f"slurm/{task.job_id}" if task.started_at else "",
        }

    def _signature(self, unit: Unit, task: UnitTask, place: int, dag: str) -> str:
        """Of all that decides a task's behaviour; which component, and the how manieth of its name in its run, do too.

        Elements of an array are alike.
        """
        job = {
            "name": unit.name,
            "account": clean(unit.account),
            "partition": task.partition,
            "features": task.features,
            "container": unit.container,
            "submit_line": unit.line,
            "tres_req_str": task.asked,
        }
        traits = slurm(job, dag=dag, tenant=self._tenant, source=self._source)
        which = {"component": str(task.index) if unit.kind == "het" else "", "place": str(place)}
        return signature_path(replace(traits, extra={**traits.extra, **which}))

    def _slot(self, task: UnitTask) -> float | None:
        """When nodes were given to it; Slurm itself forgets that once they have booted."""
        slot = task.slot_at if task.slot_at is not None else self._given.get(task.job_id)
        return slot if slot is None or task.started_at is None else min(slot, task.started_at)

    def at(self, wall: float | None) -> float:
        """Epoch seconds of the clock; NaN for None."""
        return _NAN if wall is None else epoch(self._scale.instant(wall))


def _named(units: Sequence[Unit]) -> Iterator[tuple[Unit, str, int]]:
    """Units of a run, each with its own name, and the how manieth of the name that was given to it."""
    names: dict[str, int] = {}
    for unit in units:
        stem = clean(unit.name) or f"job {unit.unit_id}"
        place = names[stem] = names.get(stem, 0) + 1
        yield unit, stem if place == 1 else f"{stem} ({place})", place


def _task_id(stem: str, unit: Unit, index: int) -> str:
    return f"{stem}{'' if index < 0 else f'[{index}]' if unit.kind == 'array' else f'+{index}'}"


class _Table:
    """Rows on their way into a table."""

    def __init__(self) -> None:
        self.runs: list[dict[str, object]] = []
        self.tasks: list[dict[str, object]] = []
        self.edges: list[tuple[int, int]] = []

    def link(self, parents: Mapping[int, int], children: Mapping[int, int], *, element_wise: bool) -> None:
        """Every child waits for every parent, or for its own; where that is too many edges, for the last parents."""
        if element_wise:
            self.edges.extend((parents[i], c) for i, c in children.items() if i in parents)
            return
        some = list(parents.values())
        if len(some) * len(children) > _MOST_EDGES:
            some = some[-max(_MOST_EDGES // max(len(children), 1), 1) :]
        self.edges.extend((p, c) for c in children.values() for p in some)

    def seen(self, builder: RunBuilder) -> SeenRuns:
        """All of it."""
        if not self.runs:
            return SeenRuns.empty()

        def column(rows: list[dict[str, object]], name: str, dtype: str) -> np.ndarray:
            values = [r[name] for r in rows]
            return labels([str(v) for v in values]) if dtype == "object" else np.array(values, dtype=dtype)

        runs = {n: column(self.runs, n, "object") for n in _RUN_TEXT} | {
            n: column(self.runs, n, "float64") for n in _RUN_NUMBERS
        }
        runs["priority"] = column(self.runs, "priority", "int64")
        tasks = {n: column(self.tasks, n, "object") for n in _TASK_TEXT} | {
            n: column(self.tasks, n, "float64") for n in _TASK_NUMBERS
        }
        tasks["run"], tasks["instances"] = column(self.tasks, "run", "int64"), column(self.tasks, "instances", "int64")
        tasks["gang"] = column(self.tasks, "gang", "bool")
        waits = {n: column(self.tasks, n, kind) for n, kind in WAIT_COLUMNS.items()}
        edges = np.array(sorted(set(self.edges)), dtype=np.int64).reshape(-1, 2)
        work = WorkTable(
            runs_frame(len(self.runs), {**runs, "timing": "observed"}),
            tasks_frame(len(self.tasks), tasks).assign(**waits),
            edges[:, 0].copy(),
            edges[:, 1].copy(),
        )
        return SeenRuns(work, column(self.runs, "over", "bool"), column(self.tasks, "queue", "object"))


_RUN_TEXT: Final = ("run_id", "dag_id", "tenant", "schedule", "zone", "trigger")
_RUN_NUMBERS: Final = ("scheduled_for", "submit", "due")
_TASK_TEXT: Final = ("task_id", "signature", "operator")
_TASK_NUMBERS: Final = ("cpu", "memory", "gpu", "hint_s", "ready_at", "started_at", "ended_at", "runtime_s")
