"""warm_pools: bring each pool up to its plan."""

from prefect import flow, task

from flows import common


@task(
    name="provision", task_run_name="provision {pool}", tags=["preprov", "provision"], retries=3, retry_delay_seconds=2
)
def provision(pool: str) -> dict[str, object]:
    """One pass over one pool that may only raise. Idempotent: a repeated action is not done twice."""
    from preprov.control.passes import RAISES, pool_pass

    progress = common.progress(f"provision {pool}", f"Warming {pool}")
    with common.opened("warm_pools") as app:
        result = pool_pass(app.ctx, app.ctx.pool(pool), serve=False, kinds=RAISES)
    actions = result.plan.actions if result.plan else ()
    rows = [a.as_dict() for a in actions] or [{"reason": "nothing to do"}]
    common.table(f"plan {pool}", rows, f"Plan of pool {pool}")
    progress(100.0)
    return {
        "pool": pool,
        "plan_id": result.plan.plan_id if result.plan else None,
        "done": [r.action.reason for r in result.records if r.result == "done"],
    }


@flow(name="warm_pools", task_runner=common.task_runner())
def warm_pools(pools: list[str] | None = None) -> list[dict[str, object]]:
    """Provision each pool, mapped over the task runner that settings name."""
    return [f.result() for f in provision.map(common.chosen(pools))]
