"""What orchestrators tell becomes work at once: a run is in the demand before its place is read the next time.

What a place itself says is the truth. So a told run is kept under the id that the place will give it, and what the
place says later replaces it; of a run that the place has spoken of already, an event only has the place read again
soon. Work of places that nobody reads is known by events alone, and put together from all that were told of a run.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from preprov.contracts import PoolRuns, RoutedBatch
from preprov.control.context import Context
from preprov.control.routing import Router
from preprov.control.told_runs import from_shape, from_tasks
from preprov.model.errors import LeaseHeldError
from preprov.model.events import Event
from preprov.model.time import epoch

log = structlog.get_logger(__name__)

CURSOR: Final = ":told"
"""Under this name the store keeps how far events were read; no source can be called so."""
_LEASE_S: Final = 60.0
_PAGE: Final = 1_000
_OVERLAP: Final = 100
"""So many numbers are looked at again: of two that tell at once the one with the lower number may be kept later."""
FORGOTTEN: Final = timedelta(days=1)
"""A run that only events told of, and none has for so long, is taken to be gone: its end was never told."""
KEPT: Final = timedelta(days=35)
"""Events are kept for so long."""
_SWEEP: Final = timedelta(hours=1)


def as_told(dag_id: str, run_id: str) -> str:
    """The id of a run of a place that names its runs within their DAG, as Airflow does."""
    return f"{dag_id}/{run_id}"


@dataclass(frozen=True)
class Place:
    """A place that is read, and that events may name.

    Attributes:
        tenant: whose events are of it: somebody else's of the same name are of another place.
        router: where its work goes. run_id: (DAG, run) as told -> the run's id there.
        soon: have it read again before its time.
    """

    tenant: str
    router: Router
    run_id: Callable[[str, str], str] = as_told
    soon: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class _Run:
    """A run that was told of."""

    source: str
    tenant: str
    told_as: str
    dag_id: str
    run_id: str


@dataclass
class Telling:
    """Makes work of what is told. One for each process; another one that does the same does no harm.

    Attributes:
        places: by the name under which events speak of them. otherwise: where work of all others goes.
    """

    ctx: Context
    places: Mapping[str, Place]
    otherwise: Router
    _later: set[_Run] = field(default_factory=set)
    _read: set[int] = field(default_factory=set)
    _swept: datetime | None = None

    def fold(self) -> int:
        """Keep the runs of which something was told since the last time; returns how many."""
        sources = self.ctx.ports.sources
        after = int(sources.state(CURSOR).cursor or 0)
        runs, self._later, last = dict.fromkeys(self._later), set(), max(after - _OVERLAP, 0)
        while rows := self.ctx.ports.events.events(after=last, limit=_PAGE):
            runs.update(dict.fromkeys(self._run(e) for number, e in rows if number not in self._read))
            self._read.update(number for number, _ in rows)
            last = rows[-1][0]
        by_source: dict[str, list[_Run]] = {}
        for run in runs:
            by_source.setdefault(run.source, []).append(run)
        kept = sum(self._keep(source, some) for source, some in by_source.items())
        if last > after:
            sources.apply(CURSOR, RoutedBatch(cursor=str(last)), self.ctx.clock.now())
        self._read = {n for n in self._read if n > last - _OVERLAP}
        self._sweep()
        return kept

    def _run(self, event: Event) -> _Run:
        place = self.places.get(event.source)
        if place is not None and place.tenant == event.tenant:
            run_id = place.run_id(event.dag_id, event.run_id)
            return _Run(event.source, event.tenant, event.run_id, event.dag_id, run_id)
        name = f"{event.tenant}/{event.source}"  # no configured name has a slash
        run_id = as_told(event.dag_id, event.run_id)
        return _Run(name, event.tenant, event.run_id, event.dag_id, run_id)

    def _keep(self, source: str, runs: Sequence[_Run]) -> int:
        """Under the lease under which the place is read, so that the two never write the same run at once."""
        ctx, now = self.ctx, self.ctx.clock.now()
        place = self.places.get(source)
        try:
            with ctx.ports.leases.hold(f"source:{source}", f"{ctx.holder}/told", _LEASE_S, now):
                known = ctx.ports.sources.held(source, [r.run_id for r in runs]) if place is not None else frozenset()
                new = [r for r in runs if r.run_id not in known]
                for batch in self._batches(new, place):
                    ctx.ports.sources.apply(source, batch, now)
        except LeaseHeldError:  # it is being read: that may or may not bring these
            self._later.update(runs)
            return 0
        if place is not None and len(new) < len(runs):
            place.soon()
        if new:
            log.info("runs told of", source=source, runs=len(new))
        return len(new)

    def _batches(self, runs: Sequence[_Run], place: Place | None) -> Iterator[RoutedBatch]:
        router = place.router if place is not None else self.otherwise
        plain: dict[str, dict[str, list[Event]]] = {}  # pool that was named, "" = none -> run -> events
        for run in runs:
            events = self._told(run)
            shaped = self._shaped(run, events) if place is not None else {}
            if shaped:
                yield RoutedBatch(seen=(run.run_id,), parts=shaped, zone=router.zone)
            elif events:
                plain.setdefault(next((e.pool for e in events if e.pool), ""), {})[run.run_id] = events
        for named, told in plain.items():
            to = Router([replace(r, pool=named) for r in router.routes], named, router.zone) if named else router
            yield RoutedBatch(seen=tuple(told), parts=to.parts(from_tasks(told)), zone=router.zone)

    def _shaped(self, run: _Run, events: Sequence[Event]) -> dict[str, PoolRuns]:
        """The run as the place described its DAG, in each pool that it described it for."""
        out = {}
        for pool in self.ctx.pools:
            shape = self.ctx.ports.sources.shapes(pool, [run.dag_id])
            if len(shape.runs):
                out[pool] = from_shape(run.run_id, shape, events)
        return out

    def _told(self, run: _Run) -> list[Event]:
        """Everything that was told of a run, in the order in which it happened."""
        found: list[Event] = []
        last, source = 0, run.source.removeprefix(f"{run.tenant}/")
        while rows := self.ctx.ports.events.events(run.tenant, run_id=run.told_as, after=last, limit=_PAGE):
            found += [e for _, e in rows if e.source == source and e.dag_id == run.dag_id]
            last = rows[-1][0]
        return sorted(found, key=lambda e: e.at)

    def _sweep(self) -> None:
        """Drop old events, and runs of places that nobody reads whose end was never told."""
        ctx, now = self.ctx, self.ctx.clock.now()
        if self._swept is not None and now - self._swept < _SWEEP:
            return
        self._swept = now
        ctx.ports.events.forget(now - KEPT)
        for source in (s.source for s in ctx.ports.sources.statuses() if "/" in s.source):
            gone = tuple(
                r.run_id
                for r in ctx.ports.sources.state(source).open
                if r.submit < epoch(now - FORGOTTEN) and self._silent(source, r.dag_id, r.run_id, now)
            )
            if gone:
                ctx.ports.sources.apply(source, RoutedBatch(gone=gone), now)

    def _silent(self, source: str, dag_id: str, run_id: str, now: datetime) -> bool:
        tenant = source.partition("/")[0]
        events = self._told(_Run(source, tenant, run_id.removeprefix(f"{dag_id}/"), dag_id, run_id))
        return all(e.at < now - FORGOTTEN for e in events)
