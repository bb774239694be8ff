"""Kubernetes as a pool: room is held by pods that give way, and the cluster's own autoscaler makes the nodes.

A node of the pool is a *unit*: one Job that holds the room of one node. preprov makes and ends units, and nothing
else: it launches no node behind the autoscaler, and ends nobody's pod. If it dies, the units' deadlines end them.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from preprov.contracts import Capabilities, Clock, Finding, LaunchRequest
from preprov.kube.labels import MANAGED_BY, MANAGER, POOL
from preprov.model.errors import NodeBusyError, NotFoundError, PoolError, QuotaExceededError
from preprov.model.pools import Node, Pool, PoolObservation, Preload, Standby
from preprov.pools.kubernetes import manifests
from preprov.pools.kubernetes.api import Cluster
from preprov.pools.kubernetes.examining import examine
from preprov.pools.kubernetes.manifests import READY, Json, label
from preprov.pools.kubernetes.options import PROVIDER, KubernetesGroup, kubernetes_group, kubernetes_groups
from preprov.pools.kubernetes.units import Unit, annotations, facts, is_cordoned_by_us, is_ready, node_of, others

_RENEW_AT: Final = 0.5
"""A lease is renewed once less than this share of it is left."""
_ONE_BY_ONE: Final = 5
Open = Callable[[KubernetesGroup], Cluster]


class KubernetesProvider:
    """Units of room in clusters; options of a group as `options.kubernetes_group` reads them.

    Args:
        clock: of what is told; it has to show the clusters' time.
        open: gives the cluster of a group.
    """

    name = PROVIDER

    def __init__(self, clock: Clock, open: Open = Cluster) -> None:
        self._clock = clock
        self._open = open
        self._clusters: dict[tuple[str, str], Cluster] = {}

    # ---- what exists

    def capabilities(self, pool: Pool, group: str) -> Capabilities:
        """Room is there or not: nothing is kept in standby, and between plans the cluster's autoscaler reacts."""
        kubernetes_group(pool, group)
        return Capabilities(
            standby_states=frozenset({Standby.RUNNING}),
            mixes_states=False,
            chooses_zone=True,
            leases=True,
            preloads=False,
            steps_down=False,
            reacts=False,
        )

    def observe(self, pool: Pool) -> PoolObservation:
        """As the contract says; a group whose cluster does not answer makes it incomplete."""
        nodes: list[Node] = []
        problems: list[str] = []
        now = self._clock.now()
        for group in kubernetes_groups(pool):
            try:
                nodes += [u.shown(now) for u in self._units(group) if u.exists]
            except PoolError as e:
                problems.append(f"{group.group.name}: {e}")
        return PoolObservation(pool.name, now, tuple(nodes), not problems, tuple(problems))

    def _units(self, group: KubernetesGroup) -> list[Unit]:
        return self._look(group)[0]

    def _look(self, group: KubernetesGroup) -> tuple[list[Unit], Mapping[str, Json]]:
        """Every Job of the group's, given back ones too; and the nodes that are there, by name."""
        cluster = self._cluster(group)
        selector = f"{MANAGED_BY}={MANAGER},{POOL}={label(group.pool.name)}"
        jobs = [j for j in cluster.jobs(group.namespace, selector) if self._is_of(j, group)]
        if not jobs:
            return [], {}
        pods = {_job_of(p): p for p in cluster.pods(namespace=group.namespace, labels=selector)}
        wanted = ",".join(f"{k}={v}" for k, v in sorted(group.node_selector.items()))
        nodes = {n["metadata"]["name"]: n for n in cluster.nodes(wanted) if is_ready(n)}
        units = [Unit(group, j, (p := pods.get(j["metadata"]["name"])), nodes.get(node_of(j, p))) for j in jobs]
        return _with_work(cluster, units), nodes

    @staticmethod
    def _is_of(job: Mapping[str, object], group: KubernetesGroup) -> bool:
        """Labels hold less than names: the facts decide."""
        told = facts(dict(job))
        return told.get("pool") == group.pool.name and told.get("group") == group.group.name

    # ---- more

    def launch(self, request: LaunchRequest) -> tuple[str, ...]:
        """As the contract says. Whether the cluster has room, or makes it, shows later: until then a unit warms."""
        group = kubernetes_group(request.pool, request.group)
        units = {u.name: u for u in self._units(group)}
        names = [manifests.unit_name(request, i) for i in range(request.count)]
        missing = [i for i, n in enumerate(names) if n not in units]
        room = group.group.max_nodes - sum(u.exists for u in units.values())
        if missing and room < 1 and len(missing) == request.count:
            raise QuotaExceededError(
                f"the group has {group.group.max_nodes - room} units of {group.group.max_nodes}",
                where=group.where,
                hint="raise max_nodes",
            )
        cluster, now = self._cluster(group), self._clock.now()
        made = [i for i in missing[: max(room, 0)] if cluster.create_job(manifests.unit(group, request, i, now))]
        alive = {n for n in names if n in units and units[n].exists} | {names[i] for i in made}
        return tuple(n for n in names if n in alive)

    def start(self, pool: Pool, node_ids: Sequence[str], preload: Preload) -> None:
        """As the contract says: a unit is there or not, so there is nothing to start."""
        self._named(pool, node_ids)

    # ---- less

    def hibernate(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """Room cannot be kept asleep: PoolError."""
        self._keeps_nothing(pool, node_ids, "hibernated")

    def stop(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """Room cannot be kept asleep: PoolError."""
        self._keeps_nothing(pool, node_ids, "stopped")

    def _keeps_nothing(self, pool: Pool, node_ids: Sequence[str], state: str) -> None:
        self._named(pool, node_ids)
        raise PoolError(f"a cluster's room cannot be {state}", where=pool.name, hint="use running nodes only")

    def drain(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """As the contract says: the node is cordoned, what runs there ends by itself, and no pod is evicted."""
        for unit in self._named(pool, node_ids):
            if unit.node is not None:
                self._cluster(unit.group).apply_node(manifests.cordoned(unit.node["metadata"]["name"]))

    def terminate(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """As the contract says. Only the pod that holds room is ended: whatever else is on the node goes on."""
        units = self._named(pool, node_ids, absent_is_fine=True)
        busy = [u for u in units if u.work]
        if busy:
            text = "; ".join(f"{u.name} gave way to {', '.join(u.work[:3])}" for u in busy)
            raise NodeBusyError(text, where=pool.name, hint="it can be ended when that has ended")
        for unit in units:
            self._end(unit)

    def _end(self, unit: Unit) -> None:
        cluster = self._cluster(unit.group)
        cluster.patch_job(unit.job, manifests.ending(self._clock.now()))
        if unit.node is not None and is_cordoned_by_us(unit.node):
            cluster.apply_node(manifests.uncordoned(unit.node["metadata"]["name"]))

    # ---- leases and upkeep

    def lease(self, pool: Pool, group: str, until: datetime) -> None:
        """As the contract says: Kubernetes ends units at their deadline, and with them what was raised."""
        for unit in self._units(kubernetes_group(pool, group)):
            if unit.exists and unit.holds:
                self._renew(unit, until)

    def _renew(self, unit: Unit, until: datetime) -> bool:
        deadline = unit.deadline
        if deadline is None or deadline == until:
            return False
        seconds = unit.job["spec"]["activeDeadlineSeconds"] + (until - deadline).total_seconds()
        patch = {"spec": {"activeDeadlineSeconds": max(int(seconds), 1)}}
        self._cluster(unit.group).patch_job(unit.job, patch)
        return True

    def tend(self, pool: Pool, held: Collection[str] = ()) -> tuple[str, ...]:
        """As the contract says: leases are renewed, and each unit's Job is told on which node its room is.

        Once it has given way its pod is gone, and nothing else would say where that was.
        """
        done: list[str] = []
        until = self._clock.now() + timedelta(seconds=pool.lease_s)
        for group in kubernetes_groups(pool):
            units, nodes = self._look(group)
            for unit in (u for u in units if u.exists and u.holds):
                done += self._tend(unit, until, pool.lease_s)
            drained = {u.node["metadata"]["name"] for u in units if u.exists and u.node is not None}
            for name in sorted(n for n, node in nodes.items() if is_cordoned_by_us(node) and n not in drained):
                self._cluster(group).apply_node(manifests.uncordoned(name))
                done.append(f"{name} takes pods again: no unit is on it any more")
        return tuple(done)

    def _tend(self, unit: Unit, until: datetime, lease_s: float) -> list[str]:
        where = node_of(unit.job, unit.pod) if unit.is_placed else ""
        notes: dict[str, str] = {}
        if where and annotations(unit.job).get(manifests.NODE) != where:
            ready = unit.shown(self._clock.now()).ready_at or self._clock.now()
            notes = {manifests.NODE: where, READY: ready.isoformat()}
        left = (unit.deadline - self._clock.now()).total_seconds() if unit.deadline else lease_s
        seconds = unit.job["spec"]["activeDeadlineSeconds"] + (lease_s - left)
        spec = {"activeDeadlineSeconds": int(seconds)} if left < lease_s * _RENEW_AT else {}
        if not notes and not spec:
            return []
        patch = {**({"metadata": {"annotations": notes}} if notes else {}), **({"spec": spec} if spec else {})}
        self._cluster(unit.group).patch_job(unit.job, patch)
        said = [f"{unit.name} holds room on {where}"] if notes else []
        return [*said, *([f"{unit.name} held until {until:%H:%M:%S}Z"] if spec else [])]

    # ---- before anything is done, and after

    def examine(self, pool: Pool) -> tuple[Finding, ...]:
        """As the contract says."""
        return tuple(f for g in kubernetes_groups(pool) for f in examine(g, self._cluster))

    def other_writers(self, pool: Pool, group: str) -> tuple[str, ...]:
        """None: units are ours alone, and the nodes are the autoscaler's."""
        kubernetes_group(pool, group)
        return ()

    def baseline(self, pool: Pool, group: str) -> Mapping[str, object]:
        """As the contract says: a group has no settings of its own."""
        kubernetes_group(pool, group)
        return {}

    def restore(
        self, pool: Pool, group: str, baseline: Mapping[str, object], held: Collection[str] = ()
    ) -> tuple[str, ...]:
        """As the contract says: every unit that no work is promised to is given back."""
        done = []
        for unit in self._units(kubernetes_group(pool, group)):
            if unit.exists and not unit.work and unit.name not in held:
                self._end(unit)
                done.append(f"{unit.name} given back")
        return tuple(done)

    # ---- inside

    def _cluster(self, group: KubernetesGroup) -> Cluster:
        key = (str(group.kubeconfig), group.context)
        if key not in self._clusters:
            self._clusters[key] = self._open(group)
        return self._clusters[key]

    def _named(self, pool: Pool, node_ids: Sequence[str], *, absent_is_fine: bool = False) -> list[Unit]:
        """The units of these names.

        Raises:
            NotFoundError: naming those that do not exist.
        """
        wanted = dict.fromkeys(node_ids)
        found = {u.name: u for g in kubernetes_groups(pool) for u in self._units(g) if u.exists and u.name in wanted}
        missing = [i for i in wanted if i not in found]
        if missing and not absent_is_fine:
            raise NotFoundError(f"no node {', '.join(missing)}", where=pool.name, hint="observe again")
        return [found[i] for i in wanted if i in found]


def _with_work(cluster: Cluster, units: Sequence[Unit]) -> list[Unit]:
    """The same, with who has the room of those that have given way."""
    given = {u.name: str(u.node["metadata"]["name"]) for u in units if u.exists and not u.holds and u.node is not None}
    work = _pods_on(cluster, sorted(set(given.values())))
    return [replace(u, work=others(work[given[u.name]])) if u.name in given else u for u in units]


def _pods_on(cluster: Cluster, nodes: Sequence[str]) -> Mapping[str, list[Json]]:
    """Node -> its pods: asked for one by one if they are few, else all pods of the cluster are looked through once."""
    if len(nodes) <= _ONE_BY_ONE:
        return {n: cluster.pods(fields=f"spec.nodeName={n}") for n in nodes}
    out: dict[str, list[Json]] = {n: [] for n in nodes}
    for pod in cluster.pods():
        on = (pod.get("spec") or {}).get("nodeName")
        if on in out:
            out[on].append(pod)
    return out


def _job_of(pod: Mapping[str, object]) -> str:
    meta = pod["metadata"]
    owners = meta.get("ownerReferences") or () if isinstance(meta, dict) else ()
    return next((str(o.get("name")) for o in owners if o.get("kind") == "Job"), "")
