"""A cluster that behaves, whose pods have containers: a metrics server, output, and pods that are resized in place.

A resize is asked of the API server, which checks it; the kubelet looks at it later, and says in the pod's status what
it has done: in force, put off until there is room, impossible on its node, or not yet for memory that is in use.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, NamedTuple

from preprov.model.quantity import quantity
from preprov.testing.fake_cluster import FakeCluster, requests
from preprov.testing.fake_kubernetes import Json, stamp, status
from preprov.testing.fake_kubernetes_resize import resized

_METRICS: Final = "/apis/metrics.k8s.io/v1beta1/namespaces/"
_SAID: Final = ("PodResizePending", "PodResizeInProgress")


class Used(NamedTuple):
    """What a container uses: epoch seconds, cores, bytes of its working set."""

    at: float
    cpu: float
    memory: float


@dataclass
class FakeContainers(FakeCluster):
    """The same cluster.

    Attributes:
        metered: there is a metrics server. resize_s: until the kubelet looks at a resize.
        generations: it says which generation of a pod a condition is of, as newer ones do.
        fails: what stands in the way of every resize; "" = nothing.
    """

    metered: bool = True
    resize_s: float = 0.0
    generations: bool = True
    fails: str = ""
    _asked_at: dict[str, float] = field(default_factory=dict)

    # ---- what a kind of container is

    @abstractmethod
    def contained(self) -> None:
        """Begin what is to begin, and end what is over."""

    @abstractmethod
    def used(self, pod: Json) -> Used | None:
        """What its first container uses; None = it does not run."""

    @abstractmethod
    def output(self, pod: Json) -> str | None:
        """What it has printed; None = it has not begun."""

    # ---- answers

    def answer(self, method: str, path: str, query: Mapping[str, list[str]], body: Json) -> tuple[int, Json]:
        """Status and body of one request."""
        if path.startswith(_METRICS):
            return self._metrics(path.removeprefix(_METRICS).split("/")[0])
        parts = path.strip("/").split("/")
        if parts[:3] == ["api", "v1", "namespaces"] and parts[4:5] == ["pods"] and len(parts) == 7:
            if parts[6] == "resize":
                return self._resize(parts[3], parts[5], body)
            if parts[6] == "log":
                return self._log(parts[3], parts[5])
        return super().answer(method, path, query, body)

    def _metrics(self, namespace: str) -> tuple[int, Json]:
        self.settle()
        if refused := self.refused("list", ("metrics.k8s.io", "pods"), namespace):
            return refused
        if not self.metered:
            return 404, status(404, "NotFound")
        mine = [p for p in self._live() if p["metadata"]["namespace"] == namespace]
        return 200, {"items": [_measured(p, used) for p in mine if (used := self.used(p)) is not None]}

    def _log(self, namespace: str, name: str) -> tuple[int, Json]:
        self.settle()
        if refused := self.refused("get", ("", "pods/log"), namespace):
            return refused
        pod = self._named("pods", namespace, name)
        text = self.output(pod) if pod is not None else None
        return (200, {"text": text}) if text is not None else (404, status(404, "NotFound"))

    def _resize(self, namespace: str, name: str, body: Json) -> tuple[int, Json]:
        self.settle()
        if refused := self.refused("patch", ("", "pods/resize"), namespace) or self._busy():
            return refused
        pod = self._named("pods", namespace, name)
        if pod is None:
            return 404, status(404, "NotFound") | {"details": {"name": name, "kind": "pods"}}
        if self.sent_as != "application/strategic-merge-patch+json":  # any other would replace the containers
            return 415, status(415, "UnsupportedMediaType")
        return resized(self, pod, body)

    def resize_asked(self, pod: Json) -> None:
        """The kubelet will see."""
        meta = pod["metadata"]
        meta["generation"] = meta.get("generation", 1) + 1
        self._asked_at[meta["uid"]] = self.now()
        self.bump(pod)

    # ---- what its kubelets do

    def settle(self) -> None:
        """Everything that has to happen by now, of containers too."""
        super().settle()
        self.contained()
        for uid, at in list(self._asked_at.items()):
            pod = self.objects["pods"].get(uid)
            if pod is None or pod["status"].get("phase") != "Running":
                self._asked_at.pop(uid)
            elif self.now() >= at + self.resize_s and self._resized(pod):
                del self._asked_at[uid]
        super().settle()

    def begin(self, pod: Json) -> None:
        """Say that its container runs, with what it asks for."""
        container = pod["spec"]["containers"][0]
        has = {"resources": container.get("resources", {})} if self.minor >= 33 else {}
        state = {"running": {"startedAt": stamp(self.now())}}
        pod["status"]["containerStatuses"] = [{"name": container["name"], "state": state, **has}]

    def ended(self, pod: Json, code: int, reason: str = "") -> None:
        """Say that its container has ended."""
        (said,) = pod["status"]["containerStatuses"]
        began = said["state"]["running"]["startedAt"]
        over = {"exitCode": code, "startedAt": began, "finishedAt": stamp(self.now())}
        said["state"] = {"terminated": {**over, **({"reason": reason} if reason else {})}}
        pod["status"]["phase"] = "Succeeded" if code == 0 else "Failed"
        self.bump(pod)

    def _resized(self, pod: Json) -> bool:
        """True if nothing is left to be done."""
        kind, reason, message = self._judged(pod)
        kept = [c for c in pod["status"].get("conditions", []) if c["type"] not in _SAID]
        if not kind:
            pod["status"]["containerStatuses"] = [
                {**s, "resources": c["resources"]}
                for s, c in zip(pod["status"]["containerStatuses"], pod["spec"]["containers"], strict=True)
            ]
        else:
            said = {"type": kind, "status": "True", "reason": reason, "message": message}
            of = {"observedGeneration": pod["metadata"]["generation"]} if self.generations else {}
            kept.append({**said, **of})
        pod["status"]["conditions"] = kept
        self.bump(pod)
        return not kind or reason == "Infeasible"

    def _judged(self, pod: Json) -> tuple[str, str, str]:
        """(condition, reason, message) if it is not done."""
        if self.fails:
            return "PodResizeInProgress", "Error", self.fails
        name = pod["spec"]["nodeName"]
        room = self._named("nodes", "", name)
        has = (room or {"status": {}})["status"].get("allocatable", {})
        others = [requests(p) for p in self.pods_on(name) if p is not pod]
        container = pod["spec"]["containers"][0]
        for k, text in container["resources"].get("requests", {}).items():
            asked, most = quantity(text), quantity(has.get(k, 0))
            if asked > most:
                return "PodResizePending", "Infeasible", f"Node didn't have enough capacity: {k}, asked {text}"
            if asked > most - sum(o.get(k, 0.0) for o in others):
                return "PodResizePending", "Deferred", f"Node didn't have enough resource: {k}, asked {text}"
        limit, used = container["resources"].get("limits", {}).get("memory"), self.used(pod)
        if limit is not None and used is not None and used.memory > quantity(limit):
            said = f"attempting to set pod memory limit ({limit}) below current usage ({used.memory:.0f})"
            return "PodResizeInProgress", "Error", said
        return "", "", ""


def _measured(pod: Json, used: Used) -> Json:
    usage = {"cpu": f"{used.cpu * 1e9:.0f}n", "memory": f"{used.memory / 1024:.0f}Ki"}
    return {
        "metadata": {"name": pod["metadata"]["name"], "labels": pod["metadata"]["labels"]},
        "timestamp": datetime.fromtimestamp(used.at, UTC).isoformat(),
        "containers": [{"name": pod["spec"]["containers"][0]["name"], "usage": usage}],
    }
