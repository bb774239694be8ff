"""Jobs and pods as runs with tasks: what there is of each, and what has become of it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from preprov.model.signature import Signature
from preprov.model.signature_sources import kubernetes as traits_of
from preprov.sources.instants import seconds
from preprov.sources.kubernetes.quantities import requests

Json: TypeAlias = Mapping[str, Any]

_KEEP_RUNNING: Final = frozenset(
    {"ReplicaSet", "ReplicationController", "DaemonSet", "StatefulSet", "Node", "Deployment"}
)
"""Owners whose pods never end by themselves: services, not work."""
MOST_TASKS: Final = 1_000
"""Of a Job; of one with more completions each task has several instances."""
QUEUE_LABEL: Final = "kueue.x-k8s.io/queue-name"
_INDEX: Final = "batch.kubernetes.io/job-completion-index"
_TURN: Final = "batch.kubernetes.io/cronjob-scheduled-timestamp"


@dataclass(slots=True)
class Step:
    """One task of a run; times in epoch seconds, None = has not come."""

    name: str
    signature: str
    cpu: float
    memory: float
    gpu: float
    instances: int = 1
    ready_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    hint_s: float | None = None


@dataclass(slots=True)
class Found:
    """One run: a Job, or pods that belong together.

    Attributes:
        cron: name of its CronJob as a DAG, "" if none made it. turn: for which turn.
        waits: it is suspended, or waits for a quota: no node would help it.
        abreast: how many of its tasks may run at once; 0 = all.
    """

    run_id: str
    dag_id: str
    namespace: str
    priority: int
    submit: float
    queue: str
    cron: str = ""
    turn: float | None = None
    waits: bool = False
    over: bool = False
    abreast: int = 0
    steps: list[Step] = field(default_factory=list)


def instant(text: object) -> float | None:
    """Epoch seconds of an RFC 3339 time; None if it is none."""
    at = seconds(text)
    return None if math.isnan(at) else at


def of_job(job: Json, pods: Sequence[Json], *, admitted: bool | None = None) -> Found | None:
    """A Job with its pods; None if it says too little of itself.

    Args:
        job: as listed. pods: that it made.
        admitted: whether Kueue has set a quota aside for it; None = Kueue does not know it.
    """
    meta, spec, status = _of(job, "metadata"), _of(job, "spec"), _of(job, "status")
    created = instant(meta.get("creationTimestamp"))
    if created is None or not meta.get("uid") or not meta.get("name"):
        return None
    template = _of(spec, "template")
    shown = _as_pod(template, meta)
    owner = _owner(meta)
    cron = f"{_namespace(meta)}/{owner.get('name')}" if owner.get("kind") == "CronJob" else ""
    suspended = bool(spec.get("suspend"))
    found = Found(
        run_id=_run_id(meta),
        dag_id=cron or f"{_namespace(meta)}/{traits_of(shown).dag}",
        namespace=_namespace(meta),
        priority=_priority(pods),
        submit=created,
        queue=_queue(meta),
        cron=cron,
        turn=instant(_of(meta, "annotations").get(_TURN)),
        waits=suspended and not admitted,
    )
    ended = _ended(status)
    found.over = ended is not None
    found.steps, found.abreast = _steps(spec, shown)
    _fill(found.steps, pods, created)
    if not suspended:
        begun = instant(status.get("startTime")) or created
        for step in found.steps[: found.abreast or None]:
            step.ready_at = step.ready_at or begun
    if ended is not None:
        _close(found.steps, ended, instant(status.get("startTime")))
    return found


def of_template(cron_job: Json) -> Found | None:
    """What the next run of a CronJob will look like."""
    meta = _of(cron_job, "metadata")
    job_template = _of(_of(cron_job, "spec"), "jobTemplate")
    spec = _of(job_template, "spec")
    if not meta.get("name"):
        return None
    steps, abreast = _steps(spec, _as_pod(_of(spec, "template"), meta))
    name = f"{_namespace(meta)}/{meta['name']}"
    queue = _queue({**meta, **_of(job_template, "metadata")})
    return Found(name, name, _namespace(meta), 0, 0.0, queue, cron=name, abreast=abreast, steps=steps)


def of_pods(pods: Sequence[Json]) -> Found | None:
    """Pods that one other controller made, or a pod of its own."""
    first = min(pods, key=lambda p: str(_of(p, "metadata").get("creationTimestamp")))
    meta = _of(first, "metadata")
    created = instant(meta.get("creationTimestamp"))
    if created is None or not meta.get("uid"):
        return None
    found = Found(
        run_id=group_of(first),
        dag_id=f"{_namespace(meta)}/{traits_of(_without_status(first)).dag}",
        namespace=_namespace(meta),
        priority=_priority(pods),
        submit=created,
        queue=_queue(meta),
        waits=any(_of(p, "spec").get("schedulingGates") for p in pods),
    )
    names: dict[str, int] = {}
    for pod in sorted(
        pods, key=lambda p: (str(_of(p, "metadata").get("creationTimestamp")), _run_id(_of(p, "metadata")))
    ):
        task = traits_of(_without_status(pod)).task
        names[task] = names.get(task, 0) + 1
        step = _step(task if names[task] == 1 else f"{task} ({names[task]})", _without_status(pod))
        _seen(step, pod)
        found.steps.append(step)
    found.over = all(s.ended_at is not None for s in found.steps)
    return found


def group_of(pod: Json) -> str:
    """Which run a pod belongs to; "" if it is a service's."""
    meta, spec = _of(pod, "metadata"), _of(pod, "spec")
    owner, labels = _owner(meta), _of(meta, "labels")
    if owner.get("kind") in _KEEP_RUNNING or spec.get("restartPolicy", "Always") == "Always":
        return ""
    if owner.get("uid"):
        return f"{_namespace(meta)}/{owner.get('name')}@{str(owner['uid'])[:8]}"
    if labels.get("dag_id") and labels.get("run_id"):
        return f"{_namespace(meta)}/{labels['dag_id']}@{labels['run_id']}"
    return _run_id(meta)


