"""Whether a cluster can be used, in plain words; nothing is written."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from preprov.contracts import Finding
from preprov.kube.api import Cluster
from preprov.model.errors import PreprovError
from preprov.pools.kubernetes.options import KubernetesGroup
from preprov.pools.kubernetes.rights import Rule
from preprov.pools.kubernetes.ways import Way

_PRINT: Final = "`preprov kubernetes manifests` prints what it needs"


def examine(
    group: KubernetesGroup, way: Way[Any], rules: Iterable[Rule], opened: Callable[[KubernetesGroup], Cluster]
) -> tuple[Finding, ...]:
    """The address, each right, and what the group's way needs beside."""
    try:
        cluster = opened(group)
        found = [Finding(f"{group.group.name}: cluster", "ok", f"Kubernetes {cluster.version()}")]
        found += _rights(group, rules, cluster)
        if not any(f.state == "bad" for f in found):
            found += way.examine()
    except PreprovError as e:
        return (Finding(f"{group.group.name}: cluster", "bad", f"{e.what} ({e.where})", e.hint),)
    return tuple(found)


def _rights(group: KubernetesGroup, rules: Iterable[Rule], cluster: Cluster) -> Iterator[Finding]:
    for own, api, resource, verbs in rules:
        namespace = group.namespace if own else ""
        lacking = [v for v in verbs if not cluster.may(v, api, resource, namespace)]
        what = f"{group.group.name}: {resource}"
        if lacking:
            yield Finding(what, "bad", f"may not {', '.join(lacking)}", _PRINT)
        else:
            yield Finding(what, "ok", f"may {', '.join(verbs)}")
