"""What a Kubernetes cluster lets us see, and what it does not, in plain words."""

from collections.abc import Iterator
from itertools import islice
from typing import Final

from preprov.contracts import Finding
from preprov.model.errors import PreprovError
from preprov.sources.kubernetes.client import KubernetesClient
from preprov.sources.releases import release_finding
from preprov.sources.skew import clock_finding

_LEAST: Final = "1.21"
"""The first that has CronJobs in `batch/v1`."""
_RIGHTS: Final = (("batch", "jobs"), ("batch", "cronjobs"), ("", "pods"))
_FOLLOWED: Final = (("batch", "jobs"), ("", "pods"))
_KUEUE: Final = ("kueue.x-k8s.io", "workloads")
_CLASSES: Final = ("scheduling.k8s.io", "priorityclasses")
_MOST: Final = 2_000


def examine(client: KubernetesClient) -> tuple[Finding, ...]:
    """Ask for a little of everything; stops where nothing further can be said."""
    try:
        version = client.version()
        found = [Finding("address", "ok", client.where), release_finding("Kubernetes", version, _LEAST)]
        found.append(clock_finding(client.clock.ahead_s))
        found += [_right(client, *right) for right in _RIGHTS]
        if any(f.state == "bad" for f in found):
            return tuple(found)
        found.append(_changes(client))
        found.append(_counted("jobs", client.jobs()))
        found.append(_counted("cron jobs", client.cron_jobs()))
        found.append(_priorities(client))
        found.append(_kueue(client))
    except PreprovError as e:
        return (Finding("address", "bad", f"{e.what} ({e.where})", e.hint or "`kubectl version`"),)
    return tuple(found)


def _right(client: KubernetesClient, group: str, resource: str) -> Finding:
    lacking = [n or "all namespaces" for n in client.namespaces or ("",) if not client.may("list", group, resource, n)]
    name = f"list {resource}"
    if not lacking:
        return Finding(name, "ok", f"in {', '.join(client.namespaces) or 'all namespaces'}")
    rule = f'a (Cluster)Role with apiGroups: ["{group}"], resources: ["{resource}"], verbs: ["list"]'
    return Finding(name, "bad", f"not allowed in {', '.join(lacking)}", rule)


def _changes(client: KubernetesClient) -> Finding:
    lacking = [r for g, r in _FOLLOWED if not all(client.may("watch", g, r, n) for n in client.namespaces or ("",))]
    if lacking:
        text = f"no right to watch {' and '.join(lacking)}: every pass lists everything"
        return Finding("changes", "ok", text)
    return Finding("changes", "ok", "may be watched: between whole lists only they are read")


def _counted(what: str, items: Iterator[object]) -> Finding:
    number = sum(1 for _ in islice(items, _MOST))
    return Finding(what, "ok", f"{number}{' and more' if number == _MOST else ''} to be seen")


def _priorities(client: KubernetesClient) -> Finding:
    name = "priority classes"
    if not client.may("list", *_CLASSES):
        return Finding(name, "ok", "not read: a Job has priority 0 until it has pods")
    return Finding(name, "ok", f"{sum(1 for _ in client.priority_classes())} to be seen")


def _kueue(client: KubernetesClient) -> Finding:
    version = client.kueue()
    if not version:
        return Finding("Kueue", "ok", "is not installed")
    if not client.may("list", *_KUEUE):
        return Finding("Kueue", "ok", f"{version}, not read: suspended Jobs are taken to wait for a quota")
    return Finding("Kueue", "ok", f"{version}: its workloads are read")
