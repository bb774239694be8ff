"""forecast_demand: a day ahead, nightly and every six hours."""

from prefect import flow, task

from flows import common


@task(name="forecast", task_run_name="forecast {pool}", retries=2, retry_delay_seconds=5)
def forecast(pool: str, hours: int) -> str:
    """Issue one pool's forecast; keep its table and picture. A pool without any history is left out."""
    from preprov.control.forecasting import issue_forecast
    from preprov.demand.explaining import explain
    from preprov.figures import forecast_fan, forecast_parts
    from preprov.model.errors import ForecastError

    with common.opened("forecast_demand") as app:
        target = app.ctx.pool(pool)
        try:
            issued = issue_forecast(app.ctx, target, horizon_s=hours * 3600)
        except ForecastError as e:
            common.text(f"forecast {pool} missing", str(e), f"No forecast of pool {pool}")
            return ""
    names = [f"p{q * 100:g}" for q in issued.curve.quantiles]
    rows = [
        {
            "from": step.ts.isoformat(),
            **{n: round(float(v), 2) for n, v in zip(names, row, strict=True)},
            **{part: round(v, 2) for part, v in step.parts.items()},
            "moved_by": ", ".join(f"{name} {by:+.1f}" for name, by in step.moved_by.items()),
        }
        for step, row in zip(explain(issued.curve), issued.curve.table("cpu"), strict=True)
    ]
    common.table(f"forecast {pool}", rows, f"Cores wanted in pool {pool}, by the hour")
    common.picture(f"forecast fan {pool}", forecast_fan(issued.curve, target.zone), f"Forecast of pool {pool}")
    common.picture(
        f"forecast parts {pool}", forecast_parts(issued.curve, target.zone), f"What pool {pool} will want, by cause"
    )
    return issued.forecast_id


@flow(name="forecast_demand", task_runner=common.task_runner())
def forecast_demand(pools: list[str] | None = None, hours: int = 24) -> dict[str, str]:
    """Forecast each pool; returns pool -> forecast id."""
    names = common.chosen(pools)
    return dict(zip(names, (f.result() for f in forecast.map(names, hours=hours)), strict=True))
