"""scale_down: give back what no longer pays, never ending running work."""

from prefect import flow, task

from flows import common


@task(name="lower pool", task_run_name="lower {pool}", tags=["preprov"], retries=3, retry_delay_seconds=2)
def lower_pool(pool: str) -> dict[str, object]:
    """One pass over one pool that may only lower."""
    from preprov.control.passes import LOWERS, pool_pass

    with common.opened("scale_down") as app:
        result = pool_pass(app.ctx, app.ctx.pool(pool), serve=False, kinds=LOWERS)
    done = [r.action.as_dict() for r in result.records if r.result == "done"]
    common.table(f"scale down {pool}", done or [{"reason": "nothing to give back"}], f"Given back in pool {pool}")
    return {"pool": pool, "done": len(done)}


@flow(name="scale_down", task_runner=common.task_runner())
def scale_down(pools: list[str] | None = None) -> list[dict[str, object]]:
    """Scale each pool down by break-even."""
    return [f.result() for f in lower_pool.map(common.chosen(pools))]
