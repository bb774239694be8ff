"""Pictures for reports and artifacts, as PNG or SVG bytes. matplotlib is loaded by the first one that is drawn."""

from preprov.figures.comparisons import demand_backtest, forecast_backtest, frontiers, wait_histogram
from preprov.figures.demand import Level, forecast_fan, forecast_parts
from preprov.figures.nodes import PHASE_COLOURS, Busy, Stretch, node_timeline, nodes_over_time, plan_against_actual
from preprov.figures.profiles import curves_backtest, sizing_backtest, task_curves, task_requests
from preprov.figures.waits import waits_by_cause

__all__ = [
    "PHASE_COLOURS",
    "Busy",
    "Level",
    "Stretch",
    "curves_backtest",
    "demand_backtest",
    "forecast_backtest",
    "forecast_fan",
    "forecast_parts",
    "frontiers",
    "node_timeline",
    "nodes_over_time",
    "plan_against_actual",
    "sizing_backtest",
    "task_curves",
    "task_requests",
    "wait_histogram",
    "waits_by_cause",
]
