"""The `preprov` command."""
