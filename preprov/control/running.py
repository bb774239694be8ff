"""The long-lived loop of one machine: a quick tick serves work, a slower one plans. One bad pass ends nothing."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import monotonic
from typing import Final

import structlog

from preprov.control.calling import Calls
from preprov.control.context import Context
from preprov.control.passes import PassResult, pool_pass
from preprov.control.trust import ACTS, in_force
from preprov.model.errors import LeaseHeldError, PreprovError
from preprov.model.pools import Pool

log = structlog.get_logger(__name__)

LISTEN_S: Final = 0.5
"""How often calls of nodes are looked for between ticks."""


@dataclass
class Runner:
    """Ticks over pools until told to stop.

    Attributes:
        tick_s: between rounds of dispatch. plan_s: between plans of a pool; both in seconds of the context's clock.
        hear: makes work of what was told since the last tick.
        sync: reads the configured sources again, every sync_s seconds.
        at_once: pools that are looked at at the same time: most of a pass is waiting for a cloud's answers.
        on_pass: told of every pass (a live view, metrics).
    """

    ctx: Context
    pools: Sequence[Pool]
    tick_s: float = 5.0
    plan_s: float = 60.0
    at_once: int = 1
    on_pass: Callable[[PassResult], None] | None = None
    hear: Callable[[], object] | None = None
    sync: Callable[[], object] | None = None
    sync_s: float = 60.0
    stopping: threading.Event = field(default_factory=threading.Event)
    _calls: Calls = field(init=False)
    _synced: datetime | None = None
    _planned: dict[str, datetime] = field(default_factory=dict)
    _again: dict[str, datetime | None] = field(default_factory=dict)
    _seen_work: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._calls = Calls(self.ctx)

    def stop(self) -> None:
        """Finish the round under way, then return from `run`."""
        self.stopping.set()

    def run(self, until: datetime | None = None) -> None:
        """Tick until stopped, or until that instant."""
        if self.ctx.callback:
            self._calls.pools()
        while not self.stopping.is_set() and (until is None or self.ctx.clock.now() < until):
            began = self.ctx.clock.now()
            self._sync(began)
            self._hear()
            self.sweep()
            spent = (self.ctx.clock.now() - began).total_seconds()
            speed = float(getattr(self.ctx.clock, "speed", 1.0))
            self._rest(max(self.tick_s - spent, 0.0) / speed)

    def _rest(self, seconds: float) -> None:
        """Wait until the next tick; meanwhile a pool of which a node calls is looked at at once."""
        until = monotonic() + seconds if self.ctx.callback else 0.0
        if not self.ctx.callback:
            self.stopping.wait(seconds)
        while (left := until - monotonic()) > 0 and not self.stopping.wait(min(left, LISTEN_S)):
            try:
                called = self._calls.pools()
            except PreprovError as e:
                log.error("calls not heard", error=e.kind, what=e.what, where=e.where, hint=e.hint)
                continue
            for pool in (p for p in self.pools if p.name in called):
                self.round(pool)

    def sweep(self) -> None:
        """One tick of every pool."""
        if self.at_once < 2 or len(self.pools) < 2:
            for pool in self.pools:
                self.round(pool)
            return
        with ThreadPoolExecutor(min(self.at_once, len(self.pools))) as threads:
            list(threads.map(self.round, self.pools))

    def _sync(self, now: datetime) -> None:
        if self.sync is None or (self._synced and (now - self._synced).total_seconds() < self.sync_s):
            return
        self._synced = now
        try:
            self.sync()
        except PreprovError as e:  # the age of what is known grows, and a guard stops raises in the end
            log.error("source not read", error=e.kind, what=e.what, where=e.where, hint=e.hint)

    def _hear(self) -> None:
        try:
            if self.hear is not None:
                self.hear()
        except PreprovError as e:  # what was told is kept, and the next tick comes back to it
            log.error("events not heard", error=e.kind, what=e.what, where=e.where, hint=e.hint)

    def round(self, pool: Pool) -> PassResult | None:
        """One tick of one pool; errors are logged and the next tick tries again."""
        now = self.ctx.clock.now()
        plan = self._plan_is_due(pool, now)
        try:
            acts = in_force(self.ctx, pool) in ACTS
            if not plan and not acts:
                return None
            result = pool_pass(self.ctx, pool, plan=plan, serve=acts)
        except LeaseHeldError:
            log.debug("another pass holds the lease", pool=pool.name)
            return None
        except PreprovError as e:
            log.error("pass failed", pool=pool.name, error=e.kind, what=e.what, where=e.where, hint=e.hint)
            return None
        except Exception:  # a fault in one pass over one pool must not end the controller of all of them
            log.exception("pass failed", pool=pool.name)
            return None
        if plan:
            self._planned[pool.name], self._again[pool.name] = now, result.again
        if result.dispatched is not None:
            self._seen_work[pool.name] = result.dispatched.live_tasks
        if self.on_pass is not None:
            self.on_pass(result)
        return result

    def _plan_is_due(self, pool: Pool, now: datetime) -> bool:
        """Every plan_s; at once when work came that the last plan did not know of, or what it left for later may be."""
        last, again = self._planned.get(pool.name), self._again.get(pool.name)
        if last is None or now - last >= timedelta(seconds=self.plan_s) or (again is not None and now >= again):
            return True
        live = sum(1 for _ in self.ctx.ports.work.runs(pool.name, live=True))
        return self._new_runs(pool, live)

    def _new_runs(self, pool: Pool, live: int) -> bool:
        before = self._seen_work.get(f"{pool.name}/runs", 0)
        self._seen_work[f"{pool.name}/runs"] = live
        return live > before
