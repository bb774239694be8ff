"""A task as a Job of one pod: what is sent, and what is read of it again."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from preprov.contracts import TaskReport
from preprov.kube.api import Json
from preprov.kube.labels import CLAIMANT, KIND, MANAGED_BY, MANAGER, NODE_ID, TASK
from preprov.kube.place import Place
from preprov.kube.reading import annotations, finished, instant
from preprov.launch.kubernetes_resize import ASKED, PodRef, bounds
from preprov.model.agent import Usage
from preprov.model.errors import PoolError
from preprov.model.nodes import Node
from preprov.model.quantity import quantity
from preprov.model.work import TaskRun

SELECTOR: Final = f"{MANAGED_BY}={MANAGER},{KIND}=task"
CONTAINER: Final = "task"
CANCELLED: Final = "preprov.io/cancelled-at"
KEPT_S: Final = 86_400
"""A Job that is over is deleted by Kubernetes after this; until then the same start is not made again."""
_DOCKER: Final = "docker://"
_GIB: Final = 2.0**30
_STAYS: Final = {
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
}
"""No autoscaler tidies a node away under running work."""
_TERM: Final = -15


def job_name(claimant: str) -> str:
    """The same instance of the same attempt has the same name, however often it is started."""
    return f"preprov-task-{digest(claimant)}"


def digest(claimant: str) -> str:
    """As a label's value."""
    return hashlib.sha256(claimant.encode()).hexdigest()[:20]


def job_of(task: TaskRun, instance: int, node: Node, place: Place, speed: float) -> Json:
    """The Job of one instance, on the node that it was placed on.

    It goes by the scheduler, for that evicts what only holds room there; so the node is required, not set.
    """
    claimant = task.claimant(instance)
    labels = {MANAGED_BY: MANAGER, KIND: "task", TASK: digest(claimant)}
    container = _container(task, instance, node, place, speed)
    notes = {CLAIMANT: claimant, NODE_ID: node.node_id}
    asked = {ASKED: json.dumps(container["resources"], sort_keys=True)}
    here = {"key": "metadata.name", "operator": "In", "values": [node.address]}
    affinity = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": [here]}]}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(claimant),
            "namespace": place.namespace,
            "labels": labels,
            "annotations": notes,
        },
        "spec": {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "ttlSecondsAfterFinished": KEPT_S,
            "template": {
                "metadata": {"labels": labels, "annotations": {**notes, **asked, **_STAYS}},
                "spec": {
                    "restartPolicy": "Never",
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "affinity": {"nodeAffinity": affinity},
                    "tolerations": list(place.tolerations),
                    "containers": [container],
                },
            },
        },
    }


def _container(task: TaskRun, instance: int, node: Node, place: Place, speed: float) -> Json:
    env = {
        **task.spec.env,
        "PREPROV_RUN_ID": task.run_id,
        "PREPROV_TASK_ID": task.task_id,
        "PREPROV_INSTANCE": str(instance),
        "PREPROV_ATTEMPT": str(task.attempt),
        "PREPROV_NODE_ID": node.node_id,
    }
    request = task.spec.request
    asked = {"cpu": f"{max(round(request.cpu * 1000), 1)}m"}
    held = {"memory": str(round(request.memory * _GIB))} if request.memory > 0 else {}
    held |= {place.gpu_resource: str(round(request.gpu))} if request.gpu > 0 else {}
    command = task.spec.command or ("sleep", f"{(task.spec.runtime_hint_s or 0.0) / speed:.3f}")
    return {
        "name": CONTAINER,
        "image": image_of(task, place),
        "command": list(command),
        "env": [{"name": k, "value": v} for k, v in env.items()],
        "resources": {"requests": {**asked, **held}, **({"limits": held} if held else {})},
    }


def image_of(task: TaskRun, place: Place) -> str:
    """What it runs in: its own image if a registry has that, else the group's.

    Raises:
        PoolError: neither.
    """
    own = next((i for i in task.spec.images if i.uri.startswith(_DOCKER)), None)
    if own is None and not place.task_image:
        hint = "`task_image` of the group's options, or an image docker://registry/name:tag of the task"
        raise PoolError(f"task {task.task_id} has no image that a cluster can pull", where=task.run_id, hint=hint)
    if own is None:
        return place.task_image
    name = own.uri.removeprefix(_DOCKER)
    bare = re.sub(r":[^:/]+$", "", name)
    return f"{bare}@{own.digest}" if own.digest and "@" not in name else name


# ------------------------------------------------------------------ what is read again


def report(job: Json, pod: Json | None, usage: Sequence[Usage], minor: int) -> TaskReport:
    """What became of a Job so far; the cluster's version is 1.`minor`."""
    state = _state(pod)
    running, ended = state.get("running") or {}, state.get("terminated") or {}
    over = finished(job)
    began = instant(running.get("startedAt") or ended.get("startedAt"))
    began = began or instant((job.get("status") or {}).get("startTime"))
    began = began or instant(job["metadata"].get("creationTimestamp")) or datetime.fromtimestamp(0, UTC)
    end = instant(ended.get("finishedAt")) or (instant(over.get("lastTransitionTime")) or began if over else None)
    return TaskReport(
        claimant=annotations(job)[CLAIMANT],
        node_id=annotations(job)[NODE_ID],
        started_at=min(began, end) if end is not None else began,
        ended_at=end,
        exit_code=None if end is None else _exit_code(job, ended, over),
        usage=tuple(usage),
        bounds=bounds(PodRef(pod, CONTAINER), minor) if pod and running and end is None else None,
        out_of_memory=end is not None and ended.get("reason") == "OOMKilled",
    )


def _exit_code(job: Json, ended: Mapping[str, Any], over: Mapping[str, Any]) -> int | None:
    if ended.get("exitCode") is not None:
        code = int(ended["exitCode"])
        return 128 - code if code > 128 else code
    if over.get("type") == "Complete":
        return 0
    return _TERM if CANCELLED in annotations(job) else None


def _state(pod: Json | None) -> Mapping[str, Any]:
    for s in ((pod or {}).get("status") or {}).get("containerStatuses") or ():
        if s.get("name") == CONTAINER:
            return dict(s.get("state") or {})
    return {}


def sample(metrics: Json) -> Usage | None:
    """One sample of the metrics server; None if it says nothing of the task."""
    at = instant(metrics.get("timestamp"))
    used = next((c.get("usage") or {} for c in metrics.get("containers") or () if c.get("name") == CONTAINER), {})
    if at is None or not used:
        return None
    memory = quantity(used["memory"]) / _GIB if "memory" in used else None
    cpu = quantity(used["cpu"]) if "cpu" in used else None
    return Usage(at.timestamp(), cpu=cpu, memory=memory, working_set=memory)  # that is what the server calls memory
