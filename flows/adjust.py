"""adjust: observed against forecast, the plan revised both ways."""

from prefect import flow, task

from flows import common


@task(name="adjust pool", task_run_name="adjust {pool}", tags=["preprov"], retries=3, retry_delay_seconds=2)
def adjust_pool(pool: str) -> dict[str, object]:
    """One pass over one pool with the demand as it is now."""
    from preprov.control.adjusting import adjust as use_case

    with common.opened("adjust") as app:
        done = use_case(app.ctx, app.ctx.pool(pool))
    facts: dict[str, object] = {
        "pool": pool,
        "observed_cores": round(done.observed.cpu, 2),
        "forecast_cores": round(done.forecast.cpu, 2) if done.forecast else None,
        "against_forecast": done.share,
        "revised": "; ".join(done.revised),
    }
    common.table(f"adjust {pool}", [facts], f"Observed against forecast in pool {pool}")
    return facts


@flow(name="adjust", task_runner=common.task_runner())
def adjust(pools: list[str] | None = None) -> list[dict[str, object]]:
    """Adjust each pool."""
    return [f.result() for f in adjust_pool.map(common.chosen(pools))]
