"""The demonstration: a company's six weeks, one of its nights on real nodes of this machine, and what it would have cost."""
