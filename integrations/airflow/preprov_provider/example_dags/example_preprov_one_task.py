"""Reserve and wait in one deferrable task; the reservation ends by itself."""

from datetime import datetime, timedelta, timezone

try:
    from airflow.providers.standard.operators.bash import BashOperator
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG
    from airflow.operators.bash import BashOperator

from preprov_provider.operators.preprov import ReserveCapacityOperator

with DAG(
    dag_id="example_preprov_one_task",
    schedule=None,
    start_date=datetime(2025, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    params={"pool": "batch"},
    tags=["example", "preprov"],
    doc_md=__doc__,
) as dag:
    reserve = ReserveCapacityOperator(
        task_id="reserve",
        preprov_pool="{{ params.pool }}",
        cpu=1,
        memory=0.25,
        duration=timedelta(minutes=30),
        expires_in=timedelta(minutes=15),
        if_void="continue",
        deferrable=True,
    )
    reserve >> BashOperator(task_id="work", bash_command="echo on a warm node")
