"""What one pass over a cluster has seen: submissions, and who waits for whom."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from preprov.contracts import OpenRun
from preprov.model.time import from_epoch
from preprov.slurm.accounting import AccountedJob
from preprov.slurm.records import SlurmJob
from preprov.sources.slurm.chains import Chains, waits_for, waits_for_of
from preprov.sources.slurm.reading import SlurmReader
from preprov.sources.slurm.units import Unit, merged, of_accounting

_CHAIN_KEPT_S: Final = 3_600.0


@dataclass
class Sighting:
    """Of one pass.

    The controller forgets elements of an array soon after they ended, while others still run; and a window of the
    accounting tells only of those that ended in it. So what is one of many is put together from all that was told of
    it, and asked for as a whole where some of it may be missing.

    Attributes:
        queued: what the queue told, of jobs that ended lately too. told: runs of which anything was seen.
        before: submissions of several tasks as the passes before left them.
    """

    reader: SlurmReader
    chains: Chains
    before: Mapping[int, Unit] = field(default_factory=dict)
    queued: dict[int, Unit] = field(default_factory=dict)
    told: set[int] = field(default_factory=set)
    _units: dict[int, Unit] = field(default_factory=dict)
    _asked: set[int] = field(default_factory=set)
    _whole: set[int] = field(default_factory=set)

    # ---- asked of Slurm

    def queue(self) -> tuple[SlurmJob, ...]:
        """The queue; dependencies are noted."""
        found = self.reader.jobs()
        for job in found:
            parents = waits_for(job.dependency)
            if parents:
                self.chains.add(job.array_job_id or job.het_job_id or job.job_id, parents)
        return found

    def ended(self, since: float, until: float) -> tuple[AccountedJob, ...]:
        """What ended in [since, until]; the dependencies that it tells of are noted."""
        found = self.reader.ended(from_epoch(since), from_epoch(until))
        self._learn(found)
        return found

    def of_jobs(self, units: Iterable[int]) -> tuple[AccountedJob, ...]:
        """These submissions, whenever they were."""
        wanted = sorted(set(units))
        found = self.reader.of_jobs(wanted) if wanted else ()
        self._whole.update(wanted)
        self._learn(found)
        return found

    def complete(self, units: Iterable[int], since: float) -> None:
        """Fetch what is missing of the runs of these units: a run is given whole or not at all.

        Args:
            units: that were taken. since: what ended from then on is told of elsewhere.
        """
        runs = {self.chains.run_of(u) for u in units}
        members = [m for run in runs for m in self.chains.members(run)]
        missing = [m for m in members if m not in self._units]
        self.take({m: self.queued[m] for m in missing if m in self.queued})
        unknown = [m for m in members if m not in self._units or self._lacks(m, since)]
        if unknown:
            found, _ = of_accounting(self.of_jobs(unknown))
            self.take(found)

    def _learn(self, jobs: Sequence[AccountedJob]) -> None:
        """Edges that nobody saw in the queue: from the command, where it was told or can be asked for."""
        unknown: dict[int, int] = {}
        for j in jobs:
            unit = j.array_job_id or j.het_job_id or j.job_id
            if j.submit_line:
                self.chains.add(unit, waits_for_of(j.submit_line))
            elif j.reason == "Dependency" and not self.chains.knows(unit) and unit not in self._asked:
                unknown[j.job_id] = unit
        self._asked |= set(unknown.values())
        if unknown:
            for job_id, command in self.reader.submit_lines(sorted(unknown)).items():
                if job_id in unknown:  # others of the same array are told of too
                    self.chains.add(unknown[job_id], waits_for_of(command))

    # ---- put together

    def live(self) -> dict[int, Unit]:
        """Submissions of the queue that are not over: how one that is over hung together the accounting says."""
        return {unit_id: unit for unit_id, unit in self.queued.items() if not unit.over}

    def take(self, units: Mapping[int, Unit]) -> None:
        """Keep what was learnt of these."""
        for unit_id, unit in units.items():
            known, queued = self._known(unit_id), self.queued.get(unit_id)
            if unit is not queued:
                known = replace(unit, tasks={**known.tasks, **unit.tasks}) if known is not None else unit
            self._units[unit_id] = merged(known, queued)
            self.told.add(self.chains.run_of(unit_id))

    def several(self) -> dict[int, Unit]:
        """Submissions of several tasks that the queue still knows, with all that is known of them."""
        return {u: self._units[u] for u, unit in self.queued.items() if unit.kind != "job" and u in self._units}

    def _known(self, unit_id: int) -> Unit | None:
        """What is known of a submission: told in this pass, or over before it."""
        known, before = self._units.get(unit_id), self.before.get(unit_id)
        if known is not None or before is None:
            return known
        return replace(before, tasks={i: t for i, t in before.tasks.items() if t.over})

    def _lacks(self, unit_id: int, since: float) -> bool:
        """True if tasks of a submission may have ended of which nothing was told."""
        unit, before = self._units[unit_id], self.before.get(unit_id)
        if unit.kind == "job" or unit_id in self._whole:
            return False
        return unit.submit < since if before is None else not before.tasks.keys() <= unit.tasks.keys()

    def units_of(self, run: int) -> tuple[Unit, ...]:
        """Of a run, the first submission first."""
        return tuple(self._units[m] for m in self.chains.members(run) if m in self._units)

    def forget(self) -> None:
        """Drop what is over and hangs together with nothing: a long history does not fit into memory."""
        chained = self.chains.units()
        self._units = {u: v for u, v in self._units.items() if u in chained or u in self.queued}
        self._whole &= self._units.keys()

    def settled(self, wall: float, still_open: Sequence[OpenRun]) -> list[int]:
        """Chains of which nothing more is to be expected."""
        held = {r.run_id for r in still_open}
        out = []
        for run in {self.chains.run_of(u) for u in self.chains.parents}:
            units = self.units_of(run)
            ends = [t.ended_at or 0.0 for u in units for t in u.tasks.values()]
            over = bool(units) and all(u.over for u in units) and wall - max(ends, default=0.0) > _CHAIN_KEPT_S
            if over or (not units and str(run) not in held):
                out.append(run)
        return out
