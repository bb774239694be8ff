"""retrain: fit what is learnt anew, weekly."""

from prefect import flow, task

from flows import common


@task(name="retrain pool", task_run_name="retrain {pool}", tags=["preprov"])
def retrain_pool(pool: str) -> dict[str, object]:
    """Fit one pool's model anew and keep the version. A pool without history is left out."""
    from preprov.control.forecasting import issue_forecast
    from preprov.model.errors import ForecastError

    with common.opened("retrain") as app:
        try:
            issued = issue_forecast(app.ctx, app.ctx.pool(pool), refit=True)
        except ForecastError as e:
            return {"pool": pool, "version": None, "why": e.what}
    version = issued.model
    facts: dict[str, object] = {"pool": pool, "version": version.version if version else None}
    if version:
        facts |= {k: round(v, 4) for k, v in version.metrics.items()}
    common.table(f"model {pool}", [facts], f"Model of pool {pool}")
    return facts


@flow(name="retrain")
def retrain(pools: list[str] | None = None) -> list[dict[str, object]]:
    """Retrain each pool."""
    return [f.result() for f in retrain_pool.map(common.chosen(pools))]
