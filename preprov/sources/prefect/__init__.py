"""Prefect 3, read by its own client."""

from preprov.sources.prefect.client import Secrets
from preprov.sources.prefect.source import PrefectSettings, PrefectSource

__all__ = ["PrefectSettings", "PrefectSource", "Secrets"]
