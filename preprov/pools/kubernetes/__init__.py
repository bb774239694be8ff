"""Capacity of a Kubernetes cluster, held by pods that give way."""
