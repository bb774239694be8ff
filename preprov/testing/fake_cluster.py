"""A Kubernetes cluster that behaves: Jobs make pods, pods find nodes, wait, or evict what is lower; an autoscaler.

Over HTTP as `FakeKubernetes` is served. Its controllers work whenever it is asked something, up to the time that its
clock shows: the Job controller (deadlines, failures, clearing away), the scheduler (selectors, cordons, room, priority
and preemption), and an autoscaler that makes a node for a pod that fits nowhere and takes idle ones away. Writes are
checked as the API server does: rights by verb, names that are taken, resource versions, who owns which field.
"""

import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from preprov.model.quantity import quantity
from preprov.testing.fake_budgets import evicted
from preprov.testing.fake_kubernetes import FakeKubernetes, Json, stamp, status

ROOTS: Final[Mapping[str, tuple[str, str]]] = {
    "jobs": ("/apis/batch/v1", "batch"),
    "pods": ("/api/v1", ""),
    "nodes": ("/api/v1", ""),
    "events": ("/api/v1", ""),
    "poddisruptionbudgets": ("/apis/policy/v1", "policy"),
    "priorityclasses": ("/apis/scheduling.k8s.io/v1", "scheduling.k8s.io"),
}
"""Resource -> where it is served, and its API group."""
_OVER: Final = ("Succeeded", "Failed")


