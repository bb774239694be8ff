"""The demonstration: six weeks of a company, one of its nights on real nodes here, and what others would have paid."""
