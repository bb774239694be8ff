"""submit, run list|show|logs|cancel: work without an orchestrator."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from preprov.cli import common
from preprov.cli.common import AnyPoolOption, Output, OutputOption, TzOption, YesOption

if TYPE_CHECKING:
    from preprov.model.work import DagRun, TaskRun

run_app = typer.Typer(help="Runs of submitted DAGs.", no_args_is_help=True)


def attach(app: typer.Typer) -> None:
    """Hang the commands on the root."""
    app.command()(submit)
    app.add_typer(run_app, name="run")


def submit(
    file: Annotated[Path, typer.Argument(help="TOML, JSON or Python file that describes one or more DAGs.")],
    pool: AnyPoolOption = None,
    due: Annotated[str | None, typer.Option("--due", help="Do not start before: +2m, or an ISO time.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Submit DAGs; `preprov up` serves them."""
    with common.opened("submit", output) as app:
        from preprov.control.submitting import submit as submit_dags
        from preprov.sources.submission import read_submission

        now = app.ctx.clock.now()
        dags = read_submission(file, now=now, zone=app.config.controller.zone)
        if pool is not None:
            dags = tuple(d.in_pool(pool) for d in dags)
        when = common.parse_time(due, app.config.controller.zone, now)
        if when is not None:
            dags = tuple(replace(d, due=when) for d in dags)
        runs = submit_dags(app.ctx, dags, app.routes)
        scheduled = [d for d in dags if d.schedule]
        if output is Output.JSON:
            body: dict[str, object] = {
                "runs": [run_json(r) for r in runs],
                "schedules": [{"dag_id": d.dag_id, "cron": d.schedule, "tz": d.zone} for d in scheduled],
            }
            common.print_json(common.envelope("submit", pool, now, body))
            return
        for r in runs:
            due_text = f", due {common.both_times(r.due, app.ctx.pool(r.pool).zone)}" if r.due else ""
            typer.echo(f"submitted {r.dag_id} as run {r.run_id} to pool {r.pool}{due_text}")
        for d in scheduled:
            typer.echo(f"schedule of {d.dag_id} declared: {d.schedule} ({d.zone})")


def run_json(run: "DagRun") -> dict[str, object]:
    """A run as JSON."""
    return {
        "run_id": run.run_id,
        "dag_id": run.dag_id,
        "pool": run.pool,
        "tenant": run.tenant,
        "trigger": str(run.trigger),
        "state": str(run.state),
        "priority": run.priority,
        "submitted_at": run.submitted_at,
        "scheduled_for": run.scheduled_for,
        "due": run.due,
        "land_by": run.land_by,
        "ended_at": run.ended_at,
        "reason": run.reason,
    }


def task_json(task: "TaskRun") -> dict[str, object]:
    """A task run as JSON; the waits are null until it started."""
    waited = None
    if task.ready_at and task.started_at:
        waited = round(max((task.started_at - task.ready_at).total_seconds(), 0.0), 3)
    return {
        "task_id": task.task_id,
        "state": str(task.state),
        "instances": task.spec.instances,
        "ready_at": task.ready_at,
        "started_at": task.started_at,
        "ended_at": task.ended_at,
        "wait_s": waited,
        "provision_wait_s": task.provision_wait_s,
        "node_id": task.node_id,
        "attempt": task.attempt,
        "exit_code": task.exit_code,
        "reason": task.reason,
    }


@run_app.command("list")
def run_list(
    pool: AnyPoolOption = None,
    live: Annotated[bool, typer.Option("--live", help="Only runs that have not ended.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many.")] = 50,
    tz: TzOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Runs, newest first."""
    with common.opened("run list", output) as app:
        runs = app.ctx.ports.work.runs(pool, live=live, limit=limit)
        if output is Output.JSON:
            body = {"runs": [run_json(r) for r in runs]}
            common.print_json(common.envelope("run list", pool, app.ctx.clock.now(), body))
            return
        zone = tz or app.config.controller.zone
        rows = [
            (
                r.run_id,
                r.pool,
                r.dag_id,
                r.state,
                common.both_times(r.submitted_at, zone),
                common.both_times(r.due, zone),
            )
            for r in runs
        ]
        common.print_table(
            "", ("run", "pool", "dag", "state", "submitted", "due"), rows, note="" if rows else "no runs"
        )


@run_app.command("show")
def run_show(run_id: str, tz: TzOption = None, output: OutputOption = Output.TABLE) -> None:
    """One run with its tasks: when ready, when started, how long it waited, where."""
    with common.opened("run show", output) as app:
        run = _the_run(app.ctx.ports.work.run(run_id), run_id)
        tasks = app.ctx.ports.work.task_runs([run.run_id])
        if output is Output.JSON:
            body = {"run": run_json(run), "tasks": [task_json(t) for t in tasks]}
            common.print_json(common.envelope("run show", run.pool, app.ctx.clock.now(), body))
            return
        zone = tz or app.ctx.pool(run.pool).zone
        typer.echo(f"run {run.run_id} of {run.dag_id} in pool {run.pool}: {run.state} {run.reason}".rstrip())
        rows = []
        for t in tasks:
            facts = task_json(t)
            rows.append(
                (
                    t.task_id,
                    t.state,
                    common.both_times(t.started_at, zone),
                    facts["wait_s"],
                    t.provision_wait_s,
                    t.node_id,
                    t.exit_code,
                    t.reason,
                )
            )
        common.print_table("", ("task", "state", "started", "wait s", "for a node s", "node", "exit", "reason"), rows)


@run_app.command("logs")
def run_logs(
    run_id: str,
    task: Annotated[str | None, typer.Argument(help="One task; all if not given.")] = None,
) -> None:
    """What the tasks of a run printed."""
    with common.opened("run logs") as app:
        run = _the_run(app.ctx.ports.work.run(run_id), run_id)
        tasks = [t for t in app.ctx.ports.work.task_runs([run.run_id]) if task in (None, t.task_id)]
        if not tasks:
            from preprov.model.errors import WorkError

            raise WorkError(f"run {run.run_id} has no task {task}", hint=f"preprov run show {run.run_id}")
        schedulers = [app.ctx.schedulers[p] for p in dict.fromkeys(g.provider for g in app.ctx.pool(run.pool).groups)]
        for t in tasks:
            for i in range(t.spec.instances):
                for scheduler in schedulers:
                    for line in scheduler.logs(t.claimant(i)):
                        typer.echo(f"{t.task_id}: {line}" if task is None else line)


@run_app.command("cancel")
def run_cancel(run_id: str, yes: YesOption = False) -> None:
    """Cancel a run: waiting tasks never start, running ones are ended."""
    with common.opened("run cancel") as app:
        from preprov.control.submitting import cancel

        run = _the_run(app.ctx.ports.work.run(run_id), run_id)
        common.confirm(f"Cancel run {run.run_id} of {run.dag_id}?", yes)
        run = cancel(app.ctx, run.run_id)
        typer.echo(f"run {run.run_id}: {run.state}")


def _the_run(run: "DagRun | None", run_id: str) -> "DagRun":
    if run is None:
        from preprov.model.errors import WorkError

        raise WorkError(f"there is no run {run_id}", hint="preprov run list")
    return run
