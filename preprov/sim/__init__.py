"""The in-memory cloud (lead times, billing, standby states) and the virtual clock."""
