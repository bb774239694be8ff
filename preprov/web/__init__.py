"""The HTTP API and its metrics: an entrance beside the command."""
