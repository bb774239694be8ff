"""Jobs and pods as runs with tasks: what there is of each, and what has become of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from preprov.kube.quantities import images, requests
from preprov.model.signature import Signature
from preprov.model.signature_sources import kubernetes as traits_of
from preprov.model.waits import Cause
from preprov.sources.kubernetes.holding import QUEUE_LABEL, Known, Limit, condition, limit_of, placed_at
from preprov.sources.kubernetes.reading import instant, owners
from preprov.sources.kubernetes.reading import of as _of
from preprov.sources.kubernetes.selecting import constraint_of

Json: TypeAlias = Mapping[str, Any]

_KEEP_RUNNING: Final = frozenset(
    {"ReplicaSet", "ReplicationController", "DaemonSet", "StatefulSet", "Node", "Deployment"}
)
"""Owners whose pods never end by themselves: services, not work."""
MOST_TASKS: Final = 1_000
"""Of a Job; of one with more completions each task has several instances."""
_INDEX: Final = "batch.kubernetes.io/job-completion-index"
_BY_GATE: Final = "scheduling gate"
_TURN: Final = "batch.kubernetes.io/cronjob-scheduled-timestamp"


@dataclass(slots=True)
class Step:
    """One task of a run; times in epoch seconds, None = has not come.

    Attributes:
        queue: by its node selector, "" = that of its run. slot_at: when it had passed every limit.
        limit: (cause, name) of what it waits for, or waited for until then.
        placed_at: when it was given its node. attempt: which of its pods the times are of, 0 = none was seen.
        constraint: which nodes it may be on. lost: what of that a constraint cannot say.
        images: of its containers, a space between. pod: NAMESPACE/POD that the times are of, "" = none was seen.
    """

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
    queue: str = ""
    slot_at: float | None = None
    placed_at: float | None = None
    limit: Limit | None = None
    node: str = ""
    attempt: int = 0
    constraint: str = ""
    lost: tuple[str, ...] = ()
    images: str = ""
    pod: str = ""


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


def of_job(job: Json, pods: Sequence[Json], known: Known) -> Found | None:
    """A Job with its pods; None if it says too little of itself.

    Args:
        job: as listed. pods: that it made. known: what else is.
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
        run_id=run_id(meta),
        dag_id=cron or f"{_namespace(meta)}/{traits_of(shown).dag}",
        namespace=_namespace(meta),
        priority=_priority(pods, _of(template, "spec"), known),
        submit=created,
        queue=_queue(meta),
        cron=cron,
        turn=instant(_of(meta, "annotations").get(_TURN)),
        waits=suspended and meta["uid"] not in known.reserved,
    )
    ended = _ended(status)
    found.over = ended is not None
    found.steps, found.abreast = _steps(spec, shown, known)
    _fill(found.steps, pods, created, known)
    if not suspended:
        begun = instant(status.get("startTime")) or created
        for step in found.steps[: found.abreast or None]:
            step.ready_at = step.ready_at or begun
    if ended is not None:
        _close(found.steps, ended, instant(status.get("startTime")))
    first = found.steps[: found.abreast or None]
    if found.waits:
        for step in first:
            step.limit = limit_of(meta, "suspended")
    elif not suspended:
        _resumed(first, job, created, known)
    return found


def of_template(cron_job: Json, known: Known) -> Found | None:
    """What the next run of a CronJob will look like."""
    meta = _of(cron_job, "metadata")
    job_template = _of(_of(cron_job, "spec"), "jobTemplate")
    spec = _of(job_template, "spec")
    if not meta.get("name"):
        return None
    template = _of(spec, "template")
    steps, abreast = _steps(spec, _as_pod(template, meta), known)
    name = f"{_namespace(meta)}/{meta['name']}"
    queue = _queue({**meta, **_of(job_template, "metadata")})
    priority = known.priority(_of(template, "spec"))
    return Found(name, name, _namespace(meta), priority, 0.0, queue, cron=name, abreast=abreast, steps=steps)


def of_pods(pods: Sequence[Json], known: Known) -> Found | None:
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
        priority=_priority(pods, {}, known),
        submit=created,
        queue=_queue(meta),
        waits=any(_gated(p, known) for p in pods),
    )
    names: dict[str, int] = {}
    for pod in sorted(
        pods, key=lambda p: (str(_of(p, "metadata").get("creationTimestamp")), run_id(_of(p, "metadata")))
    ):
        task = traits_of(_without_status(pod)).task
        names[task] = names.get(task, 0) + 1
        step = _step(task if names[task] == 1 else f"{task} ({names[task]})", _without_status(pod), known)
        _seen(step, pod, 1, known)
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
    return run_id(meta)


def job_of(pod: Json) -> str:
    """The uid of the Job that made it, "" if none did."""
    owner = _owner(_of(pod, "metadata"))
    return str(owner.get("uid") or "") if owner.get("kind") == "Job" else ""


# --------------------------------------------------------------------------- inside


