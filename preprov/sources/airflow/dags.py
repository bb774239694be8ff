"""The DAGs of an Airflow: which there are, what they look like, when they are due; asked for seldom, remembered."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from preprov.contracts import SeenRuns, SyncBatch
from preprov.model.errors import SourceError
from preprov.model.time import epoch
from preprov.model.waits import Cause, SlotLimit
from preprov.model.work import Schedule
from preprov.sources.airflow import clocks, shapes, timetables
from preprov.sources.airflow.assets import Assets
from preprov.sources.airflow.client import AirflowClient
from preprov.sources.airflow.facts import DagFacts, RunFacts, TaskFacts
from preprov.sources.airflow.fetching import Fetcher
from preprov.sources.airflow.runs import Telling, shape_of, table
from preprov.sources.airflow.shapes import PREFIX, DagShape
from preprov.sources.text import clean

_LIST_EVERY_S: Final = 60.0
_ASSETS_EVERY_S: Final = 600.0
_SHAPES_A_PASS: Final = 20
_SHAPE_OLD_S: Final = 86_400.0
"""API v1 does not say when a DAG's code changed: it is then asked for once a day."""
_ASLEEP: Final = "deferred"


class Dags:
    """What is known of the DAGs."""

    def __init__(self, client: AirflowClient, fetch: Fetcher, tenant: str) -> None:
        """Nothing yet."""
        self._client, self._fetch, self._tenant = client, fetch, tenant
        self.forget()

    def forget(self) -> None:
        """As at the beginning."""
        self.known = False
        self._listed: dict[str, DagFacts] = {}
        self._shapes: dict[str, DagShape] = {}
        self._exported: dict[str, tuple[datetime, ...]] = {}
        self._assets = Assets()
        self._listed_at = self._assets_at = float("-inf")
        self._denied: dict[str, str] = {}
        self._denied_told: dict[str, str] = {}
        self._clocks_told: dict[str, str] = {}
        self._unwritten: dict[str, str | None] = {}
        self._told: tuple[Schedule, ...] | None = None
        self._slots: tuple[SlotLimit, ...] = ()
        self.keeping: frozenset[str] = frozenset()
        self._limits_told: tuple[SlotLimit, ...] | None = None
        self._new_shapes = False
        self._absent: set[str] = set()

    def remember(self, notebook: Mapping[str, str]) -> None:
        """What an earlier process wrote down."""
        self.known = True
        self._shapes = shapes.from_notebook(notebook)
        self._new_shapes = True

    def tell_again(self) -> None:
        """Whatever was told last, nobody may have kept it."""
        self._told, self._limits_told, self._new_shapes = None, None, True
        self._denied_told, self._clocks_told = {}, {}
        self._unwritten = {PREFIX + d: s.dump() for d, s in self._shapes.items()} | {
            k: v for k, v in self._unwritten.items() if v is None
        }

    # ------------------------------------------------------------------ asking

    def refresh(self, now: float, variable: str) -> None:
        """Read the list of DAGs, unless that was done a moment ago."""
        self._absent.clear()
        if now - self._listed_at < _LIST_EVERY_S:
            return
        pages = self._client.pages("dags", "dags", {"order_by": "dag_id"})
        found = (dag for page in pages for dag in self._fetch.understood(page, DagFacts.of))
        self._listed = {dag.dag_id: dag for dag in found}
        self._listed_at = now
        self._exported = self._read_exported(variable)
        self._slots, self.keeping = self._read_pools()
        if now - self._assets_at >= _ASSETS_EVERY_S:
            self._assets, self._assets_at = self._read_assets(), now
        for dag_id in set(self._shapes) - set(self._listed):
            if not self.exists(dag_id):
                del self._shapes[dag_id]
                self._unwritten[PREFIX + dag_id] = None
        self._watch_timetables(now)

    def _read_exported(self, variable: str) -> dict[str, tuple[datetime, ...]]:
        """Turns that the provider published; none if it does not, or if we may not see."""
        try:
            found = self._client.get(f"variables/{variable}") if variable else None
            told = json.loads(str((found or {}).get("value") or "{}"))
            return {
                dag_id: tuple(datetime.fromisoformat(t) for t in turns)
                for dag_id, turns in told.get("turns", {}).items()
            }
        except SourceError as error:
            if error.retryable or any(timetables.is_own(d.timetable) for d in self._due()):
                self._deny(error, "of timetables of one's own only the next turn is known")
            return {}
        except (ValueError, TypeError, AttributeError):
            return {}

    def _due(self) -> list[DagFacts]:
        """DAGs that have a next run."""
        return [d for d in self._listed.values() if d.next_run == d.next_run]

    def _read_pools(self) -> tuple[tuple[SlotLimit, ...], frozenset[str]]:
        """Airflow's pools, and those in which a deferred task keeps its slots; none if we may not see them."""
        try:
            pages = list(self._client.pages("pools", "pools", {}))
        except SourceError as error:
            self._deny(error, "nothing is put down to Airflow's pools")
            return (), frozenset()
        found = {clean(p.get("name")): p for page in pages for p in page if p.get("name")}
        limits = tuple(
            SlotLimit(Cause.AIRFLOW_POOL, name, float(slots))
            for name, slots in sorted((name, p.get("slots")) for name, p in found.items())
            if isinstance(slots, int | float) and slots >= 0  # -1: as many as one likes
        )
        return limits, frozenset(name for name, p in found.items() if p.get("include_deferred"))

    def _read_assets(self) -> Assets:
        """Assets with their makers; none if we may not see them."""
        try:
            return Assets.ask(self._client)
        except SourceError as error:
            self._deny(error, "runs that assets trigger are foreseen only by how they came back before")
            return Assets()

    def _deny(self, error: SourceError, without: str) -> None:
        """Take down what was refused, and what is missing for it; raise what is no refusal."""
        if error.retryable:
            raise error
        self._denied[f"{error.what}: {without}"] = error.hint

    def limits(self) -> tuple[SlotLimit, ...]:
        """Airflow pools, and what each DAG may have active: from 3 on so many tasks of each run, before of all."""
        per_run = self._client.version == "v2"
        out = list(self._slots)
        for d in self._listed.values():
            if d.max_active_tasks is not None:
                out.append(SlotLimit(Cause.MAX_ACTIVE_TASKS, d.dag_id, d.max_active_tasks, per_run))
            if d.max_active_runs is not None:
                out.append(SlotLimit(Cause.MAX_ACTIVE_RUNS, d.dag_id, d.max_active_runs))
        return tuple(out)

    def _watch_timetables(self, now: float) -> None:
        """A timetable that changed, and one that was taken up again after a pause, holds from now on.

        In which zone its crons are read is seen anew at each next run.
        """
        zones = Counter(z for s in self._shapes.values() if (z := clocks.reads_in(s)))
        likely = [z for z, _ in sorted(zones.items(), key=lambda z: (-z[1], z[0]))]
        for dag_id, dag in self._listed.items():
            shape = self._shapes.get(dag_id)
            if shape is None:
                continue
            table = timetables.parse(dag.timetable)
            key = f"{'paused' if dag.paused else ''} {table.key}"
            if shape.timetable != key:
                shape = replace(shape, timetable=key, since=now if shape.timetable else shape.since)
            shape = replace(shape, clock=clocks.settled(table.plain_crons, dag.next_run, shape, likely))
            if shape != self._shapes[dag_id]:
                self._keep(shape)

    def learn(self, now: float, runs: Iterable[RunFacts]) -> None:
        """Ask what DAGs look like, a few of them at each pass: first those that run, then by when they are due."""
        running = {r.dag_id: r.version for r in runs}
        due = sorted(
            (d for d in self._listed.values() if not d.paused), key=lambda d: (d.next_run != d.next_run, d.next_run)
        )
        wanted = [d for d in running if self._is_old(d, running[d], now)]
        wanted += [d.dag_id for d in due if d.dag_id not in running and self._is_old(d.dag_id, "", now)]
        for dag_id in wanted[:_SHAPES_A_PASS]:
            before = self._shapes.get(dag_id)
            shape = shapes.ask(self._client, dag_id, now, running.get(dag_id, ""))
            if shape is not None and before is not None:
                ran = before.ran if before.code == shape.code else {}
                kept = {"widths": before.widths, "asleep": before.asleep, "ran": ran}
                held = {"since": before.since, "timetable": before.timetable, "clock": before.clock}
                shape = replace(shape, **held, **kept)  # type: ignore[arg-type]
            if shape is not None:
                self._keep(shape)
                self._new_shapes = True
        self._watch_timetables(now)

    def _is_old(self, dag_id: str, version: str, now: float) -> bool:
        shape = self._shapes.get(dag_id)
        if shape is None:
            return True
        if version and shape.version:
            return version.isdigit() and shape.version.isdigit() and int(version) > int(shape.version)
        return now - shape.read_at > _SHAPE_OLD_S

    def exists(self, dag_id: str) -> bool:
        """Whether there is such a DAG, stale ones included."""
        if dag_id in self._listed:
            return True
        if dag_id not in self._absent and self._fetch.has_dag(dag_id):
            return True
        self._absent.add(dag_id)
        return False

    # ------------------------------------------------------------------ knowing

    def facts(self, dag_id: str) -> DagFacts | None:
        """As it is listed."""
        return self._listed.get(dag_id)

    def shape(self, dag_id: str) -> DagShape | None:
        """What it looks like."""
        return self._shapes.get(dag_id)

    def sizes(self) -> dict[str, int]:
        """How many task instances a run of each DAG has."""
        return {d: len(s.tasks) + sum(s.widths.values()) for d, s in self._shapes.items()}

    def cron(self, dag_id: str) -> str:
        """Its cron, "" if it has none or several."""
        dag = self._listed.get(dag_id)
        crons = timetables.parse(dag.timetable).crons if dag else ()
        return crons[0] if len(crons) == 1 else ""

    def tenant(self, dag_id: str) -> str:
        """Whose it is."""
        dag = self._listed.get(dag_id)
        return self._tenant.replace("{owner}", dag.owner if dag else "")

    def noticed(self, dag_id: str, tasks: Iterable[TaskFacts]) -> None:
        """Tasks were seen in their states."""
        shape = self._shapes.get(dag_id)
        asleep = {t.task_id for t in tasks if t.state == _ASLEEP}
        if shape is not None and not asleep <= shape.asleep:
            self._keep(replace(shape, asleep=shape.asleep | asleep))

    def saw_whole(
        self, dag_id: str, widths: Mapping[str, int], tasks: Iterable[TaskFacts], *, past: bool = False
    ) -> None:
        """A run was seen with all its tasks; `past`: not the newest."""
        tasks = tuple(tasks)
        shape = self._shapes.get(dag_id)
        if shape is not None and widths and dict(shape.widths) != dict(widths):
            shape = replace(shape, widths=widths)
            self._keep(shape)
        ran = {t.task_id: t.looks for t in tasks if t.started == t.started}
        if shape is not None:
            known = {**ran, **shape.ran} if past else {**shape.ran, **ran}
            if known != shape.ran:
                self._keep(replace(shape, ran=known))
        self.noticed(dag_id, tasks)

    # ------------------------------------------------------------------ telling

    def _keep(self, shape: DagShape) -> None:
        self._shapes[shape.dag_id] = shape
        self._unwritten[PREFIX + shape.dag_id] = shape.dump()

    def written(self) -> dict[str, str | None]:
        """What is to be kept in the notebook since this was last asked."""
        found, self._unwritten = self._unwritten, {}
        return found

    def batch(self, now: datetime, how: Telling) -> SyncBatch | None:
        """Schedules and shapes, if they are not what was last told."""
        found = tuple(self._schedule(d, now, how) for d in self._listed.values())
        schedules = None if found == self._told else found
        told, self._told = self._shapes_told(how), found
        slots = self.limits()
        limits, self._limits_told = None if slots == self._limits_told else slots, slots
        notes = (*self._refusals(), *self._remarks())
        if schedules is None and told is None and limits is None and not self._unwritten and not notes:
            return None
        queues = {d: tuple(sorted({t.queue for t in s.tasks})) or ("",) for d, s in self._shapes.items()}
        return SyncBatch(
            schedules=schedules, dag_queues=queues, shapes=told, limits=limits, notebook=self.written(), notes=notes
        )

    def _refusals(self) -> tuple[str, ...]:
        """What Airflow refused, if that is not what was last told."""
        fresh = {k: v for k, v in self._denied.items() if k not in self._denied_told}
        self._denied_told = dict(self._denied)
        return tuple(f"{what} ({hint})" if hint else what for what, hint in fresh.items())

    def _remarks(self) -> tuple[str, ...]:
        """Of crons that are not read in their DAG's zone, if that is not what was last told."""
        found = {
            d: s.clock for d, s in self._shapes.items() if s.clock and d in self._listed and d not in self._exported
        }
        fresh = {d: clock for d, clock in found.items() if self._clocks_told.get(d) != clock}
        self._clocks_told = found
        return clocks.notes(fresh)

    def _schedule(self, dag: DagFacts, now: datetime, how: Telling) -> Schedule:
        exported = [t for t in self._exported.get(dag.dag_id, ()) if epoch(t) > epoch(now) - 86400]
        shape = self._shapes.get(dag.dag_id)
        declared = timetables.schedule(dag, shape, exported, now, self.tenant(dag.dag_id), how.shift_s)
        if shape is None:
            return declared
        condition = json.loads(shape.waits_for) if shape.waits_for else None
        return replace(declared, follows=self._assets.follows(dag.dag_id, condition))

    def _shapes_told(self, how: Telling) -> SeenRuns | None:
        if not self._new_shapes:
            return None
        self._new_shapes = False
        known: Sequence[DagShape] = [s for d, s in sorted(self._shapes.items()) if d in self._listed and s.tasks]
        return table([shape_of(s, how, self.tenant(s.dag_id), self.cron(s.dag_id)) for s in known], how)
