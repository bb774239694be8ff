"""Reservations of a mapped task, side by side."""

from datetime import datetime, timezone

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG

from preprov_provider.operators.preprov import ReserveCapacityOperator

with DAG("mapped", schedule=None, start_date=datetime(2025, 1, 1, tzinfo=timezone.utc)):
    ReserveCapacityOperator.partial(task_id="reserve", preprov_pool="batch").expand(cpu=[1, 2, 3])