def job_of(pod: Json) -> str:
    """The uid of the Job that made it, "" if none did."""
    owner = _owner(_of(pod, "metadata"))
    return str(owner.get("uid") or "") if owner.get("kind") == "Job" else ""


def admitted_by_kueue(workloads: Iterable[Json]) -> dict[str, bool]:
    """Job uid -> whether a quota is set aside for it (it then waits for nodes, if for anything)."""
    out: dict[str, bool] = {}
    for workload in workloads:
        conditions = _of(workload, "status").get("conditions") or ()
        reserved = any(
            isinstance(c, Mapping) and c.get("type") == "QuotaReserved" and c.get("status") == "True"
            for c in conditions
        )
        owner = _owner(_of(workload, "metadata"))
        if owner.get("kind") == "Job" and owner.get("uid"):
            out[str(owner["uid"])] = reserved
    return out


# --------------------------------------------------------------------------- inside


def _steps(spec: Json, shown: Json) -> tuple[list[Step], int]:
    """Tasks of a Job, one a completion; how many run at once (0 = all)."""
    abreast = max(_count(spec.get("parallelism"), 1), 1)
    completions = _count(spec.get("completions"), abreast)
    each = -(-completions // MOST_TASKS) if completions > MOST_TASKS else 1
    tasks = max(-(-completions // each), 1)
    deadline = spec.get("activeDeadlineSeconds")
    steps = []
    for i in range(tasks):
        step = _step(traits_of(shown).task if tasks == 1 else f"{traits_of(shown).task}[{i}]", shown)
        step.instances = min(each, completions - i * each) if completions else 1
        step.hint_s = float(deadline) if isinstance(deadline, int | float) and deadline > 0 else None
        steps.append(step)
    at_once = -(-abreast // each)
    return steps, at_once if at_once < tasks else 0


def _step(name: str, pod: Json) -> Step:
    cpu, memory, gpu = requests(_of(pod, "spec"))
    return Step(name, Signature.of(traits_of(pod)).path, cpu, memory, gpu)


def _fill(steps: list[Step], pods: Sequence[Json], created: float) -> None:
    """Say of each task what its pod says: that of its index, else one after the other; the last attempt counts."""
    placed: dict[int, Json] = {}
    unnumbered: list[Json] = []
    for pod in sorted(pods, key=lambda p: instant(_of(p, "metadata").get("creationTimestamp")) or created):
        index = _of(_of(pod, "metadata"), "annotations").get(_INDEX)
        if index is not None and str(index).isdigit():
            placed[int(index) // steps[0].instances] = pod
        elif _of(pod, "status").get("phase") != "Failed":
            unnumbered.append(pod)
    free = (i for i in range(len(steps)) if i not in placed)
    placed.update(zip(free, unnumbered, strict=False))
    for i, pod in placed.items():
        if i < len(steps):
            _seen(steps[i], pod)


def _seen(step: Step, pod: Json) -> None:
    """Times of a pod: its containers', not those of pulling their images."""
    status = _of(pod, "status")
    states = [_of(c, "state") for c in status.get("containerStatuses") or () if isinstance(c, Mapping)]
    begun = [instant(_of(s, k).get("startedAt")) for s in states for k in ("running", "terminated")]
    ended = [instant(_of(s, "terminated").get("finishedAt")) for s in states]
    step.ready_at = instant(_of(pod, "metadata").get("creationTimestamp"))
    step.started_at = min((b for b in begun if b is not None), default=None)
    if status.get("phase") in ("Succeeded", "Failed"):
        last = max((e for e in ended if e is not None), default=None)
        step.ended_at = last if last is not None else step.started_at or step.ready_at
    if step.started_at is not None and step.ended_at is not None:
        step.ended_at = max(step.ended_at, step.started_at)


def _close(steps: list[Step], ended: float, started: float | None) -> None:
    """The Job is over, and its pods may be gone already."""
    for step in steps:
        if step.ended_at is None:
            step.started_at = step.started_at if step.started_at is not None else started
            step.ended_at = max(ended, step.started_at or ended)
        step.ready_at = step.ready_at or step.started_at


def _ended(status: Json) -> float | None:
    """When a Job came to an end, well or not."""
    if status.get("completionTime"):
        return instant(status["completionTime"])
    for c in status.get("conditions") or ():
        if isinstance(c, Mapping) and c.get("type") in ("Complete", "Failed") and c.get("status") == "True":
            return instant(c.get("lastTransitionTime"))
    return None


def _as_pod(template: Json, meta: Json) -> Json:
    """A pod as a Job will make it."""
    labels = {k: v for k, v in _of(_of(template, "metadata"), "labels").items() if k != "controller-uid"}
    return {
        "metadata": {"namespace": _namespace(meta), "name": meta.get("name"), "labels": labels,
                     "ownerReferences": [{"name": _owner(meta).get("name") or meta.get("name")}]},
        "spec": _of(template, "spec"),
    }  # fmt: skip


def _without_status(pod: Json) -> Json:
    """So that its signature is the same before and after it ran."""
    return {"metadata": _of(pod, "metadata"), "spec": _of(pod, "spec")}


def _queue(meta: Json) -> str:
    return str(_of(meta, "labels").get(QUEUE_LABEL) or _namespace(meta))


def _priority(pods: Sequence[Json]) -> int:
    return max((_count(_of(p, "spec").get("priority"), 0) for p in pods), default=0)


def _run_id(meta: Json) -> str:
    return f"{_namespace(meta)}/{meta.get('name')}@{str(meta.get('uid'))[:8]}"


def _namespace(meta: Json) -> str:
    return str(meta.get("namespace") or "default")


def _owner(meta: Json) -> Json:
    owners = [o for o in meta.get("ownerReferences") or () if isinstance(o, Mapping)]
    return next((o for o in owners if o.get("controller")), owners[0] if owners else {})


def _count(value: object, otherwise: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else otherwise


def _of(value: Json, name: str) -> Json:
    found = value.get(name)
    return found if isinstance(found, Mapping) else {}
