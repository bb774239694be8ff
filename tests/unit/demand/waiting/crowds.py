"""Days of a company's Airflow in columns: as many tasks as one likes, whose waits need not make sense together."""

import numpy as np
import pandas as pd

from preprov.demand.waiting.nodes import Warming
from preprov.model.waits import Cause, SlotLimit, limit_key
from preprov.model.worktable import NOT_TOLD, RUN_COLUMNS, TASK_COLUMNS, WAIT_COLUMNS, WorkTable

BEGIN = 1_750_000_000.0 // 86_400 * 86_400
POOLS = {"default_pool": 128, "dwh": 8, "api": 2}
_PER_RUN, _DAGS, _WORKERS = 30, 400, 12


def crowd(tasks_a_day: int, days: float, seed: int = 1) -> WorkTable:
    """Runs of thirty tasks, in chains of five, on a few workers and on nodes of their own."""
    rng = np.random.default_rng(seed)
    n_runs = max(int(tasks_a_day * days) // _PER_RUN, 1)
    n = n_runs * _PER_RUN
    dags = np.array([f"dag_{i}" for i in range(_DAGS)], dtype=object)[rng.integers(_DAGS, size=n_runs)]
    due = np.sort(BEGIN + rng.uniform(0, days * 86_400, n_runs))
    run, place = np.repeat(np.arange(n_runs), _PER_RUN), np.tile(np.arange(_PER_RUN), n_runs)
    late = rng.random(n) < 0.4
    to_slot = np.where(late, rng.exponential(30.0, n), 0.3)
    to_start, runtime = rng.uniform(0.5, 20.0, n), rng.lognormal(4.5, 1.0, n)
    took = (1.0 + to_slot + to_start + runtime).reshape(n_runs, -1, 5)
    ended = due[run] + np.cumsum(took, axis=2).reshape(-1)
    started, ready = ended - runtime, ended - runtime - to_start - to_slot
    pools = np.array(list(POOLS), dtype=object)[rng.choice(3, size=n, p=[0.8, 0.15, 0.05])]
    own = rng.random(n) < 0.1
    nodes = np.where(own, [f"node-{i}" for i in range(n)], [f"w{i}" for i in rng.integers(_WORKERS, size=n)])
    keys = {p: limit_key(Cause.AIRFLOW_POOL, "prod", p) for p in POOLS}
    columns = {
        **{c: np.zeros(n) for c in TASK_COLUMNS},
        **{c: np.full(n, v, dtype=WAIT_COLUMNS[c]) for c, v in NOT_TOLD.items()},
        **{"run": run, "task_id": np.array([f"t{i}" for i in place], dtype=object), "operator": "x", "instances": 1},
        "signature": np.array([f"{d}/{i}" for d, i in zip(dags[run], place, strict=True)], dtype=object),
        **{"cpu": 1.0, "memory": 1.0, "gang": False, "hint_s": np.nan, "runtime_s": runtime},
        **{"ready_at": ready, "slot_at": ready + to_slot, "started_at": started, "ended_at": ended},
        **{"slot_of": [keys[p] for p in pools], "node": nodes, "attempt": 1},
    }
    kinds = TASK_COLUMNS | WAIT_COLUMNS
    runs = pd.DataFrame({c: [""] * n_runs for c in RUN_COLUMNS}).assign(
        run_id=[f"{d}/{i}" for i, d in enumerate(dags)], dag_id=dags, tenant="default", priority=0, zone="UTC",
        trigger="manual", scheduled_for=np.nan, submit=due, due=due, land_by=np.nan, timing="observed",
    )  # fmt: skip
    chained = np.flatnonzero(place % 5 > 0)
    return WorkTable(runs.astype(RUN_COLUMNS), pd.DataFrame(columns)[list(kinds)].astype(kinds), chained - 1, chained)


def limits() -> tuple[SlotLimit, ...]:
    """Of its Airflow pools; and each DAG may have 16 runs, each run 5 tasks."""
    pools = (SlotLimit(Cause.AIRFLOW_POOL, name, slots, source="prod") for name, slots in POOLS.items())
    tasks = (SlotLimit(Cause.MAX_ACTIVE_TASKS, f"dag_{i}", 5, per_run=True, source="prod") for i in range(_DAGS))
    runs = (SlotLimit(Cause.MAX_ACTIVE_RUNS, f"dag_{i}", 16, source="prod") for i in range(_DAGS))
    return (*pools, *tasks, *runs)


def warmings(work: WorkTable) -> list[Warming]:
    """One in two of the nodes that one task had for itself came up for it."""
    own = np.flatnonzero(np.char.startswith(work.tasks["node"].to_numpy(dtype=str), "node-"))[::2]
    at = work.tasks["started_at"].to_numpy()[own]
    names = work.tasks["node"].to_numpy()[own]
    return [Warming(str(name), t - 60.0, t - 0.1, {"boot": 50.0}) for name, t in zip(names, at, strict=True)]
