"""What Airflow loads: the listener."""

from typing import Any, ClassVar

from airflow.plugins_manager import AirflowPlugin

from preprov_provider import listener


class PreprovPlugin(AirflowPlugin):
    """Tells preprov what runs, where `[preprov] url` is set."""

    name = "preprov"
    listeners: ClassVar[list[Any]] = [listener]
