"""preprov for Airflow: reserve warm capacity, wait for it, give it back; tell preprov what runs."""

from typing import Any

__version__ = "0.1.0"


def get_provider_info() -> dict[str, Any]:
    """What Airflow asks of a provider. Imports nothing, for it is asked whenever Airflow starts."""
    return {
        "package-name": "airflow-provider-preprov",
        "name": "preprov",
        "description": "Capacity that is warm before tasks need it (`preprov <https://github.com/preprov/preprov>`__).",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": "preprov",
                "external-doc-url": "https://github.com/preprov/preprov",
                "tags": ["service"],
            }
        ],
        "hooks": [{"integration-name": "preprov", "python-modules": ["preprov_provider.hooks.preprov"]}],
        "operators": [{"integration-name": "preprov", "python-modules": ["preprov_provider.operators.preprov"]}],
        "sensors": [{"integration-name": "preprov", "python-modules": ["preprov_provider.sensors.preprov"]}],
        "triggers": [{"integration-name": "preprov", "python-modules": ["preprov_provider.triggers.preprov"]}],
        "connection-types": [
            {"connection-type": "preprov", "hook-class-name": "preprov_provider.hooks.preprov.PreprovHook"}
        ],
        "config": {
            "preprov": {
                "description": "What the listener of airflow-provider-preprov tells, and to whom.",
                "options": {
                    "url": _option("Address of `preprov serve`. Without it the listener tells nothing.", ""),
                    "token": _option("A token with scope report.", "", sensitive=True),
                    "verify": _option(
                        "Whose certificates are trusted: True, False, or the path of a file or folder of authorities'.",
                        "True",
                    ),
                    "source": _option("How this Airflow is called there.", "airflow"),
                    "tasks": _option("Tell of tasks too, not of DAG runs alone.", "False", kind="boolean"),
                },
            }
        },
    }


def _option(description: str, default: str, *, kind: str = "string", sensitive: bool = False) -> dict[str, Any]:
    told = {"description": description, "type": kind, "default": default, "example": None, "version_added": "0.1.0"}
    return {**told, "sensitive": True} if sensitive else told
