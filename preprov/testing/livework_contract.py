"""What every store must do with work that is served here."""

from dataclasses import replace
from datetime import timedelta, timezone

import pytest

from preprov.contracts import Ports, SourceBatch
from preprov.model.errors import (
    StoreError,
)
from preprov.model.time import epoch
from preprov.model.work import Schedule, State, TaskSpec, Trigger
from preprov.model.worktable import DONE, PENDING, READY, RUNNING
from preprov.testing.store_examples import (
    A_DAG,
    POOL,
    T0,
    PortsContract,
    history,
    minutes,
)


class LiveWorkContract(PortsContract):
    """Work that is served here."""

    def test_a_submitted_dag_becomes_a_run_with_tasks(self, ports: Ports) -> None:
        """Parents before children, every field of the spec kept."""
        run = ports.work.submit(A_DAG, POOL, T0)
        assert run is not None
        assert (run.dag_id, run.pool, run.tenant, run.priority) == ("etl", POOL, "finance", 3)
        assert (run.trigger, run.state, run.submitted_at) == (Trigger.MANUAL, State.PENDING, T0)
        tasks = ports.work.task_runs([run.run_id])
        assert [t.task_id for t in tasks] == ["extract", "clean", "load"]
        assert {t.task_id: t.spec for t in tasks} == {t.task_id: t for t in A_DAG.tasks}
        assert [t.priority for t in tasks] == [3, 9, 3]
        assert {t.tenant for t in tasks} == {"finance"}
        assert ports.work.has_template(POOL, "etl")
        assert ports.work.specs(POOL, ["etl", "never submitted"]) == (A_DAG,)
        assert ports.work.specs("another", ["etl"]) == ()

    def test_a_run_id_is_submitted_once(self, ports: Ports) -> None:
        """The second call returns the first run."""
        first = ports.work.submit(A_DAG, POOL, T0, run_id="r1")
        assert ports.work.submit(A_DAG, POOL, T0 + minutes(1), run_id="r1") == first
        assert len(ports.work.runs(POOL)) == 1

    def test_two_submissions_are_two_runs(self, ports: Ports) -> None:
        """Even within one instant; newest first."""
        names = [r.run_id for r in (ports.work.submit(A_DAG, POOL, T0) for _ in range(2)) if r]
        late = ports.work.submit(A_DAG, POOL, T0 + minutes(5))
        assert len(set(names)) == 2
        assert ports.work.runs(POOL)[0] == late
        assert len(ports.work.runs(POOL, limit=2)) == 2
        assert ports.work.runs("other") == ()
        assert len(ports.work.runs()) == 3

    def test_a_run_is_found_by_id_or_unique_prefix(self, ports: Ports) -> None:
        """An ambiguous prefix finds none."""
        a = ports.work.submit(A_DAG, POOL, T0, run_id="abc-1")
        ports.work.submit(A_DAG, POOL, T0, run_id="abc-22")
        ports.work.submit(A_DAG, POOL, T0, run_id="abc-2")
        assert ports.work.run("abc-1") == a
        short = ports.work.run("abc-2")
        assert short is not None
        assert short.run_id == "abc-2"
        assert ports.work.run("abc") is None
        assert ports.work.run("ABC-1") is None
        assert ports.work.run("%") is None
        assert ports.work.run("") is None

    def test_a_scheduled_dag_is_declared_and_runs_at_its_turns(self, ports: Ports) -> None:
        """Each turn once."""
        nightly = replace(A_DAG, schedule="0 2 * * *", zone="Europe/Zurich")
        assert ports.work.submit(nightly, POOL, T0) is None
        (schedule,) = ports.work.schedules(POOL)
        assert (schedule.dag_id, schedule.cron, schedule.zone) == ("etl", "0 2 * * *", "Europe/Zurich")
        assert (schedule.tenant, schedule.priority, schedule.since) == ("finance", 3, T0)
        turn = T0 + minutes(60)
        run = ports.work.materialise(schedule, turn, T0 + minutes(59))
        assert (run.scheduled_for, run.due, run.trigger, run.state) == (turn, turn, Trigger.SCHEDULED, State.PENDING)
        assert ports.work.materialise(schedule, turn, T0 + minutes(61)) == run
        assert ports.work.materialise(schedule, turn + minutes(1440), T0).run_id != run.run_id
        assert len(ports.work.runs(POOL)) == 2
        table = ports.work.work(POOL).runs
        assert set(table["schedule"]) == {"0 2 * * *"}

    def test_a_scheduled_dag_with_a_due_time_runs_then_too(self, ports: Ports) -> None:
        """And its land-by is kept for the turns as a span."""
        dag = replace(A_DAG, schedule="0 2 * * *", due=T0 + minutes(30), land_by=T0 + minutes(90))
        run = ports.work.submit(dag, POOL, T0)
        assert run is not None
        assert (run.due, run.land_by) == (T0 + minutes(30), T0 + minutes(90))
        turn = T0 + minutes(1440)
        assert ports.work.materialise(ports.work.schedules(POOL)[0], turn, turn).land_by == turn + minutes(60)

    def test_a_turn_takes_the_last_spec(self, ports: Ports) -> None:
        """Of this pool."""
        nightly = replace(A_DAG, schedule="0 2 * * *")
        ports.work.submit(nightly, POOL, T0)
        ports.work.submit(replace(nightly, tasks=(TaskSpec("only"),)), POOL, T0 + minutes(1))
        (schedule,) = ports.work.schedules(POOL)
        run = ports.work.materialise(schedule, T0 + minutes(9), T0 + minutes(9))
        assert [t.task_id for t in ports.work.task_runs([run.run_id])] == ["only"]

    def test_a_schedule_without_a_spec_makes_no_run(self, ports: Ports) -> None:
        """It was only ingested."""
        with pytest.raises(StoreError):
            ports.work.materialise(Schedule("seen", POOL, "0 2 * * *", "UTC"), T0, T0)

    def test_states_and_times_are_kept(self, ports: Ports) -> None:
        """Of tasks and of runs."""
        run = ports.work.submit(A_DAG, POOL, T0)
        assert run is not None
        extract, *rest = ports.work.task_runs([run.run_id])
        running = replace(
            extract, state=State.RUNNING, ready_at=T0, started_at=T0 + minutes(1), node_id="n1", attempt=2, done=(0, 2)
        )
        ports.work.save_tasks([running])
        assert ports.work.task_runs([run.run_id]) == (running, *rest)
        ports.work.save_run(run.run_id, State.RUNNING, None)
        assert ports.work.runs(live=True) == (replace(run, state=State.RUNNING),)

    def test_what_started_within_a_stretch_of_time_is_found(self, ports: Ports) -> None:
        """By its start, whether its run is over or not; the end of the stretch is left out."""
        first, second = (ports.work.submit(A_DAG, POOL, T0, run_id=name) for name in ("one", "two"))
        assert first is not None
        assert second is not None
        for run, begin in ((first, 2), (second, 1)):
            extract, clean, _ = ports.work.task_runs([run.run_id])
            ports.work.save_tasks(
                [
                    replace(extract, state=State.RUNNING, started_at=T0 + minutes(begin), provision_wait_s=3.0),
                    replace(clean, state=State.RUNNING, started_at=T0 + minutes(begin + 5)),
                ]
            )
        ports.work.save_run("one", State.CANCELLED, T0 + minutes(8), "asked for")
        found = ports.work.started(POOL, since=T0 + minutes(1), until=T0 + minutes(7))
        assert [(t.run_id, t.task_id) for t in found] == [("two", "extract"), ("one", "extract"), ("two", "clean")]
        assert found[0].provision_wait_s == 3.0
        late = ports.work.started(POOL, since=T0 + minutes(7), until=T0 + minutes(20))
        assert [(t.run_id, t.task_id) for t in late] == [("one", "clean")]
        assert ports.work.started("other", since=T0, until=T0 + minutes(20)) == ()

    def test_a_final_state_is_never_overwritten(self, ports: Ports) -> None:
        """Nor is anything else of it."""
        run = ports.work.submit(A_DAG, POOL, T0)
        assert run is not None
        task = ports.work.task_runs([run.run_id])[0]
        over = replace(task, state=State.FAILED, started_at=T0, ended_at=T0 + minutes(1), exit_code=-9, reason="killed")
        ports.work.save_tasks([over])
        ports.work.save_tasks([replace(task, state=State.RUNNING)])
        assert ports.work.task_runs([run.run_id])[0] == over
        ports.work.save_run(run.run_id, State.CANCELLED, T0 + minutes(2), "asked for")
        ports.work.save_run(run.run_id, State.RUNNING, None)
        found = ports.work.run(run.run_id)
        assert found == replace(run, state=State.CANCELLED, ended_at=T0 + minutes(2), reason="asked for")
        assert ports.work.runs(live=True) == ()

    def test_live_work_shows_in_the_table_as_it_happens(self, ports: Ports) -> None:
        """Beside what was ingested; states follow the times."""
        ports.work.ingest(POOL, "k", "d", [SourceBatch(history(4, start=T0 - minutes(60)))])
        run = ports.work.submit(A_DAG, POOL, T0, run_id="live")
        assert run is not None
        extract, clean, _ = ports.work.task_runs(["live"])
        ports.work.save_tasks(
            [
                replace(
                    extract, state=State.SUCCEEDED, ready_at=T0, started_at=T0 + minutes(1), ended_at=T0 + minutes(3)
                ),
                replace(clean, state=State.RUNNING, ready_at=T0 + minutes(3), started_at=T0 + minutes(4)),
            ]
        )
        work = ports.work.work(POOL)
        assert list(work.runs["run_id"])[-1] == "live"
        assert work.runs["timing"].iloc[-1] == "observed"
        now = T0 + minutes(5)
        seen = work.as_of(now)
        tasks = seen.tasks[seen.tasks["run"] == 4]
        assert list(tasks["task_id"]) == ["extract", "clean", "load"]
        assert list(seen.states(now)[tasks.index]) == [DONE, RUNNING, PENDING]
        assert tasks["runtime_s"].iloc[0] == 120.0
        assert tasks["runtime_s"].iloc[1:].isna().all()
        assert list(tasks["cpu"]) == [1.0, 1.0, 2.0]
        assert list(tasks["instances"]) == [3, 1, 1]
        at = {
            (work.tasks["task_id"][p], work.tasks["task_id"][c])
            for p, c in zip(work.parents, work.children, strict=True)
            if p >= tasks.index[0]
        }
        assert at == {("extract", "clean"), ("extract", "load"), ("clean", "load")}

    def test_a_ready_task_waits_and_a_cancelled_one_does_not(self, ports: Ports) -> None:
        """What never ran and never will is done, or it would be planned for."""
        for name in ("ready", "skipped", "dropped"):
            ports.work.submit(replace(A_DAG, tasks=(TaskSpec("t"),)), POOL, T0, run_id=name)
        tasks = {t.run_id: replace(t, ready_at=T0) for t in ports.work.task_runs(["ready", "skipped", "dropped"])}
        ports.work.save_tasks(
            [
                replace(tasks["ready"], state=State.READY),
                replace(tasks["skipped"], state=State.SKIPPED, ended_at=T0 + minutes(1)),
                replace(tasks["dropped"], state=State.CANCELLED, ended_at=T0 + minutes(1)),
            ]
        )
        now = T0 + minutes(5)
        work = ports.work.work(POOL).as_of(now)
        states = dict(zip(work.runs["run_id"][work.tasks["run"]], work.states(now), strict=True))
        assert states == {"ready": READY, "skipped": DONE, "dropped": DONE}
        assert work.tasks["runtime_s"].isna().all()

    def test_work_is_due_when_its_run_says(self, ports: Ports) -> None:
        """At once if it says nothing."""
        ports.work.submit(replace(A_DAG, due=T0 + minutes(7)), POOL, T0, run_id="a")
        ports.work.submit(A_DAG, POOL, T0 + minutes(1), run_id="b")
        runs = ports.work.work(POOL).runs
        assert list(runs["due"]) == [epoch(T0 + minutes(7)), epoch(T0 + minutes(1))]
        assert list(runs["submit"]) == [epoch(T0), epoch(T0 + minutes(1))]

    def test_instants_of_any_zone_are_one_instant(self, ports: Ports) -> None:
        """What was given in local time is found in UTC."""
        local = T0.astimezone(timezone(timedelta(hours=5, minutes=30)))
        run = ports.work.submit(A_DAG, POOL, local)
        assert run is not None
        found = ports.work.run(run.run_id)
        assert found is not None
        assert found.submitted_at == T0
        assert list(ports.work.work(POOL).runs["submit"]) == [epoch(T0)]
