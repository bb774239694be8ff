"""The rest of runs of which only a part is known: Jobs and pods are asked for by name, or a namespace at a time."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from preprov.sources.kubernetes.client import KubernetesClient
from preprov.sources.kubernetes.objects import group_of, job_of, run_id
from preprov.sources.kubernetes.reading import of, owners

Json: TypeAlias = Mapping[str, Any]

_ONE_BY_ONE: Final = 10
"""Of a namespace in which more runs than this lack something, everything is listed."""


@dataclass(frozen=True)
class Lacking:
    """What has to be asked for. job: name of the Job; "" = the run has none. alone: its one pod is known already."""

    namespace: str
    job: str = ""
    alone: bool = False


def lacking(kind: str, key: str, thing: Json) -> Lacking:
    """What a run of this key lacks, of which one object is known."""
    meta = of(thing, "metadata")
    namespace = str(meta.get("namespace") or "default")
    if kind == "job":
        return Lacking(namespace, str(meta.get("name")))
    if key.startswith("job:"):
        return Lacking(namespace, next((str(o.get("name")) for o in owners(meta) if o.get("kind") == "Job"), ""))
    return Lacking(namespace, alone=key == run_id(meta))


def rest(cluster: KubernetesClient, wanted: Mapping[str, Lacking]) -> Iterator[tuple[str, Json]]:
    """("job" or "pod", object) of these runs by their keys; some may be known already.

    Raises:
        SourceError: they could not be asked for.
    """
    spaces: dict[str, list[str]] = {}
    for key, lack in wanted.items():
        if not lack.alone:
            spaces.setdefault(lack.namespace, []).append(key)
    for namespace, keys in sorted(spaces.items()):
        jobs = [k for k in keys if wanted[k].job]
        groups = len(jobs) < len(keys)
        if groups or len(jobs) > _ONE_BY_ONE:
            asked: Iterator[tuple[str, Json]] = _all(cluster, namespace, jobs=bool(jobs))
        else:
            asked = _named(cluster, namespace, sorted({wanted[k].job for k in jobs}))
        yield from ((kind, thing) for kind, thing in asked if _key(kind, thing) in keys)


def _all(cluster: KubernetesClient, namespace: str, *, jobs: bool) -> Iterator[tuple[str, Json]]:
    for kind in ("job", "pod") if jobs else ("pod",):
        yield from ((kind, thing) for thing in cluster.some(kind, namespace))


def _named(cluster: KubernetesClient, namespace: str, names: list[str]) -> Iterator[tuple[str, Json]]:
    for name in names:
        for job in cluster.some("job", namespace, field_selector=f"metadata.name={name}"):
            yield "job", job
            labels = of(of(of(job, "spec"), "selector"), "matchLabels") or {"job-name": name}
            selector = ",".join(f"{k}={v}" for k, v in sorted(labels.items()))
            yield from (("pod", pod) for pod in cluster.some("pod", namespace, label_selector=selector))


def _key(kind: str, thing: Json) -> str:
    if kind == "job":
        return f"job:{of(thing, 'metadata').get('uid')}"
    job = job_of(thing)
    return f"job:{job}" if job else group_of(thing)