def _steps(spec: Json, shown: Json, known: Known) -> tuple[list[Step], int]:
    """Tasks of a Job, one a completion; how many run at once (0 = all)."""
    abreast = max(_count(spec.get("parallelism"), 1), 1)
    completions = _count(spec.get("completions"), abreast)
    each = -(-completions // MOST_TASKS) if completions > MOST_TASKS else 1
    tasks = max(-(-completions // each), 1)
    deadline = spec.get("activeDeadlineSeconds")
    steps = []
    for i in range(tasks):
        step = _step(traits_of(shown).task if tasks == 1 else f"{traits_of(shown).task}[{i}]", shown, known)
        step.instances = min(each, completions - i * each) if completions else 1
        step.hint_s = float(deadline) if isinstance(deadline, int | float) and deadline > 0 else None
        steps.append(step)
    at_once = -(-abreast // each)
    return steps, at_once if at_once < tasks else 0


def _step(name: str, pod: Json, known: Known) -> Step:
    spec = _of(pod, "spec")
    cpu, memory, gpu = requests(spec)
    constraint, lost = constraint_of(spec)
    signature, named = Signature.of(traits_of(pod)).path, " ".join(images(spec))
    return Step(
        *(name, signature, cpu, memory, gpu), queue=known.queue(spec), constraint=constraint, lost=lost, images=named
    )


def _fill(steps: list[Step], pods: Sequence[Json], created: float, known: Known) -> None:
    """Say of each task what its pod says: that of its index, else one after the other; the last attempt counts."""
    placed: dict[int, tuple[Json, int]] = {}
    unnumbered: list[tuple[Json, int]] = []
    failed = 0
    for pod in sorted(pods, key=lambda p: instant(_of(p, "metadata").get("creationTimestamp")) or created):
        index = _of(_of(pod, "metadata"), "annotations").get(_INDEX)
        if index is not None and str(index).isdigit():
            at = int(index) // steps[0].instances
            again = at in placed and steps[0].instances == 1
            placed[at] = pod, placed[at][1] + 1 if again else 1
        elif _of(pod, "status").get("phase") != "Failed":
            unnumbered.append((pod, failed + 1))
        else:
            failed += 1
    free = (i for i in range(len(steps)) if i not in placed)
    placed.update(zip(free, unnumbered, strict=False))
    for i, (pod, attempt) in placed.items():
        if i < len(steps):
            _seen(steps[i], pod, attempt, known)


def _seen(step: Step, pod: Json, attempt: int, known: Known) -> None:
    """Times of a pod: its containers', not those of pulling their images."""
    meta, spec, status = _of(pod, "metadata"), _of(pod, "spec"), _of(pod, "status")
    states = _states(status, "containerStatuses")
    first = [*_states(status, "initContainerStatuses"), *states]
    begun = [instant(_of(s, k).get("startedAt")) for s in first for k in ("running", "terminated")]
    ended = [instant(_of(s, "terminated").get("finishedAt")) for s in states]
    step.ready_at = instant(meta.get("creationTimestamp"))
    step.started_at = min((b for b in begun if b is not None), default=None)
    if status.get("phase") in ("Succeeded", "Failed"):
        last = max((e for e in ended if e is not None), default=None)
        step.ended_at = last if last is not None else step.started_at or step.ready_at
    if step.started_at is not None and step.ended_at is not None:
        step.ended_at = max(step.ended_at, step.started_at)
    step.node, step.attempt, step.placed_at = str(spec.get("nodeName") or ""), attempt, placed_at(pod)
    step.pod = f"{_namespace(meta)}/{meta.get('name')}"
    if _gated(pod, known):
        step.limit = limit_of(meta, _BY_GATE)
        return
    opened = known.at(meta)
    step.slot_at = opened if opened is not None else step.ready_at
    if opened is not None:
        step.limit = limit_of(meta, _BY_GATE)
    elif condition(pod, "PodScheduled").get("reason") == "Unschedulable":
        step.limit = (Cause.ROOM, "")
    elif str(meta.get("uid")) in known.images:
        step.limit = (Cause.IMAGE, known.images[str(meta.get("uid"))])


def _states(status: Json, which: str) -> list[Json]:
    return [_of(c, "state") for c in status.get(which) or () if isinstance(c, Mapping)]


def _gated(pod: Json, known: Known) -> bool:
    """No node would help it yet."""
    uid = str(_of(pod, "metadata").get("uid"))
    return bool(_of(pod, "spec").get("schedulingGates")) and uid not in known.reserved


def _resumed(steps: Sequence[Step], job: Json, created: float, known: Known) -> None:
    """A Job that was suspended waited for that from its making on; its first pods came when it went on."""
    meta, told = _of(job, "metadata"), condition(job, "Suspended")
    since = known.at(meta) or (instant(told.get("lastTransitionTime")) if told.get("status") == "False" else None)
    if since is None or since <= created:
        return
    for step in steps:
        if step.attempt <= 1 and step.ready_at is not None:
            step.ready_at, step.slot_at, step.limit = created, since, limit_of(meta, "suspended")


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


def _priority(pods: Sequence[Json], template: Json, known: Known) -> int:
    """Of pods; while there is none, of those to come."""
    return max((known.priority(_of(p, "spec")) for p in pods), default=known.priority(template))


def run_id(meta: Json) -> str:
    """Of a Job, or of a pod by itself."""
    return f"{_namespace(meta)}/{meta.get('name')}@{str(meta.get('uid'))[:8]}"


def _namespace(meta: Json) -> str:
    return str(meta.get("namespace") or "default")


def _owner(meta: Json) -> Json:
    found = owners(meta)
    return next((o for o in found if o.get("controller")), found[0] if found else {})


def _count(value: object, otherwise: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else otherwise
