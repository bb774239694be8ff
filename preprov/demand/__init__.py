"""DAGs, schedules and history become a DemandCurve: expansion, recurrence, forest, aggregation, calibration."""
