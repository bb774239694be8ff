"""Nodes of another provider that join the cluster: held back by a taint until they are handed over.

The machine's image or user data starts the kubelet with `--register-with-taints=preprov.io/held=:NoSchedule`. So a node
that is there but not verified takes no pod. When its provider says that it is ready, and the kubelet too, the taint is
taken off and the pool's label put on. Before a machine is put to sleep or ended the taint is put back and the node is
looked at once more: what work has come to stays.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Final

from preprov.contracts import (
    Adopts,
    Capabilities,
    Clock,
    Examined,
    Finding,
    LaunchRequest,
    LeasesRaises,
    PoolProvider,
    RecallsLeads,
    Recollection,
    Tended,
)
from preprov.kube.api import Json
from preprov.kube.labels import POOL
from preprov.model.errors import PoolError, ThrottledError
from preprov.model.nodes import Node, Phase
from preprov.model.offerings import Preload, Standby
from preprov.model.pools import Pool
from preprov.pools.kubernetes import manifests
from preprov.pools.kubernetes.manifests import label
from preprov.pools.kubernetes.options import KubernetesGroup
from preprov.pools.kubernetes.rights import Rule
from preprov.pools.kubernetes.units import NO_WORK, Work, is_ready
from preprov.pools.kubernetes.ways import Opened
from preprov.pools.kubernetes.work import refuse_work, work_on

HELD: Final = "preprov.io/held"
"""Key of the taint of a node that is not handed over."""
MACHINE: Final = "preprov.io/machine"
"""Label that a kubelet may be given, where neither its name, address nor providerID tells which machine it is."""


@dataclass(frozen=True)
class JoinRoom:
    """A machine, and the cluster's node that it is; implements `ways.Room`.

    Attributes:
        machine: as its provider shows it. node: None = it has not joined. pods: work on it.
    """

    machine: Node
    node: Json | None
    pods: Work = NO_WORK

    exists: bool = True

    @property
    def name(self) -> str:
        """Of the machine."""
        return self.machine.node_id

    @property
    def work(self) -> tuple[str, ...]:
        """Pods, and what its agent runs; what nobody can say counts."""
        running = ("something",) if self.machine.running is None else self.machine.running
        return (*self.pods.names, *running)

    @property
    def on(self) -> str:
        """Name of the node."""
        return str(self.node["metadata"]["name"]) if self.node is not None else ""

    @property
    def is_held(self) -> bool:
        """True until it is handed over."""
        return self.node is not None and any(t.get("key") == HELD for t in _taints(self.node))

    def shown(self, now: datetime) -> Node:
        """As a node of the pool."""
        running = None if self.machine.running is None else self.work
        theirs = self.machine.foreign
        foreign = None if theirs is None else (*self.pods.foreign, *theirs)
        seen = replace(self.machine, running=running, foreign=foreign, address=self.on)
        if seen.phase is not Phase.READY:
            return seen
        if self.node is None or not is_ready(self.node):
            return replace(seen, phase=Phase.WARMING, ready_at=None, reason="has not joined the cluster yet")
        if self.is_held:
            return replace(seen, phase=Phase.WARMING, ready_at=None, reason="is not handed over yet")
        if (self.node.get("spec") or {}).get("unschedulable"):
            return replace(seen, phase=Phase.DRAINING, reason="cordoned")
        return seen


class JoinWay:
    """Machines of `vendor`.

    Args:
        group: as configured. cluster: gives it.
        clock: of what is told.
        vendor: makes the machines.
    """

    rules: tuple[Rule, ...] = ((False, "", "nodes", ("list", "patch")), (False, "", "pods", ("list",)))

    def __init__(self, group: KubernetesGroup, cluster: Opened, clock: Clock, vendor: PoolProvider) -> None:
        self._group, self._open, self._clock, self._vendor = group, cluster, clock, vendor
        theirs = replace(group.group, provider=group.vendor, options=group.vendor_options)
        self._theirs: Pool = replace(group.pool, groups=(theirs,))

    @cached_property
    def can(self) -> Capabilities:
        """What its provider can; of notices, and standby that the vendor keeps by itself, nothing is passed on."""
        theirs = self._vendor.capabilities(self._theirs, self._group.group.name)
        return replace(theirs, interrupts=False, sets_targets=False, reacts=False)

    # ---- what exists

    def rooms(self) -> list[JoinRoom]:
        """As the contract says."""
        seen = self._vendor.observe(self._theirs)
        if not seen.complete:
            said = "; ".join(seen.problems)
            raise ThrottledError(f"{self._group.vendor} did not show all: {said}", where=self._group.where)
        if not seen.nodes:
            return []
        cluster = self._open()
        joined = cluster.nodes("")
        found = {m.node_id: next((n for n in joined if _is(n, m)), None) for m in seen.nodes}
        names = sorted(str(n["metadata"]["name"]) for n in found.values() if n is not None)
        work = work_on(cluster, names)
        out = []
        for machine in seen.nodes:
            node = found[machine.node_id]
            out.append(JoinRoom(machine, node, work[node["metadata"]["name"]] if node is not None else NO_WORK))
        return out

    def recall(self, since: datetime) -> Recollection:
        """What its provider has on record of its machines."""
        vendor: object = self._vendor
        if not isinstance(vendor, RecallsLeads):
            return Recollection(means=f"{self._group.vendor} has no record of past warmings")
        return vendor.recall_leads(self._theirs, self._group.group.name, since)

    # ---- more, less

    def launch(self, request: LaunchRequest) -> tuple[str, ...]:
        """As its provider does."""
        return self._vendor.launch(replace(request, pool=self._theirs))

    def start(self, rooms: Sequence[JoinRoom], preload: Preload) -> None:
        """As its provider does; what wakes is held back until it is handed over again."""
        self._vendor.start(self._theirs, [r.name for r in rooms], preload)

    def keep(self, rooms: Sequence[JoinRoom], state: Standby) -> None:
        """As its provider does, once no pod can come."""
        if state not in self.can.standby_states & self._group.group.standby_states:
            raise PoolError(f"group {self._group.group.name} keeps no {state} nodes", where=self._group.where)
        self._hold(rooms)
        put = self._vendor.hibernate if state is Standby.HIBERNATED else self._vendor.stop
        put(self._theirs, [r.name for r in rooms])

    def end(self, rooms: Sequence[JoinRoom]) -> None:
        """As its provider does, once no pod can come."""
        self._hold(rooms)
        self._vendor.terminate(self._theirs, [r.name for r in rooms])

    def _hold(self, rooms: Sequence[JoinRoom]) -> None:
        cluster = self._open()
        for room in rooms:
            if room.node is not None and not room.is_held:
                taints = [*_taints(room.node), {"key": HELD, "effect": "NoSchedule"}]
                cluster.patch_node(room.node, {"spec": {"taints": taints}})
        names = sorted(r.on for r in rooms if r.on)
        refuse_work(cluster, names, self._group.where, "work came meanwhile: it is handed over again")

    # ---- upkeep

    def lease(self, until: datetime) -> None:
        """As its provider does."""
        if not isinstance(self._vendor, LeasesRaises):
            raise PoolError(f"{self._group.vendor} leases nothing", where=self._group.where)
        self._vendor.lease(self._theirs, self._group.group.name, until)

    def tend(self, held: Collection[str]) -> tuple[str, ...]:
        """What its provider does; and ready nodes are handed over."""
        said = list(self._vendor.tend(self._theirs, held)) if isinstance(self._vendor, Tended) else []
        for room in self.rooms():
            node = room.node
            if node is None or room.machine.phase is not Phase.READY or not is_ready(node) or not room.is_held:
                continue
            self._open().patch_node(node, self._handed_over(_taints(node)))
            said.append(f"{room.on} is handed over")
        return tuple(said)

    def _handed_over(self, taints: Sequence[Json]) -> Json:
        left = [t for t in taints if t.get("key") != HELD]
        return {"metadata": {"labels": {POOL: label(self._group.pool.name)}}, "spec": {"taints": left or None}}

    # ---- before, and after

    def baseline(self) -> Mapping[str, object]:
        """As its provider's."""
        name = self._group.group.name
        return self._vendor.baseline(self._theirs, name) if isinstance(self._vendor, Adopts) else {}

    def restore(self, baseline: Mapping[str, object], held: Collection[str]) -> tuple[str, ...]:
        """As its provider does; nodes with pods count as held."""
        if not isinstance(self._vendor, Adopts):
            return ()
        busy = {r.name for r in self.rooms() if r.work}
        return self._vendor.restore(self._theirs, self._group.group.name, baseline, {*held, *busy})

    def examine(self) -> Iterator[Finding]:
        """As its provider does."""
        if isinstance(self._vendor, Examined):
            yield from self._vendor.examine(self._theirs)

    def setup(self) -> list[Json]:
        """The namespace of the account."""
        return [manifests.namespace(self._group)]

    def sent(self, request: LaunchRequest) -> Json:
        """What is changed of a node as it is handed over."""
        return {"apiVersion": "v1", "kind": "Node", **self._handed_over(())}


def _taints(node: Json) -> list[Json]:
    return list((node.get("spec") or {}).get("taints") or ())


def _is(node: Json, machine: Node) -> bool:
    meta, spec = node["metadata"], node.get("spec") or {}
    if (meta.get("labels") or {}).get(MACHINE) == machine.node_id or meta["name"] == machine.node_id:
        return True
    if str(spec.get("providerID") or "").rsplit("/", 1)[-1] == machine.node_id:
        return True
    addresses = {a.get("address") for a in (node.get("status") or {}).get("addresses") or ()}
    return bool(machine.address) and machine.address in addresses
