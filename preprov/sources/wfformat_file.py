"""One WfFormat file: JSON to arrays."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from preprov.contracts import Reject
from preprov.model.time import epoch as seconds_of

_RUNNING_NUMBER: Final = re.compile(r"[-_]?(ID)?\d+$")
_FILE_NUMBER: Final = re.compile(r"-\d+$")
_SLACK: Final = 0.25
_TRANSLATED: Final = {  # 1.3 and 1.4 -> 1.5; 1.3 tells memory in KB
    "runtime": ("runtimeInSeconds", 1.0),
    "memory": ("memoryInBytes", 1000.0),
    "cores": ("coreCount", 1.0),
}


@dataclass(frozen=True)
class Workflow:
    """A usable workflow.

    Attributes:
        name: of its file. submit: epoch s. task_ids, operators: (N,).
        runtime: (N,) s, NaN if not known. cores: (N,). memory_bytes: (N,), NaN or 0 if not known.
        parents, children: (E,) positions. lost_parents: named, but no usable task here.
        positions: (N,) where each task stands in the file, from 1.
    """

    name: str
    submit: float
    task_ids: list[str]
    operators: list[str]
    runtime: NDArray[np.float64]
    cores: NDArray[np.float64]
    memory_bytes: NDArray[np.float64]
    parents: NDArray[np.int64]
    children: NDArray[np.int64]
    lost_parents: int
    positions: list[int]

    @property
    def run_id(self) -> str:
        """The file's name without folders and suffix."""
        return PurePosixPath(self.name).name.removesuffix(".json")

    @property
    def dag_id(self) -> str:
        """The run's name less its running number."""
        return _FILE_NUMBER.sub("", self.run_id)

    @property
    def application(self) -> str:
        """The first word of the file's name."""
        return self.run_id.split("-", 1)[0]


def parse_workflow(name: str, text: bytes, *, at: float | None) -> tuple[Workflow | None, list[Reject]]:
    """Read a file; None if it cannot be used as a whole, and then a reject says why.

    Args:
        name: of the file. text: its content. at: epoch s to submit at if the file does not say; None = it has to.
    """
    try:
        raw = json.loads(text)
        tasks, executed = _parts(raw)
    except json.JSONDecodeError as e:
        return None, [Reject(e.lineno, f"not JSON: {e.msg}", name)]
    except (UnicodeDecodeError, KeyError, TypeError, AttributeError) as e:
        return None, [Reject(1, f"not WfFormat: {_missing(e)}", name)]
    submit = _submit(raw)
    submit = at if submit is None else submit
    if submit is None:
        return None, [Reject(1, "the file says neither when it was executed nor when it was created", name)]
    return _workflow(name, tasks, executed, submit)


def _missing(error: Exception) -> str:
    return f"there is no {error.args[0]!r}" if isinstance(error, KeyError) else str(error)


def _parts(raw: Any) -> tuple[list[Mapping[str, Any]], dict[str, Mapping[str, Any]]]:
    """Tasks as specified, and what is known of their execution by task id (or name, in old files)."""
    workflow = raw["workflow"]
    if "specification" in workflow:
        tasks = workflow["specification"]["tasks"]
        done = (workflow.get("execution") or {}).get("tasks") or []
        return _objects(tasks), {str(t["id"]): t for t in _objects(done)}
    tasks = _objects(workflow["tasks"])
    return tasks, {str(t.get("id", t["name"])): _translated(t) for t in tasks}


def _objects(tasks: Any) -> list[Mapping[str, Any]]:
    if not isinstance(tasks, list) or not all(isinstance(t, dict) for t in tasks):
        raise TypeError("tasks is not a list of objects")
    return tasks


def _translated(task: Mapping[str, Any]) -> Mapping[str, Any]:
    out = dict(task)
    for old, (new, factor) in _TRANSLATED.items():
        if old in task and new not in task and isinstance(task[old], int | float):
            out[new] = task[old] * factor
    return out


def _submit(raw: Mapping[str, Any]) -> float | None:
    workflow = raw["workflow"]
    execution = workflow.get("execution") or {}
    for said in (execution.get("executedAt"), workflow.get("executedAt"), raw.get("createdAt")):
        if isinstance(said, str) and (when := _instant(said)) is not None:
            return when
    return None


def _instant(text: str) -> float | None:
    """Epoch s of ISO 8601, basic or extended, or of the month-day-year that Makeflow writes; UTC if it says no zone."""
    for parse in (datetime.fromisoformat, lambda t: datetime.strptime(t, "%m-%d-%yT%H:%M:%S%z")):
        try:
            when = parse(text.strip())
        except ValueError:
            continue
        return seconds_of(when if when.tzinfo else when.replace(tzinfo=UTC))
    return None


def _workflow(
    name: str, tasks: list[Mapping[str, Any]], executed: Mapping[str, Mapping[str, Any]], submit: float
) -> tuple[Workflow | None, list[Reject]]:
    kept: list[Mapping[str, Any]] = []
    rejects, positions, numbers = [], [], []
    ids: dict[str, int] = {}
    for position, task in enumerate(tasks, start=1):
        task_id = str(task.get("id") or task.get("name") or "")
        values, reason = _amounts(executed.get(task_id, {}))
        reason = "no id" if not task_id else "id stands twice" if task_id in ids else reason
        if reason:
            rejects.append(Reject(position, reason, f"{name}: {json.dumps(task)[:500]}"))
            continue
        ids[task_id] = len(kept)
        kept.append(task)
        positions.append(position)
        numbers.append(values)
    if not kept:
        return None, rejects or [Reject(1, "no tasks", name)]
    parents, children, lost = _edges(kept, ids)
    operators = [_RUNNING_NUMBER.sub("", str(t.get("name") or i)) or str(i) for i, t in zip(ids, kept, strict=True)]
    runtime, cores, memory = np.array(numbers, dtype=np.float64).T
    return Workflow(
        name, submit, list(ids), operators, runtime, cores, memory, parents, children, lost, positions
    ), rejects


def _amounts(done: Mapping[str, Any]) -> tuple[tuple[float, float, float], str]:
    """(runtime s, cores, memory bytes) and why they cannot be used, "" if they can."""
    values, reason = [], ""
    for key in ("runtimeInSeconds", "coreCount", "memoryInBytes", "avgCPU"):
        value = done.get(key)
        number = math.nan if value is None else float(value) if isinstance(value, int | float) else math.inf
        if math.isinf(number):
            reason = reason or f"{key} is not a number"
        elif number < 0:
            reason = reason or f"negative {key}"
        values.append(number)
    runtime, cores, memory, percent = values
    if not cores > 0:
        cores = max(1.0, math.ceil(percent / 100 - _SLACK)) if math.isfinite(percent) else 1.0
    return (runtime, cores, memory), reason


def _edges(tasks: list[Mapping[str, Any]], ids: Mapping[str, int]) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """What `parents` and `children` say together, each edge once; by id, in old files by name."""
    where = {**{str(t["name"]): i for i, t in enumerate(tasks) if "name" in t}, **ids}
    edges: set[tuple[int, int]] = set()
    lost = 0
    for i, task in enumerate(tasks):
        parents = [where.get(str(p)) for p in task.get("parents") or ()]
        children = [where.get(str(c)) for c in task.get("children") or ()]
        lost += parents.count(None)
        edges |= {(p, i) for p in parents if p is not None} | {(i, c) for c in children if c is not None}
    pairs = np.array(sorted(edges), dtype=np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1], lost
