"""analyze_queue: what is queued, running and due in each pool."""

from prefect import flow, task

from flows import common


@task(name="analyze", task_run_name="analyze {pool}", retries=2, retry_delay_seconds=5)
def analyze(pool: str) -> dict[str, object]:
    """Analyse one pool and keep its runs as a table."""
    from preprov.control.forecasting import analyze_queue as use_case

    with common.opened("analyze_queue") as app:
        analysis = use_case(app.ctx, app.ctx.pool(pool))
    body = analysis.as_dict("cpu")
    runs = body["runs"]
    if isinstance(runs, list):
        common.table(f"queue {pool}", runs[:100], f"Runs queued, running and due in pool {pool}")
    return {"pool": pool, "queued": body["queued"], "running": body["running"]}


@flow(name="analyze_queue", task_runner=common.task_runner())
def analyze_queue(pools: list[str] | None = None) -> list[dict[str, object]]:
    """Features and expansion of everything queued, running or scheduled, per pool."""
    return [f.result() for f in analyze.map(common.chosen(pools))]
