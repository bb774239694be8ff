"""How a Kubernetes API server is reached: shared by the adapters that speak to one."""
