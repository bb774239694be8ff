"""Keep preprov and Airflow in step: publish what only your own timetables know, let pool slots follow warm capacity."""

from datetime import datetime, timedelta, timezone

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task


@dag(
    schedule=timedelta(hours=1),
    start_date=datetime(2025, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    tags=["example", "preprov"],
)
def preprov_publish_timetables():
    """Turns of timetables that only their own code can work out."""

    @task
    def publish() -> int:
        from preprov_provider.timetables import publish

        return publish()

    publish()


@dag(
    schedule=timedelta(minutes=5),
    start_date=datetime(2025, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    params={"pool": "batch", "airflow_pool": "warm", "per_slot": {"cpu": 1, "memory": 1}},
    tags=["example", "preprov"],
)
def preprov_follow_capacity():
    """Slots of an Airflow pool are as many as there is room for on the warm nodes of a pool of preprov's."""

    @task
    def follow(params=None) -> int:
        from preprov_provider.pools import follow_capacity

        return follow_capacity(params["pool"], params["airflow_pool"], params["per_slot"]).now

    follow()


preprov_publish_timetables()
preprov_follow_capacity()