@dataclass
class FakeCluster(FakeKubernetes):
    """What the cluster holds and does.

    Attributes:
        clock: epoch seconds there.
        granted: (verb, group, resource) that are allowed, with a fourth the namespace in which; None = everything.
        called: those that were used. scopes: the same, each with the namespace that it was used in; "" = everywhere.
        size: allocatable of a node that is made, as Kubernetes writes it. most: nodes. boot_s: until one is ready.
        idle_s: an empty node is taken away after so long. pull_s: how long the images of a pod take.
        refuse: the next writes are answered so: (status, Retry-After seconds).
        meanwhile: done before the next write is looked at, once: what somebody else does at the same moment.
    """

    clock: Callable[[], float] = time.time
    granted: set[tuple[str, ...]] | None = None
    called: set[tuple[str, str, str]] = field(default_factory=set)
    scopes: set[tuple[str, str, str, str]] = field(default_factory=set)
    size: Mapping[str, str] = field(default_factory=lambda: {"cpu": "4", "memory": "16Gi", "pods": "110"})
    labels: Mapping[str, str] = field(default_factory=dict)
    most: int = 20
    boot_s: float = 60.0
    idle_s: float = 600.0
    pulls: bool = True
    pull_s: float = 12.3
    refuse: list[tuple[int, int]] = field(default_factory=list)
    meanwhile: Callable[[], object] | None = None
    roots: Mapping[str, tuple[str, str]] = field(default_factory=lambda: dict(ROOTS))
    _versions: Iterator[int] = field(default_factory=lambda: itertools.count(100))
    _idle_since: dict[str, float] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        for resource in self.roots:
            self.objects.setdefault(resource, {})

    def now(self) -> float:
        """Epoch seconds there."""
        return self.clock()

    # ---- what a person would do

    def priority_class(self, name: str, value: int) -> None:
        """Make a priority class."""
        made = self.add("priorityclasses", name, {"value": value}, namespace="")
        self.bump(made)

    def node(self, name: str = "", *, ready_in: float = 0.0, **spec: Any) -> Json:
        """A node, such as the autoscaler makes."""
        name = name or f"node-{next(self._numbers)}"
        labels = {**self.labels, "kubernetes.io/hostname": name}
        made = self.add("nodes", name, {"spec": spec, "labels": labels}, namespace="")
        made["status"] = {"allocatable": dict(self.size), "readyAt": self.now() + ready_in}
        self.bump(made)
        return made

    def work(self, name: str, cpu: str = "4", memory: str = "16Gi", **spec: Any) -> Json:
        """A pod of somebody's."""
        requests = {"cpu": cpu, "memory": memory}
        body = {"spec": {"containers": [{"name": "main", "resources": {"requests": requests}}], **spec}}
        made = self.add("pods", name, body, namespace="work")
        made["status"] = {"phase": "Pending"}
        self.bump(made)
        self.settle()
        return made

    def event(self, about: Json, kind: str, reason: str, message: str) -> Json:
        """What somebody tells of an object; kept here for as long as the cluster is, and not for an hour."""
        meta = about["metadata"]
        whom = {"kind": kind, "name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"]}
        told = {"involvedObject": whom, "reason": reason, "message": message, "firstTimestamp": stamp(self.now())}
        return self.add("events", f"{meta['name']}.{len(self.objects['events'])}", told, namespace=meta["namespace"])

    def finish(self, pod: Json) -> None:
        """A pod has done its work."""
        pod["status"]["phase"] = "Succeeded"
        self.bump(pod)
        self.settle()

    def pods_on(self, node: str) -> list[Json]:
        """That are there and not over."""
        return [p for p in self._live() if p["spec"].get("nodeName") == node]

    # ---- answers

    def answer(self, method: str, path: str, query: Mapping[str, list[str]], body: Json) -> tuple[int, Json]:
        """Status and body of one request."""
        if path.endswith("/selfsubjectaccessreviews"):
            asked = body["spec"]["resourceAttributes"]
            below = asked.get("subresource")
            what = (asked.get("group") or "", f"{asked['resource']}/{below}" if below else asked["resource"])
            return 201, {**body, "status": {"allowed": self.may(asked["verb"], what, asked.get("namespace") or "")}}
        self.settle()
        for resource, (root, group) in self.roots.items():
            parts = path.removeprefix(root + "/").split("/") if path.startswith(root + "/") else []
            if resource in parts:
                at = parts.index(resource)
                name = parts[at + 1] if len(parts) > at + 1 else ""
                namespace = parts[1] if at == 2 else ""
                if parts[at + 2 :] == ["eviction"]:
                    return self._evict(namespace, name, body)
                return self._asked(method, (group, resource), (namespace, name), query, body)
        return super().answer(method, path, query, body)

    def _evict(self, namespace: str, name: str, body: Json) -> tuple[int, Json]:
        refused = self.refused("create", ("", "pods/eviction"), namespace) or self._busy()
        return refused or evicted(self, self._named("pods", namespace, name), body)

    def _asked(
        self, method: str, what: tuple[str, str], which: tuple[str, str], query: Mapping[str, list[str]], body: Json
    ) -> tuple[int, Json]:
        verb = {"GET": "get" if which[1] else "list", "POST": "create", "PATCH": "patch", "DELETE": "delete"}[method]
        refused = self.refused(verb, what, which[0])
        if refused:
            return refused
        if method != "GET":
            if busy := self._busy():
                return busy
            if self.meanwhile is not None:
                other, self.meanwhile = self.meanwhile, None
                other()
                self.settle()
        act = {"list": self._list, "get": self._get, "create": self._create, "patch": self._patch}.get(verb)
        return act(what[1], which, query, body) if act is not None else (405, status(405, "MethodNotAllowed"))

    def may(self, verb: str, what: tuple[str, str], namespace: str) -> bool:
        """Whether somebody gave the right to; namespace "" = in all of them, or of no namespace."""
        return self.granted is None or not self.granted.isdisjoint({(verb, *what), (verb, *what, namespace)})

    def refused(self, verb: str, what: tuple[str, str], namespace: str) -> tuple[int, Json] | None:
        """Count a request; the answer to one that nobody gave the right to make."""
        self.asked += 1
        self.called.add((verb, *what))
        self.scopes.add((verb, *what, namespace))
        if not self.may(verb, what, namespace):
            return 403, status(403, "Forbidden") | {"message": f"cannot {verb} {what[1]}"}
        return None

    def _busy(self) -> tuple[int, Json] | None:
        """The answer to a write that is to come again later."""
        if not self.refuse:
            return None
        code, after = self.refuse.pop(0)
        return code, status(code, "TooManyRequests") | {"retryAfterSeconds": after}

    def _list(
        self, resource: str, which: tuple[str, str], query: Mapping[str, list[str]], _body: Json
    ) -> tuple[int, Json]:
        found = [o for o in self.objects[resource].values() if which[0] in ("", o["metadata"]["namespace"])]
        labels = _pairs(query.get("labelSelector", [""])[0])
        found = [o for o in found if labels.items() <= o["metadata"].get("labels", {}).items()]
        for key, value in _pairs(query.get("fieldSelector", [""])[0]).items():
            part, _, name = key.partition(".")
            assert key in ("spec.nodeName", "metadata.name", "reason"), key
            found = [o for o in found if (o[part].get(name) if name else o.get(part)) == value]
        return self._page(resource, found, query)

    def _get(
        self, resource: str, which: tuple[str, str], _query: Mapping[str, list[str]], _body: Json
    ) -> tuple[int, Json]:
        found = self._named(resource, *which)
        return (200, found) if found is not None else (404, status(404, "NotFound"))

    def _create(
        self, resource: str, which: tuple[str, str], query: Mapping[str, list[str]], body: Json
    ) -> tuple[int, Json]:
        meta = body["metadata"]
        if self._named(resource, which[0], meta["name"]) is not None:
            return 409, status(409, "AlreadyExists")
        rest = {k: v for k, v in body.items() if k not in ("metadata", "status")}
        body = {**rest, "labels": meta.get("labels", {}), "annotations": meta.get("annotations", {})}
        made = self.add(resource, meta["name"], body, namespace=which[0])
        made["metadata"]["managedFields"] = [{"manager": query.get("fieldManager", ["unknown"])[0]}]
        if resource == "jobs":
            made["status"]["startTime"] = stamp(self.now())
        self.bump(made)
        self.settle()
        return 201, made

    def _patch(
        self, resource: str, which: tuple[str, str], query: Mapping[str, list[str]], body: Json
    ) -> tuple[int, Json]:
        found = self._named(resource, *which)
        if found is None:
            return 404, status(404, "NotFound")
        applied = self.sent_as == "application/apply-patch+yaml"
        if not applied and self.sent_as != "application/merge-patch+json":
            return 415, status(415, "UnsupportedMediaType")
        version = body.get("metadata", {}).get("resourceVersion")
        if version is not None and version != found["metadata"]["resourceVersion"]:
            return 409, status(409, "Conflict")
        refused = self._apply(found, body, query["fieldManager"][0]) if applied else ""
        if refused:
            return 409, status(409, "Conflict") | {"message": refused}
        if not applied:
            why = self.invalid(resource, found, merged(found, body))
            if why:
                return 422, status(422, "Invalid") | {"message": why}
            _merge(found, body)
        self.bump(found)
        self.settle()
        return 200, found

    def invalid(self, resource: str, before: Json, after: Json) -> str:
        """Why a change is refused by its kind; "" = it is not."""
        return ""

    def _apply(self, node: Json, body: Json, manager: str) -> str:
        """Server-side apply, of the one field that is applied here; says who owns it otherwise."""
        wanted = body.get("spec", {}).get("unschedulable")
        managed = node["metadata"].setdefault("managedFields", [])
        owners = {m["manager"] for m in managed if "f:unschedulable" in m.get("fieldsV1", {}).get("f:spec", {})}
        if wanted is not None and owners - {manager} and node["spec"].get("unschedulable") != wanted:
            return f"conflict with {', '.join(sorted(owners - {manager}))}: .spec.unschedulable"
        node["metadata"]["managedFields"] = [m for m in managed if m["manager"] != manager]
        if wanted is not None:
            node["spec"]["unschedulable"] = wanted
            fields: Json = {"f:spec": {"f:unschedulable": {}}}
            node["metadata"]["managedFields"].append({"manager": manager, "operation": "Apply", "fieldsV1": fields})
        elif owners == {manager}:
            node["spec"].pop("unschedulable", None)
        return ""

    # ---- what its controllers do

    def settle(self) -> None:
        """Everything that has to happen by now."""
        self._nodes_boot()
        for job in list(self.objects["jobs"].values()):
            self._run_job(job)
        for pod in sorted(self._live(), key=self._priority, reverse=True):
            if "nodeName" not in pod["spec"]:
                self._place(pod)
        for job in list(self.objects["jobs"].values()):
            self._run_job(job)
        self._scale_down()

    def _nodes_boot(self) -> None:
        for node in self.objects["nodes"].values():
            ready = node["status"]["readyAt"] <= self.now()
            since = stamp(node["status"]["readyAt"])
            state = {"status": "True" if ready else "False", "lastTransitionTime": since}
            node["status"]["conditions"] = [{"type": "Ready", **state}]

    def _run_job(self, job: Json) -> None:
        meta, spec, state = job["metadata"], job["spec"], job["status"]
        if state.get("conditions"):
            if self.now() >= state["overAt"] + spec.get("ttlSecondsAfterFinished", float("inf")):
                del self.objects["jobs"][meta["uid"]]
            return
        mine = self._pods_of_job(meta["uid"])
        state.setdefault("startTime", meta["creationTimestamp"])
        if self.now() >= _seconds(state["startTime"]) + spec.get("activeDeadlineSeconds", float("inf")):
            self._end_job(job, "DeadlineExceeded")
        elif any(p["status"]["phase"] == "Failed" for p in mine):
            self._end_job(job, "BackoffLimitExceeded", keep=any("containerStatuses" in p["status"] for p in mine))
        elif any(p["status"]["phase"] == "Succeeded" for p in mine):
            self._end_job(job, "CompletionsReached", kind="Complete", keep=True)
        elif not mine:
            template = spec["template"]
            told = {k: dict(template["metadata"].get(k, {})) for k in ("labels", "annotations")}
            body = {"spec": json.loads(json.dumps(template["spec"])), **told}
            owner = {"kind": "Job", "name": meta["name"], "uid": meta["uid"]}
            made = self.add("pods", f"{meta['name']}-x", body, namespace=meta["namespace"], owner=owner)
            made["status"] = {"phase": "Pending"}
            self.bump(made)

    def _end_job(self, job: Json, reason: str, *, kind: str = "Failed", keep: bool = False) -> None:
        state = {"type": kind, "status": "True", "reason": reason, "lastTransitionTime": stamp(self.now())}
        job["status"] |= {"conditions": [state], "overAt": self.now()}
        self.bump(job)
        if keep:
            return
        for pod in self._pods_of_job(job["metadata"]["uid"]):
            del self.objects["pods"][pod["metadata"]["uid"]]

    def _place(self, pod: Json) -> None:
        nodes = [n for n in self.objects["nodes"].values() if self._suits(pod, n) and self._is_up(n)]
        for node in nodes:
            if self._fits(pod, node, self.pods_on(node["metadata"]["name"])):
                self._bind(pod, node)
                return
        for node in nodes:
            there = self.pods_on(node["metadata"]["name"])
            lower = [p for p in there if self._priority(p) < self._priority(pod)]
            if lower and self._fits(pod, node, [p for p in there if p not in lower]):
                for victim in lower:
                    victim["status"] = {"phase": "Failed", "reason": "Preempting"}
                    self.bump(victim)
                self._bind(pod, node)
                return
        message = f"0/{len(self.objects['nodes'])} nodes are available"
        pod["status"]["conditions"] = [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        ]
        self._scale_up(pod)

    def _scale_up(self, pod: Json) -> None:
        """A node for it, unless it is one that the autoscaler makes no room for, or one is on its way for it."""
        coming = [n for n in self.objects["nodes"].values() if not self._is_up(n)]
        taken = {n["status"].get("for") for n in coming}
        name = pod["metadata"]["uid"]
        like = {"metadata": {"labels": dict(self.labels)}, "spec": {}, "status": {"allocatable": dict(self.size)}}
        good = self._suits(pod, like) and self._fits(pod, like, [])
        if good and name not in taken and len(self.objects["nodes"]) < self.most and self._priority(pod) >= -10:
            self.node(ready_in=self.boot_s)["status"]["for"] = name
            self.event(pod, "Pod", "TriggeredScaleUp", f"pod triggered scale-up: [{{nodes 0->1 (max: {self.most})}}]")

    def _scale_down(self) -> None:
        for uid, node in list(self.objects["nodes"].items()):
            name = node["metadata"]["name"]
            if self.pods_on(name) or not self._is_up(node):
                self._idle_since.pop(name, None)
            elif self.now() - self._idle_since.setdefault(name, self.now()) >= self.idle_s:
                del self.objects["nodes"][uid]

    def _bind(self, pod: Json, node: Json) -> None:
        pod["spec"]["nodeName"] = node["metadata"]["name"]
        begun: Json = {"startTime": stamp(self.now())}
        waiting = [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}}]
        placed = {"type": "PodScheduled", "status": "True", "lastTransitionTime": stamp(self.now())}
        begun |= {"conditions": [placed]}
        if self.pulls:
            image = pod["spec"]["containers"][0].get("image", "registry/etl:1")
            took = f"{self.pull_s:g}s ({self.pull_s:g}s including waiting). Image size: 1234 bytes."
            self.event(pod, "Pod", "Pulled", f'Successfully pulled image "{image}" in {took}')
        pod["status"] = (
            {"phase": "Running", **begun} if self.pulls else {"phase": "Pending", "containerStatuses": waiting, **begun}
        )
        self.bump(pod)

    # ---- inside

    def _is_up(self, node: Json) -> bool:
        return bool(node["status"]["readyAt"] <= self.now())

    def _suits(self, pod: Json, node: Json) -> bool:
        selector = pod["spec"].get("nodeSelector", {})
        if not selector.items() <= node["metadata"]["labels"].items() or node["spec"].get("unschedulable"):
            return False
        named = _named_nodes(pod)
        if named and node["metadata"].get("name") not in named:
            return False
        taints = (t for t in node["spec"].get("taints", ()) if t["effect"] in ("NoSchedule", "NoExecute"))
        return all(any(_bears(t, taint) for t in pod["spec"].get("tolerations", ())) for taint in taints)

    def _fits(self, pod: Json, node: Json, there: Sequence[Json]) -> bool:
        room = node["status"]["allocatable"]
        wanted = [requests(p) for p in (pod, *there)]
        return all(sum(w.get(k, 0.0) for w in wanted) <= quantity(room.get(k, "0")) for k in requests(pod))

    def _priority(self, pod: Json) -> int:
        name = pod["spec"].get("priorityClassName", "")
        classes = {c["metadata"]["name"]: c["value"] for c in self.objects["priorityclasses"].values()}
        return int(classes.get(name, 0))

    def _live(self) -> list[Json]:
        return [p for p in self.objects["pods"].values() if p["status"].get("phase") not in _OVER]

    def _pods_of_job(self, uid: str) -> list[Json]:
        refs = ((p, p["metadata"].get("ownerReferences") or ()) for p in self.objects["pods"].values())
        return [p for p, owners in refs if any(o["uid"] == uid for o in owners)]

    def _named(self, resource: str, namespace: str, name: str) -> Json | None:
        wanted = (namespace, name)
        found = (o for o in self.objects[resource].values())
        return next((o for o in found if (o["metadata"]["namespace"], o["metadata"]["name"]) == wanted), None)

    def bump(self, thing: Json) -> None:
        """It has changed."""
        thing["metadata"]["resourceVersion"] = str(next(self._versions))


