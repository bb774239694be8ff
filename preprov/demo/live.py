"""Play a slice of a night on real nodes of this machine, many seconds to the second."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

import stamina
import structlog
from stamina import instrumentation

from preprov.app import App
from preprov.control.context import Context
from preprov.control.running import Runner
from preprov.control.submitting import submit
from preprov.demo.recorder import Recorder, WatchedScheduler
from preprov.demo.workload import PlannedRun
from preprov.model.errors import ConflictError, NodeBusyError, PreprovError
from preprov.model.pools import Pool
from preprov.model.work import DagSpec, Trigger

log = structlog.get_logger(__name__)

TICK_S = 4.0
PLAN_S = 30.0
_LOOK_S = 0.1
_BUSY = (NodeBusyError, ConflictError)


@dataclass
class Play:
    """A slice being played.

    Attributes:
        start, end: of the slice, on the app's clock. tonight: its runs by submit time.
        failed: errors of the playing thread; empty if all goes well.
    """

    ctx: Context
    pool: Pool
    recorder: Recorder
    start: datetime
    end: datetime
    tonight: Sequence[PlannedRun]
    specs: Mapping[str, DagSpec]
    tick_s: float = TICK_S
    plan_s: float = PLAN_S

    def __post_init__(self) -> None:
        self.failed: list[BaseException] = []
        self._by_hand = [r for r in self.tonight if r.trigger is Trigger.MANUAL or r.scheduled_for is None]

    def declare(self) -> None:
        """Hand in the DAGs that have a turn in the slice; from then on their schedules make the runs."""
        wanted = {r.shape.dag_id for r in self.tonight if r.trigger is Trigger.SCHEDULED}
        submit(self.ctx, tuple(self.specs[d] for d in sorted(wanted)))

    def run(self, show: Callable[["Play"], None], *, every_s: float = _LOOK_S) -> None:
        """Play to the end; `show` is called in this thread, about every `every_s` wall seconds.

        Raises:
            PreprovError: a pass failed in a way that no later pass can mend.
        """
        runner = Runner(self.ctx, (self.pool,), tick_s=self.tick_s, plan_s=self.plan_s, on_pass=self.recorder.take)
        thread = threading.Thread(target=self._guarded, args=(runner,), name="play", daemon=True)
        thread.start()
        try:
            while thread.is_alive():
                self._submit_due()
                show(self)
                thread.join(every_s)
        finally:
            runner.stop()
            thread.join()
        show(self)
        if self.failed:
            raise self.failed[0]

    def _guarded(self, runner: Runner) -> None:
        try:
            runner.run(until=self.end)
        except BaseException as e:  # told to the thread that waits
            self.failed.append(e)

    def _submit_due(self) -> None:
        now = self.ctx.clock.now()
        while self._by_hand and self._by_hand[0].submit <= now:
            run = self._by_hand.pop(0)
            spec = replace(self.specs[run.shape.dag_id], schedule=None)
            try:
                self.ctx.ports.work.submit(spec, self.pool.name, now, run.run_id)
            except PreprovError as e:
                log.warning("not submitted", run=run.run_id, why=str(e))


def watched(app: App, recorder: Recorder) -> Context:
    """The app's context with its schedulers watched."""
    schedulers = {n: WatchedScheduler(s, recorder, app.ctx.clock) for n, s in app.ctx.schedulers.items()}
    return replace(app.ctx, schedulers=schedulers, actor="demo")


def end_nodes(ctx: Context, pool: Pool, *, patience_s: float = 30.0) -> int:
    """End every node of the pool, and the tasks on them; returns how many there were.

    Only the demonstration may do this: the pool is its own, and so is the work.

    Raises:
        PoolError: a node did not end in that many seconds.
    """
    count = 0
    for name in dict.fromkeys(g.provider for g in pool.groups):
        count += len(ctx.provider(name).observe(pool).nodes)
        retrying = stamina.RetryingCaller(timeout=patience_s, attempts=None, wait_initial=0.2, wait_max=1.0)
        with _quietly():
            retrying(_BUSY, _end, ctx, pool, name)
    return count


@contextmanager
def _quietly() -> Iterator[None]:
    """Tries are not logged: that a task takes a moment to end is no news."""
    before = instrumentation.get_on_retry_hooks()
    instrumentation.set_on_retry_hooks(())
    try:
        yield
    finally:
        instrumentation.set_on_retry_hooks(before)


def _end(ctx: Context, pool: Pool, provider: str) -> None:
    """Ask the tasks to end, and end the nodes that are idle by then; the rest is for another try."""
    nodes = ctx.provider(provider).observe(pool).nodes
    for node in nodes:
        for claimant in node.running or ():
            ctx.schedulers[provider].cancel(claimant, node)
    idle = [n.node_id for n in nodes if n.running == ()]
    if idle:
        ctx.provider(provider).terminate(pool, idle)
    if len(idle) < len(nodes):
        raise NodeBusyError(f"{len(nodes) - len(idle)} nodes are still busy", where=pool.name)
