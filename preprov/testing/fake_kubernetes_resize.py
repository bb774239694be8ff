"""How the fake cluster resizes pods in place, as Kubernetes 1.33 and newer do: what is refused, and what is put off."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from preprov.model.quantity import quantity

if TYPE_CHECKING:
    from preprov.testing.fake_kubernetes import FakeKubernetes

Json = dict[str, Any]


def status(code: int, reason: str, message: str = "") -> tuple[int, Json]:
    """As it says no."""
    told = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message or reason}
    return code, told


def resized(fake: "FakeKubernetes", pod: Json, body: Mapping[str, Any]) -> tuple[int, Json]:
    """A strategic merge patch of the subresource: containers are told apart by their names."""
    if fake.minor < 33:
        return status(404, "NotFound", "the server could not find the requested resource")
    if ("", "pods/resize") not in fake.rights:
        return status(403, "Forbidden")
    if pod["status"].get("phase") in ("Succeeded", "Failed"):
        return status(422, "Invalid", "a terminated pod cannot be resized")
    after = {c["name"]: c for c in body["spec"]["containers"]}
    containers = [{**c, "resources": _merged(c.get("resources", {}), after.get(c["name"], {}))} for c in
                  pod["spec"]["containers"]]  # fmt: skip
    why = _invalid(pod["spec"]["containers"], containers, lowers=fake.minor >= 34)
    if why:
        return status(422, "Invalid", why)
    pod["spec"] = {**pod["spec"], "containers": containers}
    fake.resize_asked(pod)
    return 200, {"kind": "Pod", "apiVersion": "v1", **pod}


def _merged(before: Mapping[str, Any], patch: Mapping[str, Any]) -> Json:
    told = patch.get("resources", {})
    return {part: {**before.get(part, {}), **told.get(part, {})} for part in ("requests", "limits")
            if before.get(part) or told.get(part)}  # fmt: skip


def _invalid(before: list[Json], after: list[Json], *, lowers: bool) -> str:
    if _class(before) != _class(after):
        return "Pod QOS Class may not change as a result of resizing"
    for old, new in zip(before, after, strict=True):
        was, now = (c.get("resources", {}).get("limits", {}).get("memory") for c in (old, new))
        if not lowers and was is not None and now is not None and quantity(now) < quantity(was):
            return "memory limits cannot be decreased unless the container restarts"
        for k, limit in new.get("resources", {}).get("limits", {}).items():
            if quantity(new["resources"].get("requests", {}).get(k, limit)) > quantity(limit) * 1.000001:
                return f"{k} request must be less than or equal to its limit"
    return ""


def _class(containers: list[Json]) -> str:
    told = [c.get("resources", {}) for c in containers]
    if not any(r.get("requests") or r.get("limits") for r in told):
        return "BestEffort"
    for r in told:
        limits, requests = r.get("limits", {}), {**r.get("limits", {}), **r.get("requests", {})}
        if set(limits) < {"cpu", "memory"} or any(quantity(requests[k]) != quantity(limits[k]) for k in limits):
            return "Burstable"
    return "Guaranteed"


def at_once(fake: "FakeKubernetes", pod: Json) -> None:
    """What a kubelet does: gives it, puts it off until there is room, or says that there never will be."""
    asked = {k: sum(quantity(c["resources"].get("requests", {}).get(k, 0)) for c in pod["spec"]["containers"])
             for k in ("cpu", "memory")}  # fmt: skip
    conditions = [c for c in pod["status"].get("conditions", []) if c["type"] != "PodResizePending"]
    reason = ""
    if any(asked[k] > fake.node_has[k] for k in asked):
        reason = "Infeasible"
    elif any(asked[k] > fake.node_has[k] - fake.node_used[k] for k in asked):
        reason = "Deferred"
    if reason:
        said = f"Node didn't have {'capacity' if reason == 'Infeasible' else 'enough resource'}: {asked}"
        conditions.append({"type": "PodResizePending", "status": "True", "reason": reason, "message": said})
    else:
        pod["status"]["containerStatuses"] = [
            {**s, "name": c["name"], "resources": c["resources"]}
            for s, c in zip(_statuses(pod), pod["spec"]["containers"], strict=False)
        ]
    pod["status"]["conditions"] = conditions


def _statuses(pod: Json) -> list[Json]:
    told = pod["status"].get("containerStatuses") or []
    blank = {"ready": True, "restartCount": 0, "image": "", "imageID": "", "state": {}}
    return [{**blank, **s} for s in [*told, *[{}] * (len(pod["spec"]["containers"]) - len(told))]]
