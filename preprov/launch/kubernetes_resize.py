"""Pods are resized in place: a patch of their `resize` subresource (Kubernetes 1.33 and newer).

Only what a container states already is changed, so that the pod's class of service stays what it is: the server refuses
anything else. Memory is taken from the request alone, which is what a cluster reckons with: a limit below what a task
comes to use would kill it, and older clusters lower none. The server answers before the kubelet has looked; what that
makes of it stands in the pod's status afterwards, and is read with everything else that is read of pods.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from preprov.kube.api import Json
from preprov.kube.reading import annotations
from preprov.model.adjusting import Adjustable
from preprov.model.agent import Bounds, Underway
from preprov.model.errors import (
    ConflictError,
    NotAuthorisedError,
    NotFoundError,
    PoolError,
    RefusedError,
    ThrottledError,
)
from preprov.model.nodes import Node
from preprov.model.quantity import quantity
from preprov.model.resources import Resources

_GIB: Final = 2.0**30
_PARTS: Final = ("requests", "limits")
_ENDED: Final = ("Succeeded", "Failed")
_PLAIN: Final[Mapping[str, Any]] = {"_request_timeout": (5.0, 30.0), "_preload_content": False}
CAN: Final = Adjustable(
    running=frozenset({"cpu", "memory"}),
    pending=frozenset({"cpu", "memory"}),
    lasts=True,
    why_not="the API of a cluster sends no signals to containers, and lets a deadline be brought forward only",
)


ASKED: Final = "preprov.io/asked"
"""Annotation of a pod: the resources that its task's container was started with."""
_RESIZES: Final = 33
"""Minor version: the first that resizes pods."""


