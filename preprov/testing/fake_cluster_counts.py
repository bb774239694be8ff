"""A cluster that behaves, with a CapacityBuffer's controller and a Karpenter of static capacity in it.

As their documents say: a buffer keeps so many of its pods' rooms *free*; a static NodePool has so many nodes, and when
it is to have fewer, those without a node go first, then empty ones by their deprovisioning priority, then others, whose
pods are evicted within their budgets. Neither was seen on a live cluster.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from preprov.testing.fake_cluster import ROOTS, FakeCluster
from preprov.testing.fake_kubernetes import Json, stamp

_KARPENTER: Final = "karpenter.sh/nodepool"
_PRIORITY: Final = "karpenter.sh/deprovisioning-priority"


@dataclass
class FakeScaling(FakeCluster):
    """The same cluster, with counts.

    Attributes:
        slow: the buffer's controller and Karpenter do nothing while it is True.
    """

    slow: bool = False
    roots: Any = field(
        default_factory=lambda: {
            **ROOTS,
            "capacitybuffers": ("/apis/autoscaling.x-k8s.io/v1beta1", "autoscaling.x-k8s.io"),
            "nodepools": ("/apis/karpenter.sh/v1", "karpenter.sh"),
            "nodeclaims": ("/apis/karpenter.sh/v1", "karpenter.sh"),
        }
    )

    # ---- what a person would do

    def buffer(self, name: str, *, namespace: str = "preprov", replicas: int | None = 0) -> Json:
        """A CapacityBuffer whose pods have the size of a node."""
        spec: Json = {"podTemplateRef": {"name": name}, **({} if replicas is None else {"replicas": replicas})}
        made = self.add("capacitybuffers", name, {"kind": "CapacityBuffer", "spec": spec}, namespace=namespace)
        self.bump(made)
        return made

    def node_pool(self, name: str, *, replicas: int | None = 0, nodes: int | None = None) -> Json:
        """A NodePool; static if it has replicas."""
        spec: Json = {"template": {"spec": {"nodeClassRef": {"group": "g", "kind": "k", "name": "n"}}}}
        spec |= {} if replicas is None else {"replicas": replicas}
        spec |= {} if nodes is None else {"limits": {"nodes": str(nodes)}}
        made = self.add("nodepools", name, {"kind": "NodePool", "spec": spec}, namespace="")
        self.bump(made)
        return made

    # ---- what is refused

    def invalid(self, resource: str, before: Json, after: Json) -> str:
        """As the rules of the two CustomResourceDefinitions say."""
        count = after.get("spec", {}).get("replicas")
        if resource in ("capacitybuffers", "nodepools") and count is not None and count < 0:
            return "spec.replicas: Invalid value: should be greater than or equal to 0"
        if resource == "nodepools" and ("replicas" in before["spec"]) != ("replicas" in after["spec"]):
            return "cannot switch between a static and a dynamic NodePool"
        if resource == "capacitybuffers" and count is None and "limits" not in after["spec"]:
            return "if podTemplateRef is set, replicas or limits must also be set"
        return ""

    # ---- what the controllers do

    def settle(self) -> None:
        """Everything that has to happen by now."""
        if not self.slow:
            for pool in list(self.objects["nodepools"].values()):
                self._have_nodes(pool)
        super().settle()
        if not self.slow:
            self._have_room()

    def _have_room(self) -> None:
        """One room is one node: what is free, or on its way, counts; nothing is made for what is taken."""
        wanted = sum(b["spec"].get("replicas", 0) for b in self.objects["capacitybuffers"].values())
        mine = [n for n in self.objects["nodes"].values() if not n["spec"].get("unschedulable")]
        free = [n for n in mine if not self.pods_on(n["metadata"]["name"]) and "for" not in n["status"]]
        for _ in range(min(wanted - len(free), self.most - len(self.objects["nodes"]))):
            self.node(ready_in=self.boot_s)
        for node in free[:wanted]:
            self._idle_since.pop(node["metadata"]["name"], None)

    def _claims(self, pool: str) -> Iterator[tuple[str, Json]]:
        for uid, claim in list(self.objects["nodeclaims"].items()):
            if claim["metadata"]["labels"].get(_KARPENTER) == pool:
                yield uid, claim

    def _have_nodes(self, pool: Json) -> None:
        name, wanted = pool["metadata"]["name"], pool["spec"].get("replicas")
        if wanted is None:
            return
        for uid, claim in self._claims(name):
            if claim["metadata"].get("deletionTimestamp"):
                self._end_claim(uid, claim)
        here = [(uid, c) for uid, c in self._claims(name) if not c["metadata"].get("deletionTimestamp")]
        limit = pool["spec"].get("limits", {}).get("nodes")
        room = wanted if limit is None else min(wanted, int(limit))
        for _ in range(room - len(here)):
            self._claim(name)
        for uid, claim in sorted(here, key=lambda c: self._order(c[1]))[: max(len(here) - wanted, 0)]:
            claim["metadata"]["deletionTimestamp"] = "now"
            self._end_claim(uid, claim)

    def _claim(self, pool: str) -> None:
        node = self.node(ready_in=self.boot_s)
        node["metadata"]["labels"][_KARPENTER] = pool
        node["status"]["for"] = pool
        name = f"{pool}-{node['metadata']['name']}"
        claim = self.add("nodeclaims", name, {"spec": {}, "labels": {_KARPENTER: pool}}, namespace="")
        claim["status"]["nodeName"] = node["metadata"]["name"]
        launched = {"type": "Launched", "status": "True", "lastTransitionTime": stamp(self.now())}
        claim["status"]["conditions"] = [launched]
        self.bump(claim)

    def _order(self, claim: Json) -> tuple[bool, int, str]:
        said = claim["metadata"].get("annotations", {}).get(_PRIORITY, "0")
        return bool(self.pods_on(claim["status"]["nodeName"])), -int(said), claim["metadata"]["creationTimestamp"]

    def _end_claim(self, uid: str, claim: Json) -> None:
        """Its node takes no more pods, and goes when it is empty."""
        node = self._named("nodes", "", claim["status"]["nodeName"])
        if node is not None:
            node["spec"]["taints"] = [{"key": "karpenter.sh/disrupted", "effect": "NoSchedule"}]
            if self.pods_on(node["metadata"]["name"]):
                return
            del self.objects["nodes"][node["metadata"]["uid"]]
        del self.objects["nodeclaims"][uid]

    def _scale_down(self) -> None:
        """Nodes of a static pool stay until its count goes down; idle ones that a buffer wants stay too."""
        wanted = sum(b["spec"].get("replicas", 0) for b in self.objects["capacitybuffers"].values())
        idle = [n for n in self.objects["nodes"].values() if not self.pods_on(n["metadata"]["name"])]
        static = [n for n in idle if _KARPENTER in n["metadata"]["labels"]]
        for node in [*static, *[n for n in idle if n not in static][:wanted]]:
            self._idle_since.pop(node["metadata"]["name"], None)
        super()._scale_down()
