"""Read the places where work lives: one pass, and the thread that makes one again and again."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from preprov.contracts import UNROUTED, LiveSource, Progress, Reject
from preprov.control.context import Context
from preprov.control.ingesting import RejectSink, forget, has_read
from preprov.control.routing import Router
from preprov.model.errors import LeaseHeldError, PreprovError

log = structlog.get_logger(__name__)

_LEASE_S: Final = 600.0
_SAID_AGAIN: Final = timedelta(days=1)
_SOONEST: Final = 1 / 3
"""Of the time between passes: however much is told of a place, it is not read more often than that."""


@dataclass(frozen=True)
class SyncResult:
    """What a pass over a source brought.

    Attributes:
        new, changed, same, gone: runs. tasks: of the runs that were read. batches: kept one by one.
        samples: of usage. unrouted: runs with tasks that no route sends anywhere. pools: where the others went.
        notes: what a person should know. rejects: rows that could not be read. seconds: of the context's clock.
        more: there is more of the past to be read; the next pass should follow at once.
    """

    source: str
    at: datetime
    new: int
    changed: int
    same: int
    gone: int
    tasks: int
    batches: int
    unrouted: int
    pools: tuple[str, ...]
    notes: tuple[str, ...]
    rejects: int
    seconds: float
    more: bool = False
    samples: int = 0

    @property
    def said(self) -> tuple[str, ...]:
        """The notes, and how many rows could not be read."""
        unread = f"{self.rejects} rows could not be read"
        return (*self.notes, unread) if self.rejects else self.notes

    def plus(self, after: "SyncResult") -> "SyncResult":
        """With the pass that followed."""
        names = ("new", "changed", "same", "gone", "tasks", "batches", "unrouted", "rejects", "seconds", "samples")
        total = {n: getattr(self, n) + getattr(after, n) for n in names}
        notes = tuple(dict.fromkeys((*self.notes, *after.notes)))
        return replace(after, at=self.at, notes=notes, **total)


def sync(
    ctx: Context,
    source: LiveSource,
    router: Router,
    *,
    sink: RejectSink | None = None,
    progress: Progress | None = None,
) -> SyncResult:
    """One pass over a source: everything that changed since the last one is kept, batch by batch.

    Raises:
        SourceError: it could not be read to the end; what came before is kept, and the next pass goes on from there.
        LeaseHeldError: another process reads it now.
    """
    name, port, began = source.key, ctx.ports.sources, ctx.clock.now()
    try:
        lease = ctx.ports.leases.hold(f"source:{name}", ctx.holder, _LEASE_S, began)
        with lease:
            port.began(name, began)
            try:
                result = _pass(ctx, source, router, began, sink, progress)
            except Exception as error:
                port.ended(name, ctx.clock.now(), str(error) or type(error).__name__)
                raise
            port.ended(name, began, notes=result.said)
    except LeaseHeldError as held:
        hint = "it ends by itself; the next pass will do"
        raise LeaseHeldError(f"source {name} is being read by another process", where=held.where, hint=hint) from held
    for pool in result.pools:
        has_read(ctx, pool, name, began)
    return result


def _pass(
    ctx: Context,
    source: LiveSource,
    router: Router,
    began: datetime,
    sink: RejectSink | None,
    progress: Progress | None,
) -> SyncResult:
    state, more = ctx.ports.sources.state(source.key), False
    count: Counter[str] = Counter()
    notes: dict[str, None] = {}
    for batch in source.changes(state, began, progress):
        routed = router.routed(batch, source.zone)
        # Before the cursor: a pass that breaks off here reads it again, and a sample that stands twice counts once.
        samples = ctx.ports.samples.append(router.default or source.key, batch.usage) if batch.usage else 0
        done = ctx.ports.sources.apply(source.key, routed, ctx.clock.now())
        count.update(new=done.new, changed=done.changed, same=done.same, gone=done.gone)
        count.update(tasks=len(batch.runs.work), batches=1, rejects=len(batch.rejects), samples=samples)
        if UNROUTED in routed.parts:
            count.update(unrouted=len(routed.parts[UNROUTED].runs))
        notes.update(dict.fromkeys((*batch.notes, *done.notes)))
        more |= batch.more
        if batch.rejects and sink is not None:
            sink(batch.rejects)
    pools = next((s.pools for s in ctx.ports.sources.statuses() if s.source == source.key), ())
    if not state.cursor:  # the first time: nothing of what was learnt without it holds
        for pool in pools:
            forget(ctx, pool)
    return SyncResult(
        source=source.key,
        at=began,
        new=count["new"],
        changed=count["changed"],
        same=count["same"],
        gone=count["gone"],
        tasks=count["tasks"],
        batches=count["batches"],
        unrouted=count["unrouted"],
        pools=pools,
        notes=tuple(notes),
        rejects=count["rejects"],
        seconds=(ctx.clock.now() - began).total_seconds(),
        more=more,
        samples=count["samples"],
    )


def sync_whole(
    ctx: Context,
    source: LiveSource,
    router: Router,
    *,
    sink: RejectSink | None = None,
    progress: Progress | None = None,
) -> SyncResult:
    """Passes until there is no more of the past to be read; errors as of `sync`."""
    total = sync(ctx, source, router, sink=sink, progress=progress)
    while total.more:
        total = total.plus(sync(ctx, source, router, sink=sink, progress=progress))
    return total


@dataclass
class Reader:
    """Reads one source again and again in a thread of its own, so that slow answers hold nothing else up.

    Attributes:
        every_s: seconds of the context's clock from the beginning of one pass to that of the next.
        keep: keeps the rows of a pass that could not be read, and says where; None = nobody does.
    """

    ctx: Context
    source: LiveSource
    router: Router
    every_s: float
    keep: Callable[[Sequence[Reject]], str] | None = None
    stopping: threading.Event = field(default_factory=threading.Event)
    _woken: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _said: dict[str, datetime] = field(default_factory=dict)

    def start(self) -> None:
        """Begin; ends with the process, or at `stop`."""
        self._thread = threading.Thread(target=self._run, name=f"source-{self.source.key}", daemon=True)
        self._thread.start()

    def soon(self) -> None:
        """Begin the next pass before its time: once a third of it has gone by."""
        self._woken.set()

    def stop(self, wait_s: float = 5.0) -> None:
        """Begin no further pass. One that is under way may be cut off by the end of the process: that loses nothing."""
        self.stopping.set()
        self._woken.set()
        if self._thread is not None:
            self._thread.join(wait_s)

    def once(self) -> SyncResult | None:
        """One pass; an error is logged, and the next one tries again. None if there was an error."""
        rejects: list[Reject] = []
        try:
            result = sync(self.ctx, self.source, self.router, sink=rejects.extend)
        except PreprovError as e:  # the age of what is known grows, and a guard stops raises in the end
            log.error("source not read", source=self.source.key, error=e.kind, what=e.what, where=e.where, hint=e.hint)
            return None
        finally:
            if rejects:
                where = self.keep(rejects) if self.keep is not None else ""
                log.warning(
                    "rows not read", source=self.source.key, rows=len(rejects), why=rejects[0].reason, file=where
                )
        log.info(
            "source read",
            source=result.source,
            new=result.new,
            changed=result.changed,
            gone=result.gone,
            samples=result.samples,
        )
        for note in result.notes:
            self._say(note)
        return result

    def _say(self, note: str) -> None:
        """Log it, once a day: many a source says the same at each pass."""
        now = self.ctx.clock.now()
        if note not in self._said or now - self._said[note] >= _SAID_AGAIN:
            self._said[note] = now
            log.warning("source says", source=self.source.key, note=note)

    def _run(self) -> None:
        speed = float(getattr(self.ctx.clock, "speed", 1.0))
        while not self.stopping.is_set():
            began, result = self.ctx.clock.now(), None
            try:
                result = self.once()
            except Exception:  # a fault in reading one place must not end the reading of it
                log.exception("source not read", source=self.source.key)
            if result is not None and result.more:
                continue
            spent = (self.ctx.clock.now() - began).total_seconds()
            least_s = max(self.every_s * _SOONEST - spent, 0.0)
            self.stopping.wait(least_s / speed)
            self._woken.wait(max(self.every_s - spent - least_s, 0.0) / speed)
            self._woken.clear()


def remember_ages(ctx: Context, sources: Sequence[str]) -> None:
    """As a process begins: how old is what the store knows of these sources."""
    for status in ctx.ports.sources.statuses():
        if status.source in sources and status.read_at is not None:
            for pool in status.pools:
                has_read(ctx, pool, status.source, status.read_at)
