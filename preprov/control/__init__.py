"""The use cases, one per verb: ingest, submit, analyze, forecast, plan, apply, reserve, adjust, learn, backtest."""
