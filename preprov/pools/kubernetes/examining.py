"""Whether a cluster can be used, in plain words; nothing is written."""

from collections.abc import Callable, Iterator
from typing import Final

from preprov.contracts import Finding
from preprov.model.errors import NotFoundError, PreprovError
from preprov.pools.kubernetes.api import Cluster
from preprov.pools.kubernetes.manifests import RULES
from preprov.pools.kubernetes.options import KubernetesGroup

_PRINT: Final = "`preprov kubernetes manifests` prints what it needs"


def examine(group: KubernetesGroup, opened: Callable[[KubernetesGroup], Cluster]) -> tuple[Finding, ...]:
    """The address, each right, and the priority class."""
    try:
        cluster = opened(group)
        found = [Finding(f"{group.group.name}: cluster", "ok", f"Kubernetes {cluster.version()}")]
        found += _rights(group, cluster)
        if not any(f.state == "bad" for f in found):
            found.append(_priority(group, cluster))
    except PreprovError as e:
        return (Finding(f"{group.group.name}: cluster", "bad", f"{e.what} ({e.where})", e.hint),)
    return tuple(found)


def _rights(group: KubernetesGroup, cluster: Cluster) -> Iterator[Finding]:
    for own, api, resource, verbs in RULES:
        namespace = group.namespace if own else ""
        lacking = [v for v in verbs if not cluster.may(v, api, resource, namespace)]
        what = f"{group.group.name}: {resource}"
        if lacking:
            yield Finding(what, "bad", f"may not {', '.join(lacking)}", _PRINT)
        else:
            yield Finding(what, "ok", f"may {', '.join(verbs)}")


def _priority(group: KubernetesGroup, cluster: Cluster) -> Finding:
    what = f"{group.group.name}: priority class"
    try:
        value = cluster.priority(group.priority_class)
    except NotFoundError:
        return Finding(what, "bad", f"there is no {group.priority_class}", _PRINT)
    if value >= 0:
        hint = "everything else has to be above it, and pods without a class have 0"
        return Finding(what, "bad", f"{group.priority_class} is {value}: real work could not evict it", hint)
    if value < -10:
        hint = "the cluster autoscaler makes no room for what is below -10, unless told otherwise"
        return Finding(what, "warn", f"{group.priority_class} is {value}", hint)
    return Finding(what, "ok", f"{group.priority_class} is {value}")
