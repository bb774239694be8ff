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
    (True, "", "pods", ("get",)),
    (True, "", "pods/log", ("get",)),
    (True, "", "pods/resize", ("patch",)),
    (True, "metrics.k8s.io", "pods", ("list",)),
)
"""Of a group in which preprov starts tasks."""
_GROUP: Final = "rbac.authorization.k8s.io"


def account(namespace: str, name: str = MANAGER) -> Json:
    """A service account."""
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}


def roles(rules: Iterable[Rule], namespace: str, account: str) -> list[Json]:
    """The roles of these rules, bound to the account; none where it needs nothing."""
    rules = tuple(rules)
    return [thing for own in (True, False) for thing in _roles(rules, namespace, account, own=own)]


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
