"""Google Compute Engine: nodes of managed instance groups with their standby policy."""
