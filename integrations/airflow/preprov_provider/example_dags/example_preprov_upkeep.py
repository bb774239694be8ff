"""Keep preprov and Airflow in step: publish what only your own timetables know."""

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


preprov_publish_timetables()
