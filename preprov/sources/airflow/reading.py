"""One pass over an Airflow after the other, and what is remembered between them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from preprov.contracts import Clock, OpenRun, Progress, SeenRuns, SourceState, SyncBatch
from preprov.model.time import epoch, from_epoch
from preprov.sources.airflow import clocks
from preprov.sources.airflow.client import AirflowClient
from preprov.sources.airflow.cursor import OVERLAP_S, Cursor
from preprov.sources.airflow.dags import Dags
from preprov.sources.airflow.facts import RunFacts, RunKey
from preprov.sources.airflow.fetching import Fetcher, Tasks
from preprov.sources.airflow.runs import Seen, Telling, run_name, table, widths
from preprov.sources.airflow.tries import Tries
from preprov.sources.instants import NAN

_WHOLE_AGAIN_S: Final = 900.0
"""An open run is read whole again after so long, should a change of it ever have been missed."""
_SLICE_S: Final = 6 * 3600.0
_LONGEST_SLICE_S: Final = 32 * 86400.0
_FEW, _MANY = 250, 1_000
_ASK_AT_ONCE: Final = 100
_TELL_AT_ONCE: Final = 250
"""Runs that are over are told together: a table of few takes as long to make and to keep as one of many."""


@dataclass
class _Held:
    """An open run as it was last seen; `told`: what was last yielded of it."""

    run: RunFacts
    tasks: Tasks = field(default_factory=dict)
    whole_at: float = NAN
    told: object = None


class Reading:
    """Reads passes. Not safe for several threads."""

    def __init__(self, client: AirflowClient, source: str, tenant: str, clock: Clock, tries_a_pass: int) -> None:
        """Remember nothing yet."""
        self._client, self._clock = client, clock
        self._source = source
        self._fetch = Fetcher(client)
        self._dags = Dags(client, self._fetch, tenant)
        self._tries = Tries(self._fetch, tries_a_pass)
        self._held: dict[RunKey, _Held] = {}
        self._ended: dict[RunKey, RunFacts] = {}  # told as ended not long ago
        self._submits: dict[str, float] = {}
        self._changed_at = NAN
        self._slice_s = _SLICE_S
        self._skew = 0.0
        self._cursor = Cursor()
        self._broken = False

    def run(
        self,
        state: SourceState,
        now: float,
        *,
        history_s: float,
        patience_s: float,
        variable: str,
        progress: Progress | None,
    ) -> Iterator[SyncBatch]:
        """One pass; `now` in epoch seconds of our clock."""
        notebook = self._begin(state, now, history_s)
        server_now = now + self._skew
        how = Telling(self._source, -self._skew, now)
        if notebook:
            yield SyncBatch(notebook=notebook)
        self._dags.refresh(now, variable)
        open_runs = self._fetch.open_runs()
        self._dags.learn(now, open_runs.values())
        if (batch := self._dags.batch(from_epoch(now), how)) is not None:
            yield batch
        yield from self._open(open_runs, how, server_now)
        yield from self._just_ended(how, server_now)
        yield self._vanished(state.open, open_runs, how, server_now)
        yield from self._owed(open_runs, how)
        self._tries.keep(self._held, self._ended)
        if written := self._tries.written():
            yield SyncBatch(notebook=written)
        self._broken = False
        yield from self._past(how, patience_s, progress)
        self._tries.keep(self._held, self._ended)
        notes, more = self._tries.notes(), bool(self._tries.owed)
        if notes or more:
            yield SyncBatch(notes=notes, more=more)

    def _begin(self, state: SourceState, now: float, history_s: float) -> Mapping[str, str | None]:
        """Set up what this pass rests on; returns what is to be kept of it."""
        self._client.connect()
        self._cursor = Cursor.load(state.cursor)
        self._tries.begin(state.notebook)
        if not state.cursor:
            self._forget()
        elif self._broken:  # nobody knows what became of the batches of that pass
            self._tell_again()
        self._broken = True
        if not self._dags.known:
            self._dags.remember(state.notebook)
            self._skew = float(state.notebook.get("skew", 0.0))
        self._submits = {r.run_id: r.submit for r in state.open}
        taken, self._skew = self._skew, self._client.clock.settled(self._skew)
        changed = self._skew != taken
        if self._cursor.since != self._cursor.since:
            start = now + self._skew
            self._cursor = Cursor(start, start, start - history_s)
        elif self._skew < taken:  # its clock was put back: what ended since has times before the cursor
            self._cursor.since -= taken - self._skew
        return {"skew": str(self._skew)} if changed else {}

    def _forget(self) -> None:
        self._held.clear()
        self._ended.clear()
        self._tries.forget()
        self._dags.forget()
        self._changed_at = NAN

    def _tell_again(self) -> None:
        self._ended.clear()
        self._dags.tell_again()
        for held in self._held.values():
            held.told = None

    # ------------------------------------------------------------------ what is open

    def _open(self, found: Mapping[RunKey, RunFacts], how: Telling, server_now: float) -> Iterator[SyncBatch]:
        for key in [k for k in self._held if k not in found]:
            del self._held[key]  # it has ended, or is gone: both are looked for below
        for key, run in found.items():
            held = self._held.setdefault(key, _Held(run))
            held.run = run
        stale = [k for k, h in self._held.items() if not server_now - h.whole_at < _WHOLE_AGAIN_S]
        if len(stale) < len(self._held):
            self._merge_changes(set(stale))
        self._changed_at = server_now
        for part in self._fetch.tasks(stale, self._dags.sizes()):
            for key, tasks in part.items():
                self._held[key].tasks, self._held[key].whole_at = tasks, server_now
                self._dags.noticed(key[0], tasks.values())
            if batch := self._tell(part, how):
                yield batch
        if batch := self._tell([k for k in self._held if k not in set(stale)], how):
            yield batch

    def _merge_changes(self, stale: set[RunKey]) -> None:
        """What happened since the last pass to tasks of runs that are known; the stale ones are read whole anyway."""
        for key, task in self._fetch.changed_tasks(self._changed_at - OVERLAP_S):
            held = self._held.get(key)
            if held is not None and key not in stale:
                held.tasks[task.task_id, task.map_index] = task
                self._dags.noticed(key[0], (task,))

    def _tell(self, keys: Iterable[RunKey], how: Telling) -> SyncBatch | None:
        """Open runs, of those that look otherwise than when they were last told."""
        seen = []
        for key in keys:
            held = self._held[key]
            self._tries.read(key, held.tasks, over=False)
            one = self._seen(held.run, held.tasks)
            if (looks := one.looks) != held.told:
                held.told = looks
                seen.append(one)
        return SyncBatch(runs=table(seen, how), rejects=self._fetch.rejects()) if seen else None

    def _seen(self, run: RunFacts, tasks: Tasks) -> Seen:
        shape, dag = self._dags.shape(run.dag_id), self._dags.facts(run.dag_id)
        return Seen(
            run=run,
            tasks=tuple(tasks.values()),
            shape=shape,
            paused=dag is not None and dag.paused,
            cron=self._dags.cron(run.dag_id),
            zone=clocks.reads_in(shape) or "UTC",
            tenant=self._dags.tenant(run.dag_id),
            submit=self._submits.get(run_name(run), NAN),
            keeping=self._dags.keeping,
            earlier=self._tries.of(run.key, tasks),
        )

    # ------------------------------------------------------------------ what has ended

    def _just_ended(self, how: Telling, server_now: float) -> Iterator[SyncBatch]:
        """Runs that ended since the last pass, oldest first, so that the cursor can follow."""
        first = self._cursor.since - OVERLAP_S
        windows = list(self._fetch.ended(first, server_now))
        for _, until, runs in reversed(windows):
            fresh = [r for k, r in runs.items() if self._ended.get(k) != r]
            yield from self._told_whole(fresh, how)
            self._ended.update((r.key, r) for r in fresh)
            self._cursor.since = min(until, server_now)
            yield SyncBatch(cursor=self._cursor.dump())
        self._ended = {k: r for k, r in self._ended.items() if not r.ended < server_now - 2 * OVERLAP_S}

    def _told_whole(self, runs: Sequence[RunFacts], how: Telling, *, past: bool = False) -> Iterator[SyncBatch]:
        """Runs that are over, each with all its tasks."""
        by_key = {r.key: r for r in runs}
        seen: list[Seen] = []
        left = len(by_key)
        for part in self._fetch.tasks(by_key, self._dags.sizes()):
            for key, tasks in part.items():
                self._dags.saw_whole(key[0], widths(tasks), tasks.values(), past=past)
                self._tries.settle(key, whole=self._tries.read(key, tasks, over=True))
            seen += [self._seen(by_key[key], tasks) for key, tasks in part.items()]
            left -= len(part)
            if len(seen) >= _TELL_AT_ONCE or not left:
                yield SyncBatch(runs=table(seen, how), notebook=self._written(), rejects=self._fetch.rejects())
                seen = []

    def _written(self) -> dict[str, str | None]:
        return {**self._dags.written(), **self._tries.written()}

    def _vanished(
        self, known: Sequence[OpenRun], found: Mapping[RunKey, RunFacts], how: Telling, server_now: float
    ) -> SyncBatch:
        """Runs that the store holds as open, and that are neither open nor among those that ended."""
        lost = [r for r in known if (key := _key(r)) not in found and key not in self._ended]
        there = {dag_id: self._dags.exists(dag_id) for dag_id in {r.dag_id for r in lost}}
        gone = [r.run_id for r in lost if not there[r.dag_id]]
        late = []
        for r in [r for r in lost if there[r.dag_id]][:_ASK_AT_ONCE]:
            run = self._fetch.run(_key(r))
            if run is None:
                gone.append(r.run_id)
            elif run.over:
                late.append(run)
        told = list(self._told_whole(late, how))
        self._ended.update((r.key, r) for r in late)
        return SyncBatch(
            runs=_joined([b.runs for b in told]),
            gone=tuple(gone),
            cursor=self._cursor.dump(),
            notebook={**{k: v for b in told for k, v in b.notebook.items()}, **self._written()},
            rejects=tuple(r for b in told for r in b.rejects),
        )

    def _owed(self, found: Mapping[RunKey, RunFacts], how: Telling) -> Iterator[SyncBatch]:
        """Runs that were told without all tries of their tasks, for as long as this pass may ask about tries."""
        for key in self._tries.owed:
            if self._tries.spent:
                break
            run = None if key in found else self._fetch.run(key)
            if run is not None and run.over:
                yield from self._told_whole([run], how)
            else:  # open again, and told whole at its end; or there no more
                self._tries.settle(key, whole=True)

    # ------------------------------------------------------------------ the past

    def _past(self, how: Telling, patience_s: float, progress: Progress | None) -> Iterator[SyncBatch]:
        """Runs that ended before the first pass, newest first, for as long as there is patience."""
        c, began = self._cursor, epoch(self._clock.now())
        whole = max(self._cursor.since - c.floor, 1.0)
        while c.back > c.floor:
            if epoch(self._clock.now()) - began >= patience_s:
                yield SyncBatch(more=True)
                return
            first = max(c.back - self._slice_s, c.floor)
            count = 0
            for lo, _, runs in self._fetch.ended(first, c.back):
                count += len(runs)
                fresh = [r for k, r in runs.items() if self._ended.get(k) != r]
                yield from self._told_whole(fresh, how, past=True)
                c.back = lo
                yield SyncBatch(cursor=c.dump())
            factor = 2.0 if count < _FEW else 0.5 if count > _MANY else 1.0
            self._slice_s = min(max(self._slice_s * factor, 60.0), _LONGEST_SLICE_S)
            if progress is not None:
                progress(1.0 - (c.back - c.floor) / whole, f"{from_epoch(c.back):%Y-%m-%d %H:%M}")


def _key(run: OpenRun) -> RunKey:
    return run.dag_id, run.run_id[len(run.dag_id) + 1 :]


def _joined(runs: Sequence[SeenRuns]) -> SeenRuns:
    import numpy as np

    from preprov.model.worktable import WorkTable

    if not runs:
        return SeenRuns.empty()
    return SeenRuns(
        WorkTable.concat([r.work for r in runs]),
        np.concatenate([r.over for r in runs]),
        np.concatenate([r.queues for r in runs]),
    )
