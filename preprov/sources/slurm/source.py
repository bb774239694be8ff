"""A Slurm cluster as a place where work lives: its queue at every pass, its accounting from a cursor on."""

import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from preprov.contracts import Clock, Finding, Progress, Reject, SourceState, SyncBatch
from preprov.model.agent import Usage
from preprov.model.errors import SourceError, SourceUnavailableError
from preprov.model.time import Timescale, epoch
from preprov.slurm.errors import SlurmError, Trouble
from preprov.slurm.windows import Windows
from preprov.sources.skew import HeardClock
from preprov.sources.slurm.chains import Chains
from preprov.sources.slurm.crontab import CronLine, CronTurns, cron_lines
from preprov.sources.slurm.examining import UNSUPPORTED, examine
from preprov.sources.slurm.looks import Looks
from preprov.sources.slurm.partitions import Partitions
from preprov.sources.slurm.reading import SlurmReader
from preprov.sources.slurm.runs import RunBuilder
from preprov.sources.slurm.sighting import Sighting
from preprov.sources.slurm.units import Unit, of_accounting, of_queue

T = TypeVar("T")

_DAY_S: Final = 86_400.0
_BACK_S: Final = 180.0
"""The accounting is written late: each pass looks so far behind its cursor."""
_BATCH: Final = 500
_SKEW: Final = "skew"
"""Where the notebook keeps by how many seconds Slurm's clock is ahead of ours."""


@dataclass(frozen=True)
class SlurmSettings:
    """What a [[source]] of kind "slurm" says.

    Attributes:
        key: its name. history_s: how far back the first pass goes, seconds of wall time.
        crontabs: files whose lines submit jobs. user: whose they are, where they do not say.
        usage: ask `sstat` what running jobs use. patience_s: of a pass that go into the accounting.
    """

    key: str
    zone: str = "UTC"
    tenant: str = "default"
    history_s: float = 28 * _DAY_S
    crontabs: tuple[Path, ...] = ()
    user: str = "root"
    usage: bool = True
    patience_s: float = 30.0


