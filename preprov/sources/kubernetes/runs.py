"""From Jobs and pods to a table of runs."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from preprov.contracts import SeenRuns
from preprov.model.waits import limit_key
from preprov.model.work import Trigger
from preprov.model.worktable import WorkTable
from preprov.sources.building import labels, runs_frame, tasks_frame
from preprov.sources.kubernetes.objects import Found, Step
from preprov.sources.text import clean

_FAR_S: Final = 3650 * 86_400.0
"""What no node would help is expected so long after it was made: never."""
_MOST_LOST: Final = 20
_NAN: Final = float("nan")
_FOREVER: Final = float("inf")


def table(
    found: Sequence[Found], crons: dict[str, str], *, source: str, zone: str, tenant: str, ahead: float = 0.0
) -> SeenRuns:
    """Runs as they are now.

    Args:
        found: one each. crons: CronJob as a DAG -> its cron. source: its key. zone: of their wall clock.
        tenant: whose; "" = their namespace's. ahead: seconds that their times are ahead of ours.
    """
    if not found:
        return SeenRuns.empty()
    steps = [(i, s) for i, f in enumerate(found) for s in f.steps]
    runs = {
        "run_id": labels([clean(f.run_id) for f in found]),
        "dag_id": labels([clean(f.dag_id) for f in found]),
        "tenant": labels([tenant or f.namespace for f in found]),
        "priority": np.array([f.priority for f in found], dtype=np.int64),
        "schedule": labels([crons.get(f.cron, "") for f in found]),
        "zone": labels([zone] * len(found)),
        "trigger": labels([str(Trigger.SCHEDULED if f.cron else Trigger.MANUAL) for f in found]),
        "scheduled_for": _numbers(f.turn for f in found) - ahead,
        "submit": _numbers(f.submit for f in found) - ahead,
        "due": _numbers(f.submit + (_FAR_S if f.waits else 0.0) for f in found) - ahead,
        "timing": "observed",
    }
    tasks = {
        "run": np.array([i for i, _ in steps], dtype=np.int64),
        "task_id": labels([clean(s.name) for _, s in steps]),
        "signature": labels([clean(s.signature) for _, s in steps]),
        "operator": "kubernetes",
        "instances": np.array([s.instances for _, s in steps], dtype=np.int64),
        "cpu": _numbers(s.cpu for _, s in steps),
        "memory": _numbers(s.memory for _, s in steps),
        "gpu": _numbers(s.gpu for _, s in steps),
        "hint_s": _numbers(s.hint_s for _, s in steps),
        "ready_at": _numbers(s.ready_at for _, s in steps) - ahead,
        "started_at": _numbers(s.started_at for _, s in steps) - ahead,
        "ended_at": _numbers(s.ended_at for _, s in steps) - ahead,
        "runtime_s": _numbers(_runtime(s) for _, s in steps),
    }
    waits = {
        "slot_at": _numbers(s.slot_at for _, s in steps) - ahead,
        "slot_of": labels(["" if s.limit is None else limit_key(s.limit[0], source, s.limit[1]) for _, s in steps]),
        "slots": np.ones(len(steps)),
        "node": labels([s.node for _, s in steps]),
        "placed_at": _numbers(s.placed_at for _, s in steps) - ahead,
        "attempt": np.array([s.attempt for _, s in steps], dtype=np.int64),
        "constraint": labels([clean(s.constraint) for _, s in steps]),
        "freed_at": np.full(len(steps), np.nan),
        "priority": np.full(len(steps), np.nan),
        "images": labels([clean(s.images) for _, s in steps]),
        "known_as": labels([clean(s.pod) for _, s in steps]),
    }
    edges = np.array(_edges(found), dtype=np.int64).reshape(-1, 2)
    work = WorkTable(
        runs_frame(len(found), runs),
        tasks_frame(len(steps), tasks).assign(**waits),
        edges[:, 0].copy(),
        edges[:, 1].copy(),
    )
    queues = labels([clean(s.queue or found[i].queue) for i, s in steps])
    return SeenRuns(work, np.array([f.over for f in found], dtype=bool), queues)


def lost_of(found: Sequence[Found]) -> tuple[str, ...]:
    """What demands of nodes a constraint cannot say, and whose they are, in a sentence each."""
    whose: dict[str, dict[str, None]] = {}
    for f in found:
        for part in {p for s in f.steps for p in s.lost}:
            whose.setdefault(part, {})[f.dag_id] = None
    return tuple(
        f"nodes that work demands, not planned by: {clean(part, 200)} (of {clean(next(iter(dags)), 200)}"
        f"{f' and {len(dags) - 1} more' if len(dags) > 1 else ''})"
        for part, dags in sorted(whose.items())[:_MOST_LOST]
    )


def _edges(found: Sequence[Found]) -> list[tuple[int, int]]:
    """Where a Job lets fewer tasks run at once than it has, the next begins as the first of those before it ends."""
    out, first = [], 0
    for f in found:
        n = len(f.steps)
        if f.abreast:
            ends = sorted(range(n), key=lambda i: (_FOREVER if f.steps[i].ended_at is None else f.steps[i].ended_at, i))
            for i in range(n - f.abreast):
                before = ends[i] if ends[i] < i + f.abreast else i
                out.append((first + before, first + i + f.abreast))
        first += n
    return out


def _runtime(s: Step) -> float | None:
    return None if s.started_at is None or s.ended_at is None else s.ended_at - s.started_at


def _numbers(values: Any) -> Any:
    return np.array([_NAN if v is None else v for v in values], dtype=np.float64)
