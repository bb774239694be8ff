"""Prefect flows: typed parameters, one use case each. Loaded by entrypoint string, e.g. `flows.warm_pools.warm_pools`."""
