"""Room held by pods that give way: a unit is one Job of the size of a node, and ends at its deadline by itself.

preprov makes and ends units, and nothing else: it launches no node behind the autoscaler, and ends nobody's pod.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from preprov.contracts import Capabilities, Clock, Finding, LaunchRequest
from preprov.kube.api import Cluster, Json
from preprov.kube.labels import KIND, MANAGED_BY, MANAGER, NODE_ID, POOL
from preprov.kube.reading import annotations
from preprov.model.errors import NotFoundError, QuotaExceededError
from preprov.model.offerings import Preload, Standby
from preprov.pools.kubernetes import manifests
from preprov.pools.kubernetes.manifests import READY, label
from preprov.pools.kubernetes.options import KubernetesGroup
from preprov.pools.kubernetes.rights import Rule
from preprov.pools.kubernetes.units import EVICTED, Unit, facts, is_ready, node_of, over
from preprov.pools.kubernetes.ways import Opened, keeps_nothing
from preprov.pools.kubernetes.work import work_on

_RENEW_AT: Final = 0.5
"""A lease is renewed once less than this share of it is left."""


class PlaceholderWay:
    """A group's units.

    Args:
        group: as configured. cluster: gives it.
        clock: of what is told; it has to show the cluster's time.
    """

    can = Capabilities(
        standby_states=frozenset({Standby.RUNNING}),
        mixes_states=False,
        chooses_zone=True,
        leases=True,
        preloads=False,
        steps_down=False,
        reacts=False,
    )
    rules: tuple[Rule, ...] = (
        (True, "batch", "jobs", ("create", "list", "patch")),
        (False, "", "nodes", ("list", "patch")),
        (False, "", "pods", ("list",)),
        (False, "scheduling.k8s.io", "priorityclasses", ("get",)),
    )

    def __init__(self, group: KubernetesGroup, cluster: Opened, clock: Clock) -> None:
        self._group, self._open, self._clock = group, cluster, clock

    # ---- what exists

    def rooms(self) -> list[Unit]:
        """Every Job of the group's, given back ones too."""
        group, cluster = self._group, self._open()
        selector = f"{MANAGED_BY}={MANAGER},{POOL}={label(group.pool.name)}"
        jobs = [j for j in cluster.jobs(group.namespace, selector) if self._is_ours(j)]
        if not jobs:
            return []
        pods = {_job_of(p): p for p in cluster.pods(namespace=group.namespace, labels=selector)}
        nodes = {n["metadata"]["name"]: n for n in cluster.nodes(group.selector) if is_ready(n)}
        taken = self._taken_unseen(jobs)
        units = []
        for job in jobs:
            name = job["metadata"]["name"]
            where = node_of(job, pods.get(name)) or taken.get(name, "")
            units.append(Unit(group, job, pods.get(name), nodes.get(where)))
        return _with_work(cluster, units)

    def _taken_unseen(self, jobs: Sequence[Json]) -> Mapping[str, str]:
        """Unit -> its node, of those that gave way to a task of ours before it was noted where they were."""
        lost = [j for j in jobs if over(j) == EVICTED and not annotations(j).keys() & {manifests.NODE, manifests.ENDED}]
        if not lost:
            return {}
        selector = f"{MANAGED_BY}={MANAGER},{KIND}=task"
        tasks = self._open().pods(namespace=self._group.namespace, labels=selector)
        placed = ((annotations(t).get(NODE_ID, ""), (t.get("spec") or {}).get("nodeName")) for t in tasks)
        return {name: str(node) for name, node in placed if node}

    def _is_ours(self, job: Json) -> bool:
        """Labels hold less than names: the facts decide."""
        told = facts(job)
        return told.get("pool") == self._group.pool.name and told.get("group") == self._group.group.name

    # ---- more, less

    def launch(self, request: LaunchRequest) -> tuple[str, ...]:
        """As the contract says. Whether the cluster has room, or makes it, shows later: until then a unit warms."""
        group = self._group
        units = {u.name: u for u in self.rooms()}
        names = [manifests.unit_name(request, i) for i in range(request.count)]
        missing = [i for i, n in enumerate(names) if n not in units]
        room = group.group.max_nodes - sum(u.exists for u in units.values())
        if missing and room < 1 and len(missing) == request.count:
            raise QuotaExceededError(
                f"the group has {group.group.max_nodes - room} units of {group.group.max_nodes}",
                where=group.where,
                hint="raise max_nodes",
            )
        cluster, now = self._open(), self._clock.now()
        made = [i for i in missing[: max(room, 0)] if cluster.create_job(manifests.unit(group, request, i, now))]
        alive = {n for n in names if n in units and units[n].exists} | {names[i] for i in made}
        return tuple(n for n in names if n in alive)

    def start(self, rooms: Sequence[Unit], preload: Preload) -> None:
        """A unit is there or not: there is nothing to start."""

    def keep(self, rooms: Sequence[Unit], state: Standby) -> None:
        """Refused."""
        raise keeps_nothing(self._group, state)

    def end(self, rooms: Sequence[Unit]) -> None:
        """Only the pod that holds room is ended: whatever else is on the node goes on."""
        for unit in rooms:
            self._open().patch_job(unit.job, manifests.ending(self._clock.now()))

    # ---- leases and upkeep

    def lease(self, until: datetime) -> None:
        """Kubernetes ends units at their deadline, and with them what was raised."""
        for unit in self.rooms():
            if unit.exists and unit.holds and unit.deadline is not None and unit.deadline != until:
                seconds = unit.job["spec"]["activeDeadlineSeconds"] + (until - unit.deadline).total_seconds()
                self._open().patch_job(unit.job, {"spec": {"activeDeadlineSeconds": max(int(seconds), 1)}})

    def tend(self, held: Collection[str]) -> tuple[str, ...]:
        """Leases are renewed, and each unit's Job is told on which node its room is.

        Once it has given way its pod is gone, and nothing else would say where that was.
        """
        lease_s = self._group.pool.lease_s
        until = self._clock.now() + timedelta(seconds=lease_s)
        units = [u for u in self.rooms() if u.exists]
        held = [line for u in units if u.holds for line in self._tend(u, until, lease_s)]
        return (*held, *(line for u in units if not u.holds for line in self._note(u)))

    def _note(self, unit: Unit) -> list[str]:
        """Where it was, if that shows only by the task of ours that has its room."""
        if annotations(unit.job).get(manifests.NODE) == unit.on:
            return []
        notes = {manifests.NODE: unit.on, READY: self._clock.now().isoformat()}
        self._open().patch_job(unit.job, {"metadata": {"annotations": notes}})
        return [f"{unit.name} gave its room on {unit.on} to a task"]

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
        self._open().patch_job(unit.job, patch)
        said = [f"{unit.name} holds room on {where}"] if notes else []
        return [*said, *([f"{unit.name} held until {until:%H:%M:%S}Z"] if spec else [])]

    # ---- before, and after

    def baseline(self) -> Mapping[str, object]:
        """A group has no settings of its own."""
        return {}

    def restore(self, baseline: Mapping[str, object], held: Collection[str]) -> tuple[str, ...]:
        """Every unit that no work is promised to is given back."""
        going = [u for u in self.rooms() if u.exists and not u.work and u.name not in held]
        self.end(going)
        return tuple(f"{u.name} given back" for u in going)

    def examine(self) -> Iterator[Finding]:
        """Whether real work is above the priority class."""
        name, what = self._group.priority_class, f"{self._group.group.name}: priority class"
        try:
            value = self._open().priority(name)
        except NotFoundError:
            yield Finding(what, "bad", f"there is no {name}", "`preprov kubernetes manifests` prints what it needs")
            return
        if value >= 0:
            hint = "everything else has to be above it, and pods without a class have 0"
            yield Finding(what, "bad", f"{name} is {value}: real work could not evict it", hint)
        elif value < manifests.PRIORITY:
            hint = "the cluster autoscaler makes no room for what is below -10, unless told otherwise"
            yield Finding(what, "warn", f"{name} is {value}", hint)
        else:
            yield Finding(what, "ok", f"{name} is {value}")

    def setup(self) -> list[Json]:
        """Namespace and priority class."""
        return [manifests.namespace(self._group), manifests.priority_class(self._group)]

    def sent(self, request: LaunchRequest) -> Json:
        """A unit."""
        return manifests.unit(self._group, request, 0, self._clock.now())


def _with_work(cluster: Cluster, units: Sequence[Unit]) -> list[Unit]:
    """The same, with who has the room of those that have given way."""
    given = {u.name: u.on for u in units if u.exists and not u.holds and u.node is not None}
    work = work_on(cluster, sorted(set(given.values())))
    found = {unit: work[node] for unit, node in given.items()}
    return [replace(u, work=w.names, foreign=w.foreign) if (w := found.get(u.name)) else u for u in units]


def _job_of(pod: Json) -> str:
    owners = pod["metadata"].get("ownerReferences") or ()
    return next((str(o.get("name")) for o in owners if o.get("kind") == "Job"), "")
