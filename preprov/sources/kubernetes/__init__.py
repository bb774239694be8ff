"""A Kubernetes cluster as a place where work lives: Jobs, CronJobs, and pods that other controllers run to an end."""

from preprov.sources.kubernetes.source import KubernetesSettings, KubernetesSource

__all__ = ["KubernetesSettings", "KubernetesSource"]