@dataclass(frozen=True, slots=True)
class PodRef:
    """The container of a pod in which a task runs; the pod as it was read just now."""

    pod: Json
    container: str

    @property
    def name(self) -> str:
        """Of the pod."""
        return str(self.pod["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """Of the pod."""
        return str(self.pod["metadata"]["namespace"])


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
        ref = self._pod(claimant, node)
        before = _stated(ref)
        wanted = {"cpu": amount.cpu, "memory": amount.memory}
        self._patch(ref, before, _scaled(before, wanted))
        has = _in_force(ref)
        most = {k: max(v, has.get(k, 0.0)) for k, v in wanted.items()}
        return Resources.of({**amount.as_dict(), **most})

    def lift(self, claimant: str, node: Node) -> None:
        """As the contract says: what was lowered is as it was asked for again; what was raised stays."""
        ref = self._locate(claimant, node)
        if ref is None or _over(ref):
            return
        before, began = _stated(ref), _began_with(ref)
        after = {p: {k: _more(v, began.get(p, {}).get(k)) for k, v in of.items()} for p, of in before.items()}
        self._patch(ref, before, after)

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

    def _pod(self, claimant: str, node: Node) -> PodRef:
        ref = self._locate(claimant, node)
        if ref is None:
            raise NotFoundError("no pod runs it", where=node.node_id)
        if _over(ref):
            raise NotFoundError("its pod has ended", where=ref.name)
        return ref

    def _patch(self, ref: PodRef, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """Ask for it, unless it is asked for already."""
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        if _amounts(before) == _amounts(after):
            return
        body = {"spec": {"containers": [{"name": ref.container, "resources": after}]}}
        patch = self._api().patch_namespaced_pod_resize
        try:
            patch(ref.name, ref.namespace, body, **_PLAIN)
        except ApiException as e:
            raise _refused(e.status or 0, e.body or e.reason, ref) from e
        except (HTTPError, OSError) as e:
            raise ThrottledError(f"no answer: {type(e).__name__}", where=ref.name, hint="is the server up?") from e


def _refused(status: int, body: Any, ref: PodRef) -> PoolError:
    told = _told(body)
    if status == 404 and (told.get("details") or {}).get("name") == ref.name:  # else it is the server that has no such
        return NotFoundError("its pod is gone", where=ref.name)
    if status == 404:
        return RefusedError("this cluster resizes no pods", where=ref.name, hint="Kubernetes 1.33 or newer")
    if status == 403 and "quota" in str(told.get("message")):
        hint = "the ResourceQuota of its namespace"
        return ConflictError(f"refused for now: {told['message']}"[:300], where=ref.name, hint=hint)
    if status in (401, 403):
        hint = "a role that may patch pods/resize: `preprov kubernetes manifests`"
        return NotAuthorisedError(f"not allowed ({status})", where=ref.name, hint=hint)
    if status == 409:
        return ConflictError("the pod was changed meanwhile", where=ref.name, hint="try again")
    if status in (400, 422):
        return RefusedError(str(told.get("message") or status)[:300], where=ref.name, hint="kubectl get pod -o yaml")
    return ThrottledError(f"refused for now ({status})", where=ref.name, hint="the next pass asks again")


def _told(body: Any) -> Mapping[str, Any]:
    """The server's Status, as far as it is one."""
    try:
        told = json.loads(body)
    except (ValueError, TypeError):
        return {}
    return told if isinstance(told, dict) else {}


# ---- what a pod says


def bounds(ref: PodRef, minor: int) -> Bounds:
    """What its container has, what can be changed of that, and what was asked for and is not in force.

    Args:
        minor: the cluster's version is 1.so much.
    """
    asked, has = _requests(ref), _in_force(ref)
    stated, began = _amounts(_stated(ref)), _amounts(_began_with(ref))
    can = tuple(sorted(CAN.running & asked.keys())) if minor >= _RESIZES else ()
    return Bounds(
        cpu=has.get("cpu"),
        memory=has.get("memory"),
        can=can,
        free=all(stated.get(k, amount) >= amount for k, amount in began.items()),
        underway=_underway(ref, asked, has),
    )


def minor_of(version: str) -> int:
    """33 of `v1.33.2-gke.100`; 0 of what is no version."""
    found = re.match(r"v?1\.(\d+)", version)
    return int(found[1]) if found else 0


def _underway(ref: PodRef, asked: Mapping[str, float], has: Mapping[str, float]) -> Underway | None:
    for kind, reason, why in _conditions(ref):
        if kind == "PodResizePending" or (kind == "PodResizeInProgress" and reason == "Error"):
            return Underway(asked.get("cpu"), asked.get("memory"), f"{reason}: {why}", reason == "Deferred")
    same = all(abs(has[k] - v) <= 0.01 * v for k, v in asked.items())
    return None if same else Underway(asked.get("cpu"), asked.get("memory"))


def _conditions(ref: PodRef) -> list[tuple[str, str, str]]:
    """(type, reason, message) of those that hold, and are not of what was asked for before."""
    newest = ref.pod["metadata"].get("generation", 0)
    told = ((ref.pod.get("status") or {}).get("conditions")) or ()
    now = [c for c in told if c.get("status") == "True" and c.get("observedGeneration", newest) >= newest]
    return [(str(c.get("type")), str(c.get("reason") or ""), str(c.get("message") or "")) for c in now]


def _over(ref: PodRef) -> bool:
    return (ref.pod.get("status") or {}).get("phase") in _ENDED


def _stated(ref: PodRef) -> dict[str, dict[str, str]]:
    """What the container states of cores and memory: {"requests": {…}, "limits": {…}}."""
    for c in ref.pod.get("spec", {}).get("containers") or ():
        if c.get("name") == ref.container:
            return _kept(c.get("resources") or {})
    raise NotFoundError(f"its pod has no container {ref.container}", where=ref.name)


def _began_with(ref: PodRef) -> dict[str, dict[str, str]]:
    try:
        told = json.loads(annotations(ref.pod).get(ASKED) or "{}")
    except ValueError:
        return {}
    return _kept(told) if isinstance(told, dict) else {}


def _kept(resources: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    parts = {p: {k: str(v) for k, v in (resources.get(p) or {}).items() if k in ("cpu", "memory")} for p in _PARTS}
    return {part: of for part, of in parts.items() if of}


def _amounts(resources: Mapping[str, Mapping[str, str]]) -> dict[tuple[str, str], float]:
    return {(part, k): quantity(v) for part, of in resources.items() for k, v in of.items()}


def _requests(ref: PodRef) -> dict[str, float]:
    """Cores and GiB that are asked for."""
    return _plain(_stated(ref).get("requests", {}))


def _in_force(ref: PodRef) -> dict[str, float]:
    """Cores and GiB that the kubelet says it has; as asked where it says nothing of them."""
    for c in (ref.pod.get("status") or {}).get("containerStatuses") or ():
        if c.get("name") == ref.container:
            return {**_requests(ref), **_plain((c.get("resources") or {}).get("requests") or {})}
    return _requests(ref)


def _plain(requests: Mapping[str, Any]) -> dict[str, float]:
    amounts = {k: quantity(v) / (_GIB if k == "memory" else 1.0) for k, v in requests.items() if k in ("cpu", "memory")}
    return {k: v for k, v in amounts.items() if v == v}


def _scaled(before: Mapping[str, Mapping[str, str]], wanted: Mapping[str, float]) -> dict[str, dict[str, str]]:
    """The same fields with the request as wanted.

    A limit above its request stays as many times above it. One of memory is as high as it was, or as its request if
    that is more; but where all is guaranteed it goes with it.
    """
    requests, limits = before.get("requests", {}), before.get("limits", {})
    sure = {"cpu", "memory"} <= limits.keys() and all(_same(requests.get(k, v), v) for k, v in limits.items())
    out: dict[str, dict[str, str]] = {part: {} for part in before}
    for part, of in before.items():
        for k, text in of.items():
            request = quantity(requests.get(k, text))
            factor = quantity(text) / request if request > 0 else 1.0
            if part == "limits" and k == "memory" and not sure:
                out[part][k] = _more(text, _written(k, wanted[k]))
            else:
                out[part][k] = _written(k, wanted[k] * factor)
    return out


def _same(one: str, other: str) -> bool:
    return quantity(one) == quantity(other)


def _written(resource: str, amount: float) -> str:
    """Millicores, or bytes."""
    return f"{max(round(amount * 1000), 1)}m" if resource == "cpu" else str(round(amount * _GIB))


def _more(now: str, then: str | None) -> str:
    return then if then is not None and quantity(then) > quantity(now) else now