class SlurmSource:
    """Implements `contracts.LiveSource`.

    A run is what hangs together by dependencies; its id is the number of its first submission. Jobs that wait for a
    limit, or are held, are never expected: no node would help them. The cursor is in Slurm's own time, whatever its
    clock shows; what is told is in ours.

    Args:
        settings: as configured.
        reader: how Slurm is asked.
        clock: instants given to and taken from this object are on it; Slurm lives in wall time, by a clock of its own.
        speed: seconds of the clock per wall second.
        wall: gives wall time, epoch seconds.
    """

    def __init__(
        self,
        settings: SlurmSettings,
        reader: SlurmReader,
        clock: Clock,
        *,
        speed: float = 1.0,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._reader = reader
        self._wall = wall
        self._scale = Timescale.between(wall(), clock.now(), speed)
        self._heard = HeardClock(wall)
        self._skew: float | None = None
        self._kept: dict[int, int] = {}
        self._given: dict[int, float] = {}
        self._lines: dict[str, str] = {}
        self._windows = Windows(wall)
        self._first: float | None = None
        self._several: dict[int, Unit] = {}
        self._partitions = Partitions()

    @property
    def key(self) -> str:
        """As configured."""
        return self._settings.key

    @property
    def zone(self) -> str:
        """As configured."""
        return self._settings.zone

    def examine(self) -> tuple[Finding, ...]:
        """As the contract says."""
        s = self._settings
        return examine(self._reader, s.crontabs, self._heard, usage=s.usage)

    # ---- a pass

    def changes(self, state: SourceState, now: datetime, progress: Progress | None = None) -> Iterator[SyncBatch]:
        """As the contract says: what is live first, then the accounting, as much of it as there is patience for."""
        notebook = self._set_clock(state.notebook)
        skew = self._skew or 0.0
        wall = self._wall() + skew  # by Slurm's clock, as all that follows
        since = self._since(state, wall)
        if not state.cursor:
            self._kept.clear()
            self._several.clear()
            self._first = since
        lines, rejects = self._crontabs()
        turns = CronTurns(lines, second_s=self._scale.speed)
        scale = replace(self._scale, wall=self._scale.wall + skew)
        builder = RunBuilder(
            scale, self._settings.tenant, self._settings.zone, turns, self.key, self._given, self._lines
        )
        seen = Sighting(self._reader, Chains.read(state.notebook), self._several)
        declared = turns.schedules(self._settings.tenant, now) if self._settings.crontabs else None
        told = self._partitions.read(self._reader, wall, lambda at: epoch(scale.instant(at)))
        yield replace(told, schedules=declared, dag_queues=turns.queues(), rejects=tuple(rejects), notebook=notebook)
        seen.queued, rejects = of_queue(self._ask(seen.queue), self._partitions.stopped)
        self._note_given(seen.queued)
        yield from self._runs(seen, builder, seen.live(), rejects, since)
        yield SyncBatch(notebook=seen.chains.notes(state.notebook, ()))
        looks = Looks.read(state.notebook)
        yield from self._look(seen, builder, looks, state.notebook, since)
        read = yield from self._accounting(seen, builder, looks, since, wall, progress)
        # The accounting may not know yet what ended just now.
        yield from self._runs(seen, builder, seen.queued, (), since)
        self._several = seen.several()
        yield from self._untold(seen, builder, state, since)
        self._kept = {run: said for run, said in self._kept.items() if run in seen.told}
        finished = seen.settled(read, state.open)
        yield SyncBatch(notebook=seen.chains.notes(state.notebook, finished), more=read < wall)

    def _accounting(
        self,
        seen: Sighting,
        builder: RunBuilder,
        looks: Looks,
        since: float,
        wall: float,
        progress: Progress | None,
    ) -> Generator[SyncBatch, None, float]:
        """What ended from `since` on, up to now or until patience is at an end; returns up to when it was read."""
        began, begin = self._wall(), since
        first = since if self._first is None else min(since, self._first)
        while begin < wall and (begin == since or self._wall() - began < self._settings.patience_s):
            end = min(begin + self._windows.length_s, wall)
            jobs = self._ask(lambda b=begin, e=end: self._windows.ask(b, e, seen.ended))  # type: ignore[misc]
            if jobs is None:
                continue
            ended, rejects = of_accounting(jobs)
            yield from self._runs(seen, builder, ended, rejects, begin)
            until = max(min(end, wall - _BACK_S), since)
            runs = dict.fromkeys(seen.chains.run_of(u) for u in ended)
            used = [u for run in runs for u in builder.used(run, seen.units_of(run), begin, until, looks)]
            seen.forget()
            yield SyncBatch(cursor=json.dumps({"until": until}), usage=tuple(used))
            if progress is not None:
                progress((end - first) / max(wall - first, 1.0), "accounting")
            begin = end
        return begin

    def _look(
        self, seen: Sighting, builder: RunBuilder, looks: Looks, notebook: Mapping[str, str], read: float
    ) -> Iterator[SyncBatch]:
        """What running jobs use. It is asked of their nodes: where these do not answer, the pass goes on without.

        Args:
            read: up to when the accounting was read, by Slurm's clock: looks at what ended since are wanted yet.
        """
        live, at = seen.live(), self._wall() + (self._skew or 0.0)
        due = looks.due(live.values(), at) if self._settings.usage else []
        usage: list[tuple[str, Usage]] = []
        notes: tuple[str, ...] = ()
        try:
            found = dict(looks.taken(due, self._reader.usage([t.job_id for t in due]), at))
            for run in dict.fromkeys(seen.chains.run_of(u) for u in live) if found else ():
                usage += builder.uses(run, seen.units_of(run), found, at)
        except SlurmError as e:
            notes = (f"what running jobs use is not known: {e.where or 'sstat'}: {e.said}",)
        running = [t.job_id for unit in live.values() for t in unit.tasks.values()]
        yield SyncBatch(notebook=looks.notes(notebook, running, min(at, read)), usage=tuple(usage), notes=notes)

    def _set_clock(self, notebook: Mapping[str, str]) -> Mapping[str, str | None]:
        """Ask what time it is for Slurm; returns what is to be kept of that."""
        theirs = self._ask(self._reader.clock)
        if theirs is not None:
            self._heard.hear_at(theirs)
        taken = self._skew if self._skew is not None else float(notebook.get(_SKEW, 0.0))
        self._skew = taken if theirs is None else self._heard.settled(taken)
        if self._skew == taken:
            return {}
        self._kept.clear()  # what was told so far was told in other times
        return {_SKEW: str(self._skew)}

    def _note_given(self, queued: Mapping[int, Unit]) -> None:
        """Remember when jobs were given nodes that boot for them, for as long as the queue knows these jobs."""
        tasks = [t for unit in queued.values() for t in unit.tasks.values()]
        kept = {t.job_id: self._given[t.job_id] for t in tasks if t.job_id in self._given}
        kept.update({t.job_id: t.slot_at for t in tasks if t.slot_at is not None})
        self._given.clear()
        self._given.update(kept)

    def _since(self, state: SourceState, wall: float) -> float:
        if not state.cursor:
            return wall - self._settings.history_s
        try:
            until = float(json.loads(state.cursor)["until"])
        except (ValueError, KeyError, TypeError) as e:
            raise SourceError("the cursor is not ours", where=self.key, hint="read it anew from the beginning") from e
        return min(until, wall - _BACK_S)  # a clock that was put back is before its cursor

    def _crontabs(self) -> tuple[list[CronLine], list[Reject]]:
        lines: list[CronLine] = []
        rejects: list[Reject] = []
        for file in self._settings.crontabs:
            try:
                text = file.read_text(encoding="utf-8", errors="replace")
            except OSError as e:
                hint = "`crontab` names files that preprov may read"
                raise SourceError(f"cannot read {file}: {e.strerror}", where=self.key, hint=hint) from e
            system = "cron.d" in file.parts or file.name == "crontab"
            for found in cron_lines(text, user=self._settings.user, zone=self._settings.zone, system=system):
                if isinstance(found, CronLine):
                    lines.append(found)
                else:
                    rejects.append(found)
        return lines, rejects

    def _runs(
        self, seen: Sighting, builder: RunBuilder, found: Mapping[int, Unit], rejects: Sequence[Reject], since: float
    ) -> Iterator[SyncBatch]:
        """The runs of these units as they are now, whole; those left out that were kept just so before.

        Args:
            since: of what ended from then on these units, or others to come, tell.
        """
        seen.take(found)
        self._ask(lambda: seen.complete(found, since))
        changed: dict[int, tuple[Unit, ...]] = {}
        for run in dict.fromkeys(seen.chains.run_of(u) for u in found):
            units = seen.units_of(run)
            if units and self._kept.get(run) != hash(repr(units)):
                changed[run] = units
        runs = list(changed)
        if rejects:
            yield SyncBatch(rejects=tuple(rejects))
        for i in range(0, len(runs), _BATCH):
            part = {run: changed[run] for run in runs[i : i + _BATCH]}
            swallowed = tuple(str(u.unit_id) for run, units in part.items() for u in units if u.unit_id != run)
            yield SyncBatch(runs=builder.build(part, seen.chains), gone=swallowed)
            self._kept.update({run: hash(repr(units)) for run, units in part.items()})

    def _untold(self, seen: Sighting, builder: RunBuilder, state: SourceState, since: float) -> Iterator[SyncBatch]:
        """Runs that the store holds as open and nobody told of: over meanwhile, or gone."""
        lost = [int(r.run_id) for r in state.open if r.run_id.isdigit() and int(r.run_id) not in seen.told]
        if not lost:
            return
        members = [m for run in lost for m in seen.chains.members(run)]
        found, rejects = of_accounting(self._ask(lambda: seen.of_jobs(members)))
        yield from self._runs(seen, builder, found, rejects, since)
        gone = tuple(str(run) for run in lost if not any(m in found for m in seen.chains.members(run)))
        yield SyncBatch(gone=gone)
        for run in gone:
            self._kept.pop(int(run), None)

    def _ask(self, call: Callable[[], T]) -> T:
        """Ask Slurm; its refusals are the source's errors."""
        try:
            return call()
        except SlurmError as e:
            raise source_error(e, self.key) from e


_MEANS: Final[dict[Trouble, tuple[type[SourceError], str]]] = {
    Trouble.UNREACHABLE: (SourceUnavailableError, "are slurmctld, slurmdbd and munge up? `scontrol ping`"),
    Trouble.TOO_MUCH: (
        SourceUnavailableError,
        "are slurmctld and slurmdbd overloaded? `sdiag`; the next pass asks again",
    ),
    Trouble.GARBLED: (SourceUnavailableError, "the next pass asks again"),
    Trouble.DENIED: (SourceError, "this user may not see it: PrivateData, or a token of another user"),
    Trouble.MISSING: (SourceError, "install Slurm's client commands here, or read through slurmrestd"),
    Trouble.UNSUPPORTED: (SourceError, UNSUPPORTED),
}


def source_error(e: SlurmError, key: str) -> SourceError:
    """What a refusal of Slurm means to whoever reads it."""
    kind, hint = _MEANS.get(e.trouble, (SourceError, "`preprov source test` says what is missing"))
    return kind(f"{e.where or 'slurm'}: {e.said}", where=key, hint=hint)
