"""How the fake cluster evicts: a PodDisruptionBudget that allows nothing more refuses, as the API server does.

What is evicted is made again by its controller, as a pod that has still to find a node.
"""

import json
from collections.abc import Iterator
from typing import Any, Protocol

from preprov.testing.fake_kubernetes import Json, status


class Cluster(Protocol):
    """What of a fake cluster is used here."""

    objects: dict[str, dict[str, Json]]

    def add(
        self, resource: str, name: str, body: Json, *, namespace: str = "default", owner: Json | None = None
    ) -> Json:
        """Create an object; returns it."""
        ...

    def bump(self, thing: Json) -> None:
        """It has changed."""
        ...

    def settle(self) -> None:
        """Everything that has to happen by now."""
        ...


def budget(fake: Cluster, name: str, labels: dict[str, str], least: int, namespace: str = "work") -> Json:
    """A PodDisruptionBudget: at least so many of the pods with these labels have to run."""
    body = {"spec": {"minAvailable": least, "selector": {"matchLabels": labels}}}
    made = fake.add("poddisruptionbudgets", name, body, namespace=namespace)
    fake.bump(made)
    return made


def service(fake: Cluster, name: str, labels: dict[str, str], kind: str = "ReplicaSet", **spec: Any) -> Json:
    """A pod that a controller would make again."""
    requests = {"cpu": "1", "memory": "1Gi"}
    body = {"spec": {"containers": [{"name": "main", "resources": {"requests": requests}}], **spec}, "labels": labels}
    owner = {"kind": kind, "name": name.rsplit("-", 1)[0], "uid": f"owner-{name}"}
    made = fake.add("pods", name, body, namespace="work", owner=owner)
    made["status"] = {"phase": "Pending"}
    fake.bump(made)
    fake.settle()
    return made


def evicted(fake: Cluster, pod: Json | None, body: Json) -> tuple[int, Json]:
    """The answer to an Eviction."""
    if pod is None:
        return 404, status(404, "NotFound") | {"message": "pods not found"}
    wanted = ((body.get("deleteOptions") or {}).get("preconditions") or {}).get("uid")
    if wanted not in (None, pod["metadata"]["uid"]):
        return 409, status(409, "Conflict") | {"message": "the UID in the precondition does not match"}
    mine = list(_budgets(fake, pod))
    if len(mine) > 1:
        return 500, status(500, "InternalError") | {"message": "This pod has more than one PodDisruptionBudget"}
    for one in mine:
        if _allowed(fake, one) < 1:
            why = "Cannot evict pod as it would violate the pod's disruption budget."
            cause = {"reason": "DisruptionBudget", "message": f"The disruption budget {one['metadata']['name']} needs"}
            return 429, status(429, "TooManyRequests") | {"message": why, "details": {"causes": [cause]}}
    _replace(fake, pod)
    return 201, {"kind": "Status", "status": "Success"}


def _budgets(fake: Cluster, pod: Json) -> Iterator[Json]:
    for one in fake.objects["poddisruptionbudgets"].values():
        if one["metadata"]["namespace"] == pod["metadata"]["namespace"] and _covers(one, pod):
            yield one


def _covers(one: Json, pod: Json) -> bool:
    wanted = one["spec"]["selector"]["matchLabels"]
    return bool(wanted.items() <= pod["metadata"]["labels"].items())


def _allowed(fake: Cluster, one: Json) -> int:
    healthy = sum(_covers(one, p) and p["status"].get("phase") == "Running" for p in fake.objects["pods"].values())
    one["status"] = {"disruptionsAllowed": max(healthy - one["spec"]["minAvailable"], 0), "currentHealthy": healthy}
    return int(one["status"]["disruptionsAllowed"])


def _replace(fake: Cluster, pod: Json) -> None:
    meta = pod["metadata"]
    del fake.objects["pods"][meta["uid"]]
    owners = meta.get("ownerReferences") or ()
    if owners and owners[0]["kind"] != "Job":
        spec = {k: v for k, v in json.loads(json.dumps(pod["spec"])).items() if k != "nodeName"}
        body = {"spec": spec, "labels": dict(meta["labels"])}
        made = fake.add("pods", f"{meta['name']}x", body, namespace=meta["namespace"], owner=dict(owners[0]))
        made["status"] = {"phase": "Pending"}
        fake.bump(made)
    fake.settle()
