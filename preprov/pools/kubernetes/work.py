"""Work on nodes of a cluster: whose pods are there, and that nothing is ended under them."""

from collections.abc import Mapping, Sequence
from typing import Final

from preprov.kube.api import Cluster, Json
from preprov.model.errors import NodeBusyError
from preprov.pools.kubernetes.units import Work

_ONE_BY_ONE: Final = 5


def work_on(cluster: Cluster, nodes: Sequence[str]) -> Mapping[str, Work]:
    """Node -> pods on it that are work."""
    return {name: Work.of(pods) for name, pods in pods_on(cluster, nodes).items()}


def refuse_work(cluster: Cluster, nodes: Sequence[str], where: str, hint: str) -> None:
    """Look once more, just before nodes are ended or put to sleep.

    Raises:
        NodeBusyError: work has come to one of them.
    """
    busy = {name: work.names for name, work in work_on(cluster, nodes).items() if work.names}
    if busy:
        text = "; ".join(f"{name} has {', '.join(pods[:3])}" for name, pods in busy.items())
        raise NodeBusyError(text, where=where, hint=hint)


def pods_on(cluster: Cluster, nodes: Sequence[str]) -> Mapping[str, list[Json]]:
    """Node -> its pods: asked for one by one if they are few, else all pods of the cluster are looked through once."""
    if len(nodes) <= _ONE_BY_ONE:
        return {n: cluster.pods(fields=f"spec.nodeName={n}") for n in nodes}
    out: dict[str, list[Json]] = {n: [] for n in nodes}
    for pod in cluster.pods():
        on = (pod.get("spec") or {}).get("nodeName")
        if on in out:
            out[on].append(pod)
    return out
