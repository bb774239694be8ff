"""The port for runs and tasks: ingested history and what is served here, as one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from preprov.contracts import IngestResult, SourceBatch
from preprov.model.errors import StoreError
from preprov.model.series import SeriesHistory
from preprov.model.time import aware
from preprov.model.work import DagRun, DagSpec, Schedule, State, TaskRun
from preprov.model.worktable import WorkTable
from preprov.store import columns, fold, history, live, livecolumns, sourcenames, sourceruns, sources
from preprov.store.engine import Database
from preprov.store.sourcenames import Counted


class SqlWorkStore:
    """Implements `contracts.WorkStore`."""

    def __init__(self, db: Database, counted: Counted) -> None:
        self._db, self._counted = db, counted

    def pools(self) -> Mapping[str, str]:
        """Pools that have history, with the zone of the last ingest, or of the source that feeds them."""
        with self._db.read() as session:
            return {**sources.pools(session), **history.pools(session)}

    def ingested(self, pool: str, digest: str) -> IngestResult | None:
        """What an earlier ingest of this very content did; None if there was none."""
        with self._db.read() as session:
            return history.known(session, pool, digest)

    def ingest(
        self, pool: str, key: str, digest: str, batches: Iterable[SourceBatch], *, zone: str = "UTC"
    ) -> IngestResult:
        """Write all batches in one transaction, or nothing."""
        return history.ingest(self._db, pool, key, digest, batches, zone)

    def work(self, pool: str, *, since: datetime | None = None, until: datetime | None = None) -> WorkTable:
        """Runs of the pool submitted in [since, until] with their tasks, by submit time."""
        with self._db.read() as session:
            aside = self._counted.aside(session)
            parts = [
                history.read_work(session, pool, since, until, sourcenames.folded(session, pool, aside)),
                sourceruns.read_work(session, pool, since, until, aside),
                livecolumns.read_work(session, pool, since, until),
            ]
        return columns.by_submit(WorkTable.concat(parts))

    def schedules(self, pool: str) -> tuple[Schedule, ...]:
        """Declared schedules of the pool."""
        with self._db.read() as session:
            return history.schedules(session, pool, self._counted.aside(session))

    def has_template(self, pool: str, dag_id: str) -> bool:
        """True if a spec of the DAG is kept, so that `materialise` can make runs of it."""
        with self._db.read() as session:
            return live.has_template(session, pool, dag_id)

    def specs(self, pool: str, dag_ids: Sequence[str]) -> tuple[DagSpec, ...]:
        """The last spec of each DAG that was submitted."""
        with self._db.read() as session:
            return live.specs(session, pool, dag_ids)

    def write_series(self, pool: str, key: str, digest: str, series: SeriesHistory) -> IngestResult:
        """Keep a demand series as this pool's history."""
        return history.write_series(self._db, pool, key, digest, series)

    def series(self, pool: str) -> SeriesHistory | None:
        """The demand series ingested for this pool."""
        with self._db.read() as session:
            return history.read_series(session, pool)

    def submit(self, dag: DagSpec, pool: str, at: datetime, run_id: str | None = None) -> DagRun | None:
        """Register a DAG; create a run of it unless its schedule will."""
        at = aware(at)
        with self._db.write(f"work:{pool}") as session:
            if run_id is not None:
                known = live.find_run(session, run_id)
                if known is not None and known.run_id == run_id:
                    return known
                if history.has_run(session, pool, run_id):
                    raise StoreError(f"run {run_id} was ingested into pool {pool}", hint="choose another run id")
            live.keep_template(session, dag, pool, at)
            turn = None
            if dag.schedule is not None:
                history.declare(session, pool, live.declared(dag, pool, at))
                if dag.due is None:
                    return None
                turn = dag.due
                if made := live.find_turn(session, pool, dag.dag_id, turn):
                    return made
            run = live.first_state(dag, pool, at, run_id or live.new_run_id(dag.dag_id, at), turn=turn, due=dag.due)
            live.create(session, dag, run, cron=dag.schedule or "", zone=dag.zone)
            return run

    def materialise(self, schedule: Schedule, scheduled_for: datetime, at: datetime) -> DagRun:
        """Create the run of a declared schedule's turn from the DAG's last spec."""
        turn, pool = aware(scheduled_for), schedule.pool
        with self._db.write(f"work:{pool}") as session:
            if made := live.find_turn(session, pool, schedule.dag_id, turn):
                return made
            dag = live.template(session, pool, schedule.dag_id)
            run_id = live.turn_run_id(pool, dag.dag_id, turn)
            run = live.first_state(dag, pool, aware(at), run_id, turn=turn, due=turn)
            run = replace(run, land_by=live.land_by(schedule, turn))
            live.create(session, dag, run, cron=schedule.cron, zone=schedule.zone)
            return run

    def runs(self, pool: str | None = None, *, live: bool = False, limit: int | None = None) -> tuple[DagRun, ...]:
        """Runs served here, newest first; `live` leaves out final ones."""
        with self._db.read() as session:
            return _list_runs(session, pool, live=live, limit=limit)

    def run(self, run_id: str) -> DagRun | None:
        """One run by id or unique prefix."""
        with self._db.read() as session:
            return live.find_run(session, run_id)

    def task_runs(self, run_ids: Sequence[str]) -> tuple[TaskRun, ...]:
        """All tasks of these runs, parents before children."""
        with self._db.read() as session:
            return live.list_tasks(session, run_ids)

    def started(self, pool: str, *, since: datetime, until: datetime) -> tuple[TaskRun, ...]:
        """Tasks of runs served here that started in [since, until), in the order of their start."""
        with self._db.read() as session:
            return live.started(session, pool, since, until)

    def save_tasks(self, tasks: Sequence[TaskRun]) -> None:
        """Write states and times of live tasks; a final state is never overwritten."""
        with self._db.write() as session:
            live.save_tasks(session, tasks)

    def save_run(self, run_id: str, state: State, ended_at: datetime | None, reason: str = "") -> None:
        """Write the state of a live run; a final state is never overwritten."""
        with self._db.write() as session:
            live.save_run(session, run_id, state, ended_at, reason)
        if state.is_final:
            fold.fold(self._db)


_list_runs = live.list_runs  # inside `runs` the name `live` is the flag of the contract
