"""The door for work: submit a DAG, cancel a run."""

from dataclasses import replace

from preprov.control.allocating.tasks import Tasks
from preprov.control.context import Context
from preprov.control.observing import of_tasks
from preprov.control.routing import USUAL, Route
from preprov.model.errors import ConfigError, PoolError, WorkError
from preprov.model.work import DagRun, DagSpec, State, TaskSpec
from preprov.planning.placement import why_nowhere


def route(ctx: Context, dag: DagSpec, routes: tuple[Route, ...]) -> DagSpec:
    """The DAG with its pool set: its own choice, else the first route that matches, else the only pool there is.

    Raises:
        ConfigError: no pool can be told.
    """
    chosen = dag.pool
    if chosen is None:
        match = next((r for r in routes if r.matches(dag)), None)
        if match is not None:
            chosen = match.pool
            dag = match.applied(dag)
        elif len(ctx.pools) == 1:
            chosen = next(iter(ctx.pools))
    if chosen is None:
        raise ConfigError(
            f"no pool for DAG {dag.dag_id}",
            hint="name one with --pool, in the file, or add a [[route]] to preprov.toml",
        )
    dag = replace(dag, tasks=tuple(replace(t, request=USUAL) if t.request.is_zero else t for t in dag.tasks))
    pool = ctx.pool(chosen)
    tenant = ctx.tenants.get(dag.tenant)
    if tenant is not None and not dag.priority:
        dag = replace(dag, priority=tenant.priority)
    for task in dag.tasks:
        _must_fit(ctx, pool.name, task)
    return dag.in_pool(chosen)


def _must_fit(ctx: Context, pool_name: str, task: TaskSpec) -> None:
    why = why_nowhere(ctx.pool(pool_name), task.request, task.affinity)
    if why:
        raise WorkError(
            f"task {task.task_id} fits on no node of pool {pool_name}: {why}",
            where=task.task_id,
            hint="ask for less, or add an offering that holds it",
        )


def submit(ctx: Context, dags: tuple[DagSpec, ...], routes: tuple[Route, ...] = ()) -> tuple[DagRun, ...]:
    """Register the DAGs and create their runs; all are routed and checked before the first is written.

    Returns:
        the runs made; a DAG with a schedule and no due time makes its runs later, by itself.
    """
    now = ctx.clock.now()
    routed = [route(ctx, dag, routes) for dag in dags]
    runs = [ctx.ports.work.submit(dag, dag.pool or "", now) for dag in routed]
    return tuple(r for r in runs if r is not None)


def cancel(ctx: Context, run_id: str) -> DagRun:
    """Cancel a run on its owner's word: waiting tasks never start, running ones are ended, claims are given back.

    Raises:
        WorkError: there is no such run.
        PoolError: a running task could not be ended; the rest is cancelled all the same.
    """
    run = ctx.ports.work.run(run_id)
    if run is None:
        raise WorkError(f"there is no run {run_id}", hint="preprov run list")
    now = ctx.clock.now()
    pool = ctx.pool(run.pool)
    observed = {n.node_id: n for p in {g.provider for g in pool.groups} for n in ctx.provider(p).observe(pool).nodes}
    held = {r.claimant: r for r in of_tasks(ctx.ports.ledger.reservations(pool.name))}
    tasks, failures = ctx.ports.work.task_runs([run.run_id]), []
    for task in tasks:
        for i in range(task.spec.instances):
            reservation = held.get(task.claimant(i))
            if reservation is None:
                continue
            node = observed.get(reservation.node_id or "")
            try:
                Tasks(ctx).release(pool, reservation, node, "cancelled")
            except PoolError as e:
                failures.append(str(e))
    ended = [
        replace(
            t, state=State.CANCELLED, started_at=t.started_at or now, ended_at=now, reason=f"cancelled by {ctx.actor}"
        )
        for t in tasks
        if not t.state.is_final
    ]
    ctx.ports.work.save_tasks(ended)
    ctx.ports.work.save_run(run.run_id, State.CANCELLED, now, f"cancelled by {ctx.actor}")
    if failures:
        raise PoolError(f"cancelled, but {len(failures)} tasks could not be ended: {failures[0]}", where=run.run_id)
    return ctx.ports.work.run(run.run_id) or run
