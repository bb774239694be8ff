"""A company's Airflow at work, generated: so many DAGs, so many task runs a day, on a virtual clock."""

import heapq
from collections.abc import Callable
from datetime import datetime

import httpx
import numpy as np

from preprov.sim.clock import VirtualClock
from preprov.testing.fake_airflow import FakeAirflow
from preprov.testing.fake_airflow_world import FakeDag, FakeRun

DAY = 86_400.0


class BusyAirflow:
    """400 DAGs: hourly, half-hourly and nightly ones and some by hand, about `tasks_a_day` task runs.

    The world moves on as it is asked, for a pass takes its time.
    """

    def __init__(self, clock: VirtualClock, *, tasks_a_day: int = 60_000, seed: int = 1, version: str = "v2") -> None:
        self.clock = clock
        self.airflow = FakeAirflow(clock, version=version)
        self.rng = np.random.default_rng(seed)
        self._heap: list[tuple[float, int, Callable[[float], None]]] = []
        self._count = 0
        self._at = clock.now().timestamp()
        self.started = self.ended = self.tasks = 0
        factor = tasks_a_day / 60_000
        for i in range(400):
            width = int(self.rng.integers(4, 21))
            tasks = tuple((f"t{k}", (f"t{k + 1}",) if k % 4 != 3 and k + 1 < width else (), {}) for k in range(width))
            self.airflow.add_dag(FakeDag(f"dag_{i:03}", tasks, timetable="0 * * * *" if i < 80 else "0 2 * * *"))
            gap = 3600.0 if i < 80 else 1800.0 if i < 120 else DAY if i < 280 else DAY / 8
            first = self._at + float(self.rng.uniform(0, gap / factor))
            self.later(first, self._start(f"dag_{i:03}", gap / factor, "manual" if i >= 280 else "scheduled"))
        self.airflow.faults.append(self._goes_on)

    def later(self, at: float, act: Callable[[float], None]) -> None:
        self._count += 1
        heapq.heappush(self._heap, (at, self._count, act))

    def _goes_on(self, _: httpx.Request) -> None:
        self.advance(self.clock.now())

    def advance(self, now: datetime) -> None:
        """Let happen what happens until now."""
        until = now.timestamp()
        while self._heap and self._heap[0][0] <= until:
            at, _, act = heapq.heappop(self._heap)
            act(at)

    def _start(self, dag_id: str, gap: float, kind: str) -> Callable[[float], None]:
        def act(at: float) -> None:
            run = self.airflow.start_run(
                dag_id, f"{kind}__{at:.3f}", kind=kind, turn=at if kind == "scheduled" else None, at=at
            )
            self.started += 1
            self.tasks += len(run.tasks)
            self._go_on(run, at)
            self.later(at + gap, act)

        return act

    def _go_on(self, run: FakeRun, at: float) -> None:
        """Start what can start; end the run when all is done."""
        done = {t for (t, _), task in run.tasks.items() if task.state == "success"}
        if len(done) == len(run.tasks):
            self.airflow.end_run(run, at=at)
            self.ended += 1
            return
        parents: dict[str, set[str]] = {t: set() for t, _ in run.tasks}
        for t, children, _ in self.airflow.dags[run.dag_id].tasks:
            for c in children:
                parents[c].add(t)
        for (t, _), task in run.tasks.items():
            if task.state is None and parents[t] <= done:
                self.airflow.set_task(run, t, "scheduled", at=at)
                self.later(at + 1.0, self._step(run, t, "queued"))
                self.later(at + 4.0, self._step(run, t, "running"))
                seconds = float(np.clip(self.rng.lognormal(np.log(120), 0.8), 5, 3600))
                self.later(at + 4.0 + seconds, self._step(run, t, "success"))

    def _step(self, run: FakeRun, task_id: str, state: str) -> Callable[[float], None]:
        def act(at: float) -> None:
            self.airflow.set_task(run, task_id, state, at=at)
            if state == "success":
                self._go_on(run, at)

        return act