def _named_nodes(pod: Json) -> set[str]:
    """Names that its node affinity requires; empty = any."""
    affinity = pod["spec"].get("affinity", {}).get("nodeAffinity", {})
    terms = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get("nodeSelectorTerms", ())
    fields = (f for t in terms for f in t.get("matchFields", ()))
    return {v for f in fields if (f["key"], f["operator"]) == ("metadata.name", "In") for v in f["values"]}


def _bears(toleration: Json, taint: Json) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return toleration.get("key") in (None, "", taint["key"])
    return (toleration.get("key"), toleration.get("value", "")) == (taint["key"], taint.get("value", ""))


def merged(thing: Json, patch: Json) -> Json:
    """A copy of it, with a merge patch in it."""
    out = json.loads(json.dumps(thing))
    _merge(out, patch)
    return dict(out)


def _merge(into: Json, patch: Json) -> None:
    for key, value in patch.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict):
            _merge(into.setdefault(key, {}), value)
        else:
            into[key] = value


def _pairs(selector: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in selector.split(",") if part)


def requests(pod: Json) -> dict[str, float]:
    """What it holds of its node: what it asks for or has, whichever is more, while it is being resized."""
    out: dict[str, float] = {}
    has = {s["name"]: s.get("resources", {}) for s in pod["status"].get("containerStatuses", ()) if "name" in s}
    for c in pod["spec"]["containers"]:
        now = has.get(c.get("name"), {}).get("requests", {})
        for name, text in c.get("resources", {}).get("requests", {}).items():
            out[name] = out.get(name, 0.0) + max(quantity(text), quantity(now.get(name, 0)))
    return out


def _seconds(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
