"""Usage over time out of a Prometheus, or whatever answers like one."""

from preprov.sources.prometheus.queries import PRESETS, RESOURCES, UNITS, UsageQuery
from preprov.sources.prometheus.source import PrometheusSettings, PrometheusSource

__all__ = ["PRESETS", "RESOURCES", "UNITS", "PrometheusSettings", "PrometheusSource", "UsageQuery"]
