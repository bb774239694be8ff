"""Airflow, read over its REST API: 3.x by /api/v2, 2.9 and newer by /api/v1."""

from preprov.sources.airflow.source import AirflowSettings, AirflowSource

__all__ = ["AirflowSettings", "AirflowSource"]
