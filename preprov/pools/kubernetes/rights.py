"""What an account may do: the least that each way needs."""

from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from preprov.kube.api import Json
from preprov.kube.labels import MANAGER

Rule: TypeAlias = tuple[bool, str, str, tuple[str, ...]]
"""(in the group's own namespace only, API group, resource, verbs)."""

MOVES: Final[Rule] = (False, "", "pods/eviction", ("create",))
"""Of a group that moves services off the nodes that it drains."""
TASKS: Final[tuple[Rule, ...]] = (
    (True, "batch", "jobs", ("create", "list", "patch")),
    (True, "", "pods", ("list",)),
    (True, "", "pods/log", ("get",)),
    (True, "metrics.k8s.io", "pods", ("list",)),
    (False, "", "nodes", ("list",)),
)
"""Of a group in which preprov starts tasks: all that its scheduler asks for, whatever way the room comes."""
ADJUSTS: Final[Rule] = (True, "", "pods/resize", ("patch",))
"""Of one whose tasks are adjusted while they run."""
_GROUP: Final = "rbac.authorization.k8s.io"


def together(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """The same rights, each said once: what may be done everywhere is not asked for in one namespace too."""
    verbs: dict[tuple[bool, str, str], dict[str, None]] = {}
    for own, api, resource, some in rules:
        verbs.setdefault((own, api, resource), {}).update(dict.fromkeys(some))
    wide = {(api, resource): some for (own, api, resource), some in verbs.items() if not own}
    least = {
        (own, api, resource): tuple(v for v in some if not (own and v in wide.get((api, resource), {})))
        for (own, api, resource), some in verbs.items()
    }
    return tuple((*what, some) for what, some in least.items() if some)


def account(namespace: str, name: str = MANAGER) -> Json:
    """A service account."""
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}


def roles(rules: Iterable[Rule], namespace: str, account: str) -> list[Json]:
    """The roles of these rules, bound to the account; none where it needs nothing."""
    rules = tuple(rules)
    return [thing for own in (True, False) for thing in _roles(rules, namespace, account, own=own)]


def listed(things: Iterable[Json]) -> list[Json]:
    """Each thing once, to be applied together: roles and bindings of one name grant what each of them does."""
    out: dict[tuple[str, str, str], Json] = {}
    for thing in things:
        meta = thing["metadata"]
        key = (thing["kind"], meta.get("namespace", ""), meta["name"])
        known = out.setdefault(key, thing)
        more = {k: [*v, *(t for t in thing[k] if t not in v)] for k in ("rules", "subjects") if (v := known.get(k))}
        out[key] = {**known, **more}
    return list(out.values())


def _roles(rules: tuple[Rule, ...], namespace: str, account: str, *, own: bool) -> list[Json]:
    kind = "Role" if own else "ClusterRole"
    place: Mapping[str, str] = {"namespace": namespace} if own else {}
    mine = [
        {"apiGroups": [api], "resources": [resource], "verbs": list(verbs)}
        for here, api, resource, verbs in rules
        if here is own
    ]
    subject = {"kind": "ServiceAccount", "name": account, "namespace": namespace}
    if not mine:
        return []
    return [
        {"apiVersion": f"{_GROUP}/v1", "kind": kind, "metadata": {"name": account, **place}, "rules": mine},
        {
            "apiVersion": f"{_GROUP}/v1",
            "kind": f"{kind}Binding",
            "metadata": {"name": account, **place},
            "roleRef": {"apiGroup": _GROUP, "kind": kind, "name": account},
            "subjects": [subject],
        },
    ]
