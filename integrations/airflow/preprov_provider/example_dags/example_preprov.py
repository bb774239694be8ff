"""A night's work on nodes that are warm before it starts."""

from datetime import datetime, timedelta, timezone

try:
    from airflow.providers.standard.operators.bash import BashOperator
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG
    from airflow.operators.bash import BashOperator

from preprov_provider.operators.preprov import ReleaseCapacityOperator, ReserveCapacityOperator
from preprov_provider.sensors.preprov import WarmCapacitySensor

with DAG(
    dag_id="example_preprov",
    schedule=None,
    start_date=datetime(2025, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    params={"pool": "batch"},
    tags=["example", "preprov"],
    doc_md=__doc__,
) as dag:
    # [START howto_operator_reserve]
    reserve = ReserveCapacityOperator(
        task_id="reserve",
        preprov_pool="{{ params.pool }}",
        cpu=1,
        memory=0.25,
        count=2,
        duration=timedelta(minutes=30),
        wait_for_ready=False,
    )
    # [END howto_operator_reserve]
    # [START howto_sensor_warm]
    warm = WarmCapacitySensor(
        task_id="warm",
        reservation_id="{{ (ti.xcom_pull(task_ids='reserve') or {}).get('reservation_id') }}",
        deferrable=True,
        timeout=1800,
    )
    # [END howto_sensor_warm]
    work = BashOperator(task_id="work", bash_command="echo on warm nodes")
    # [START howto_operator_release]
    release = ReleaseCapacityOperator(
        task_id="release",
        reservation_id="{{ (ti.xcom_pull(task_ids='reserve') or {}).get('reservation_id') }}",
    )
    # [END howto_operator_release]
    # A teardown runs whatever happened, and does not hide that something failed.
    reserve >> warm >> work >> release.as_teardown(setups=reserve)
