"""Names that stand elsewhere in Airflow 3 than in Airflow 2."""

try:
    from airflow.sdk import BaseHook, BaseOperator, Variable
    from airflow.sdk.bases.sensor import BaseSensorOperator
except ImportError:  # Airflow 2
    from airflow.hooks.base import BaseHook
    from airflow.models import BaseOperator, Variable
    from airflow.sensors.base import BaseSensorOperator

try:
    from airflow.sdk.exceptions import AirflowException, AirflowSensorTimeout
except ImportError:  # Airflow 2, and 3.0
    from airflow.exceptions import AirflowException, AirflowSensorTimeout

try:
    from airflow.sdk.exceptions import TaskDeferralTimeout
except ImportError:
    try:
        from airflow.exceptions import TaskDeferralTimeout
    except ImportError:  # Airflow 2.9 does not tell it from other failures of a trigger
        from airflow.exceptions import TaskDeferralError as TaskDeferralTimeout


def timed_out(error: Exception) -> bool:
    """Whether a deferral came to its time-out: Airflow 2.9 has one error for whatever goes wrong with it."""
    return type(error).__name__ != "TaskDeferralError" or "timeout" in str(error).lower()


__all__ = [
    "AirflowException",
    "AirflowSensorTimeout",
    "BaseHook",
    "BaseOperator",
    "BaseSensorOperator",
    "TaskDeferralTimeout",
    "Variable",
    "timed_out",
]
