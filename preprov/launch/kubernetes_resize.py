"""Pods are resized in place: a patch of their `resize` subresource (Kubernetes 1.33 and newer).

Only what a container states already is changed, request and limit in their proportion, so that the pod's class of
service stays what it is: the server refuses anything else. What the kubelet cannot give, it says in a condition of the
pod; such a wish is taken back, so that nothing is granted later that nobody reckons with any more.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from preprov.model.adjusting import Adjustable
from preprov.model.errors import (
    ConflictError,
    NotAuthorisedError,
    NotFoundError,
    PoolError,
    RefusedError,
    ThrottledError,
)
from preprov.model.pools import Node
from preprov.model.quantity import quantity
from preprov.model.resources import Resources

_GIB: Final = 2.0**30
_ENDED: Final = ("Succeeded", "Failed")
_PLAIN: Final[Mapping[str, Any]] = {"_request_timeout": (5.0, 30.0), "_preload_content": False}
CAN: Final = Adjustable(
    running=frozenset({"cpu", "memory"}),
    pending=frozenset({"cpu", "memory"}),
    why_not="the API of a cluster sends no signals to containers, and lets a deadline be brought forward only",
)


@dataclass(frozen=True, slots=True)
class PodRef:
    """The container of a pod in which a task runs."""

    namespace: str
    name: str
    container: str


class KubernetesAdjuster:
    """A `ResourceAdjuster` of pods.

    Args:
        api: gives a `kubernetes.client.CoreV1Api`; its own retries are the only ones.
        locate: where a task runs; None = nowhere. Whoever makes the pods knows.
    """

    def __init__(self, api: Callable[[], Any], locate: Callable[[str, Node], PodRef | None]) -> None:
        self._api, self._locate = api, locate

    def adjustable(self, node: Node) -> Adjustable:
        """As the contract says."""
        return CAN

    def resize(self, claimant: str, node: Node, amount: Resources, lease_s: float) -> Resources:
        """As the contract says; it stands until it is changed again. A container keeps what it states nothing of."""
        ref, pod = self._pod(claimant, node)
        before = _stated(pod, ref)
        wanted = {"cpu": amount.cpu, "memory": amount.memory}
        told = self._patch(ref, node, _scaled(before, wanted))
        condition = _pending(told)
        if condition is not None:
            self._patch(ref, node, before)
            reason, said = condition
            if reason == "Infeasible":
                raise RefusedError(f"no room for it on its node: {said}", where=ref.name, hint="a larger node")
            raise ConflictError(f"no room for it now: {said}", where=ref.name, hint="try again")
        in_force = _in_force(told, ref)
        most = {k: max(v, in_force.get(k, 0.0)) for k, v in wanted.items()}
        return Resources.of({**amount.as_dict(), **most})

    def lift(self, claimant: str, node: Node) -> None:
        """Nothing: a pod has what was asked for last, and keeps it without us."""

    def checkpoint(self, claimant: str, node: Node, signal: str, grace_s: float) -> None:
        """Refused."""
        self._refuse("no signal can be sent", claimant, node)

    def extend(self, claimant: str, node: Node, seconds: float) -> None:
        """Refused."""
        self._refuse("a deadline cannot be put off", claimant, node)

    # ---- inside

    def _refuse(self, what: str, claimant: str, node: Node) -> None:
        ref = self._locate(claimant, node)
        if ref is None:
            raise NotFoundError("no pod runs it", where=node.node_id)
        raise RefusedError(f"{what}: {CAN.why_not}", where=ref.name, hint="leave activeDeadlineSeconds out of the Job")

    def _pod(self, claimant: str, node: Node) -> tuple[PodRef, Mapping[str, Any]]:
        ref = self._locate(claimant, node)
        if ref is None:
            raise NotFoundError("no pod runs it", where=node.node_id)
        read = self._api().read_namespaced_pod
        pod = self._asked(ref, lambda: read(ref.name, ref.namespace, **_PLAIN), {})
        if (pod.get("status") or {}).get("phase") in _ENDED:
            raise NotFoundError("its pod has ended", where=ref.name)
        return ref, pod

    def _patch(self, ref: PodRef, node: Node, resources: Mapping[str, Any]) -> Mapping[str, Any]:
        body = {"spec": {"containers": [{"name": ref.container, "resources": resources}]}}
        patch = self._api().patch_namespaced_pod_resize
        absent = {404: RefusedError("this cluster resizes no pods", where=ref.name, hint="Kubernetes 1.33 or newer")}
        return self._asked(ref, lambda: patch(ref.name, ref.namespace, body, **_PLAIN), absent)

    def _asked(self, ref: PodRef, call: Callable[[], Any], known: Mapping[int, PoolError]) -> Mapping[str, Any]:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            told = json.loads(call().data)  # as it stands, without a model made of it
        except ApiException as e:
            raise known.get(e.status or 0) or _refused(e.status or 0, str(e.body or e.reason)[:300], ref) from e
        except (HTTPError, OSError) as e:
            raise ThrottledError(f"no answer: {type(e).__name__}", where=ref.name, hint="is the server up?") from e
        except ValueError as e:
            raise ThrottledError(f"an answer that is no JSON: {e}", where=ref.name, hint="try again") from e
        return told if isinstance(told, dict) else {}


def _refused(status: int, said: str, ref: PodRef) -> PoolError:
    if status == 404:
        return NotFoundError("its pod is gone", where=ref.name)
    if status in (401, 403):
        hint = "a role that may patch pods/resize and get pods"
        return NotAuthorisedError(f"not allowed ({status})", where=ref.name, hint=hint)
    if status == 409:
        return ConflictError("the pod was changed meanwhile", where=ref.name, hint="try again")
    if status in (400, 422):
        return RefusedError(said, where=ref.name, hint="kubectl get pod -o yaml")
    return ThrottledError(f"refused for now ({status})", where=ref.name, hint="the next pass asks again")


def _container(pod: Mapping[str, Any], ref: PodRef) -> Mapping[str, Any]:
    for c in pod.get("spec", {}).get("containers") or ():
        if c.get("name") == ref.container:
            return dict(c)
    raise NotFoundError(f"its pod has no container {ref.container}", where=ref.name)


def _stated(pod: Mapping[str, Any], ref: PodRef) -> dict[str, dict[str, str]]:
    """What the container states of cores and memory: {"requests": {…}, "limits": {…}}."""
    told = _container(pod, ref).get("resources") or {}
    kept = {part: {k: str(v) for k, v in (told.get(part) or {}).items() if k in ("cpu", "memory")} for part in
            ("requests", "limits")}  # fmt: skip
    return {part: of for part, of in kept.items() if of}


def _scaled(before: Mapping[str, Mapping[str, str]], wanted: Mapping[str, float]) -> dict[str, dict[str, str]]:
    """The same fields with the request as wanted; a limit above its request stays as many times above it."""
    out: dict[str, dict[str, str]] = {part: {} for part in before}
    for part, of in before.items():
        for k, text in of.items():
            request = quantity(before.get("requests", {}).get(k, text))
            factor = quantity(text) / request if request > 0 else 1.0
            out[part][k] = _written(k, wanted[k] * factor)
    return out


def _written(resource: str, amount: float) -> str:
    """Millicores, or bytes."""
    return f"{max(round(amount * 1000), 1)}m" if resource == "cpu" else str(round(amount * _GIB))


def _pending(pod: Mapping[str, Any]) -> tuple[str, str] | None:
    """(reason, message) if the kubelet does not resize it."""
    for c in (pod.get("status") or {}).get("conditions") or ():
        if c.get("type") == "PodResizePending" and c.get("status") == "True":
            return str(c.get("reason")), str(c.get("message") or "")
    return None


def _in_force(pod: Mapping[str, Any], ref: PodRef) -> dict[str, float]:
    """What the kubelet says the container has: cores and GiB."""
    for c in (pod.get("status") or {}).get("containerStatuses") or ():
        if c.get("name") == ref.container:
            told = (c.get("resources") or {}).get("requests") or {}
            amounts = {k: quantity(v) / (_GIB if k == "memory" else 1.0) for k, v in told.items()}
            return {k: v for k, v in amounts.items() if v == v}
    return {}
