"""The HTTP API, its metrics and the page: an entrance beside the command."""
