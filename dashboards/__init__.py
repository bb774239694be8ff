"""Grafana dashboards and Prometheus alerts over what `preprov serve` shows at /metrics."""
