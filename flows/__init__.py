"""Prefect flows: typed parameters, one use case each; loaded by entrypoint string (`flows.adjust.adjust`)."""
