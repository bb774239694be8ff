"""Azure: nodes of flexible scale sets with their standby pools."""
