"""Watching what is learnt: scores of issued forecasts, drift, strange days, challengers beside the champion. Pure."""
