"""Tasks as Jobs of a cluster, each on the node that it was placed on; found again by their labels."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Final, TypeAlias

import structlog

from preprov.contracts import TaskReport
from preprov.kube.api import METRICS, Cluster, Json
from preprov.kube.clusters import Clusters
from preprov.kube.labels import NODE_ID, TASK
from preprov.kube.place import Place, place_of
from preprov.kube.reading import annotations, finished
from preprov.launch.kubernetes_job import (
    CANCELLED,
    CONTAINER,
    SELECTOR,
    digest,
    job_name,
    job_of,
    report,
    sample,
)
from preprov.launch.kubernetes_resize import CAN, KubernetesAdjuster, PodRef, minor_of
from preprov.model.adjusting import Adjustable
from preprov.model.agent import Usage
from preprov.model.errors import ConflictError, NotFoundError, PoolError
from preprov.model.nodes import Node
from preprov.model.pools import Group, Pool
from preprov.model.resources import Resources
from preprov.model.work import TaskRun

log = structlog.get_logger(__name__)

_REMEMBERED: Final = 10_000
"""Tasks whose last sample is known; those that ended long ago are forgotten."""
_Key: TypeAlias = tuple[str, str]


class KubernetesScheduler:
    """Runs tasks on nodes of provider "kubernetes", and changes what they may use while they run.

    A task sees PREPROV_RUN_ID, PREPROV_TASK_ID, PREPROV_INSTANCE, PREPROV_ATTEMPT, PREPROV_NODE_ID and its own
    variables. Its cores are asked for, its memory and GPUs are limits too. What it uses is what the metrics server
    says; where there is none nothing is observed. Output is kept as long as its pod.

    Args:
        pools: as configured, to find a node's cluster. The clusters' time is the clock's.
        speed: seconds of the clock per wall second, for tasks without a command.
        clusters: that others are connected to as well.
    """

    name = "kubernetes"
    runs = "container"

    def __init__(self, pools: Mapping[str, Pool], *, speed: float = 1.0, clusters: Clusters | None = None) -> None:
        self._pools, self._speed = pools, speed
        self._clusters = clusters or Clusters()
        self._minors: dict[_Key, int] = {}
        self._sampled: dict[str, float] = {}

    # ---- start

    def start(self, task: TaskRun, instance: int, node: Node) -> None:
        """As the contract says. Raises ConflictError (retryable) if its node takes no pods now."""
        place = self._place(node)
        if not place.tasks:
            hint = "tasks = true in the group's options, and `preprov kubernetes manifests` for the rights"
            raise PoolError("preprov starts no tasks in this cluster", where=f"{node.pool}/{node.group}", hint=hint)
        job, cluster = job_of(task, instance, node, place, self._speed), self._cluster(place)
        if self._of(cluster, place, task.claimant(instance)) is not None:
            return
        found = cluster.node(node.address) if node.address else None
        if found is None:
            raise NotFoundError(f"node {node.node_id} is not in the cluster", where=node.pool, hint="observe again")
        if (found.get("spec") or {}).get("unschedulable"):
            raise ConflictError("takes no work: cordoned", where=node.node_id, hint="observe again")
        cluster.create_job(job)

    def _of(self, cluster: Cluster, place: Place, claimant: str) -> Json | None:
        jobs = cluster.jobs(place.namespace, f"{SELECTOR},{TASK}={digest(claimant)}")
        return next((j for j in jobs if j["metadata"]["name"] == job_name(claimant)), None)

    # ---- poll

    def poll(self, nodes: Sequence[Node]) -> tuple[TaskReport, ...]:
        """As the contract says."""
        places: dict[Place, dict[str, Node]] = {}
        for node in nodes:
            places.setdefault(self._place(node), {})[node.node_id] = node
        return tuple(r for place, mine in places.items() if place.tasks for r in self._polled(place, mine))

    def _polled(self, place: Place, mine: Mapping[str, Node]) -> Iterator[TaskReport]:
        cluster = self._cluster(place)
        jobs = [j for j in cluster.jobs(place.namespace, SELECTOR) if annotations(j).get(NODE_ID) in mine]
        if not jobs:
            return
        pods = {p["metadata"]["labels"][TASK]: p for p in cluster.pods(namespace=place.namespace, labels=SELECTOR)}
        there = {n["metadata"]["name"] for n in cluster.nodes("")}
        used = self._used(cluster, place)
        for job in jobs:
            if mine[annotations(job)[NODE_ID]].address in there or finished(job):
                key = job["metadata"]["labels"][TASK]
                yield report(job, pods.get(key), self._new(key, used.get(key)), self._minor(place))

    def _minor(self, place: Place) -> int:
        """Of the cluster's version, asked for once; 0 = nobody can say now, and nothing is changed meanwhile."""
        key = (str(place.kubeconfig), place.context)
        if key not in self._minors:
            try:
                self._minors[key] = minor_of(self._cluster(place).version())
            except PoolError as e:
                log.debug("the cluster does not say its version", problem=str(e))
        return self._minors.get(key, 0)

    def _used(self, cluster: Cluster, place: Place) -> dict[str, Usage]:
        try:
            found = cluster.customs(METRICS, SELECTOR, place.namespace)
        except PoolError as e:
            log.debug("no metrics server", problem=str(e))
            return {}
        samples = ((m["metadata"].get("labels", {}).get(TASK, ""), sample(m)) for m in found)
        return {key: s for key, s in samples if s is not None}

    def _new(self, key: str, found: Usage | None) -> tuple[Usage, ...]:
        if found is None or found.at <= self._sampled.get(key, 0.0):
            return ()
        self._sampled[key] = found.at
        if len(self._sampled) > _REMEMBERED:
            del self._sampled[next(iter(self._sampled))]
        return (found,)

    # ---- end, output

    def cancel(self, claimant: str, node: Node) -> None:
        """As the contract says: its deadline is brought forward, and Kubernetes ends its pod, gently."""
        place = self._place(node)
        cluster = self._cluster(place)
        job = self._of(cluster, place, claimant)
        if job is None or finished(job) or CANCELLED in annotations(job):
            return
        note = {"annotations": {CANCELLED: job["metadata"]["resourceVersion"]}}
        cluster.patch_job(job, {"metadata": note, "spec": {"activeDeadlineSeconds": 1}})

    def logs(self, claimant: str) -> Iterator[str]:
        """As the contract says, of whichever cluster has it."""
        groups = [(p, g) for p in self._pools.values() for g in p.groups if g.provider == self.name]
        for place in dict.fromkeys(self._of_group(*of) for of in groups):
            if not place.tasks:
                continue
            cluster = self._cluster(place)
            for pod in cluster.pods(namespace=place.namespace, labels=f"{SELECTOR},{TASK}={digest(claimant)}"):
                yield from cluster.output(pod, CONTAINER)

    # ---- while it runs

    def adjustable(self, node: Node) -> Adjustable:
        """As the contract says."""
        return CAN

    def resize(self, claimant: str, node: Node, amount: Resources, lease_s: float) -> Resources:
        """As the contract says, by the pod's `resize` subresource (Kubernetes 1.33 and newer)."""
        return self._adjuster(node).resize(claimant, node, amount, lease_s)

    def lift(self, claimant: str, node: Node) -> None:
        """As the contract says."""
        self._adjuster(node).lift(claimant, node)

    def checkpoint(self, claimant: str, node: Node, signal: str, grace_s: float) -> None:
        """Refused."""
        self._adjuster(node).checkpoint(claimant, node, signal, grace_s)

    def extend(self, claimant: str, node: Node, seconds: float) -> None:
        """Refused."""
        self._adjuster(node).extend(claimant, node, seconds)

    def _adjuster(self, node: Node) -> KubernetesAdjuster:
        place = self._place(node)
        return KubernetesAdjuster(self._cluster(place).core, partial(self._locate, place))

    def _locate(self, place: Place, claimant: str, node: Node) -> PodRef | None:
        labels = f"{SELECTOR},{TASK}={digest(claimant)}"
        pods = self._cluster(place).pods(namespace=place.namespace, labels=labels)
        return PodRef(pods[0], CONTAINER) if pods else None

    # ---- which

    def _place(self, node: Node) -> Place:
        pool = self._pools.get(node.pool)
        return Place() if pool is None else self._of_group(pool, pool.group(node.group))

    def _of_group(self, pool: Pool, group: Group) -> Place:
        return place_of(group.options, f"{pool.name}/{group.name} options")

    def _cluster(self, place: Place) -> Cluster:
        return self._clusters.of(place, self.name)
