"""Move services off a node that is drained, by the eviction API: budgets are obeyed, and work is left to end by itself.

Moved are pods that a controller makes again elsewhere (ReplicaSet, StatefulSet, ReplicationController). Pods of Jobs
and of nobody are work and end by themselves; those of DaemonSets and the node's own (mirror pods) go with the node. A
refusal of a PodDisruptionBudget is asked again, later each time; when the time is over the node takes pods again.
Nothing is ever deleted.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from preprov.kube.api import Cluster, Json
from preprov.model.errors import ConflictError, NotFoundError
from preprov.pools.kubernetes import manifests
from preprov.pools.kubernetes.options import KubernetesGroup
from preprov.pools.kubernetes.units import OVER

_MOVED: Final = frozenset({"ReplicaSet", "StatefulSet", "ReplicationController"})
_FIRST_S: Final = 5.0
_LONGEST_S: Final = 60.0


@dataclass
class _Trial:
    began: datetime
    next: datetime
    refused: int = 0
    given_up: datetime | None = None


class Mover:
    """Remembers what it tries; after a restart it begins anew."""

    def __init__(self) -> None:
        self._trials: dict[tuple[str, str], _Trial] = {}

    def begin(self, group: KubernetesGroup, node: str, now: datetime) -> None:
        """Called before a node is cordoned.

        Raises:
            ConflictError: it was given up not long ago.
        """
        trial = self._trials.get((group.where, node))
        if trial is not None and trial.given_up is not None:
            again = trial.given_up + timedelta(seconds=group.move_timeout_s)
            if now < again:
                what = f"node {node} could not be drained: budgets refused {trial.refused} times"
                raise ConflictError(what, where=group.where, hint=f"it is tried again from {again:%H:%M:%S}Z on")
            del self._trials[group.where, node]

    def forget(self, group: KubernetesGroup, node: str) -> None:
        """It is no longer drained."""
        trial = self._trials.get((group.where, node))
        if trial is not None and trial.given_up is None:
            del self._trials[group.where, node]

    def step(self, group: KubernetesGroup, cluster: Cluster, node: str, now: datetime) -> list[str]:
        """Ask once for what has still to go, if it is time; returns a line per thing done."""
        trial = self._trials.setdefault((group.where, node), _Trial(now, now))
        if now < trial.next or trial.given_up is not None:
            return []
        left = [p for p in cluster.pods(fields=f"spec.nodeName={node}") if moves(p)]
        if not left:
            return []
        done, why = [], ""
        for pod in left:
            name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
            try:
                refusal = cluster.evict(pod)
            except NotFoundError:
                continue
            done += [] if refusal else [f"{name} moves off {node}"]
            why = f"{name}: {refusal}" if refusal else why
        return [*done, *(self._refused(trial, group, cluster, node, why, now) if why else [])]

    def _refused(
        self, trial: _Trial, group: KubernetesGroup, cluster: Cluster, node: str, why: str, now: datetime
    ) -> list[str]:
        trial.next = now + timedelta(seconds=min(_FIRST_S * 2**trial.refused, _LONGEST_S))
        trial.refused += 1
        if (now - trial.began).total_seconds() < group.move_timeout_s:
            return []
        cluster.apply_node(manifests.uncordoned(node))
        trial.given_up = now
        return [f"{node} takes pods again, it could not be drained: {why}"]


def moves(pod: Json) -> bool:
    """True if it would be made again elsewhere, and is not on its way already."""
    meta = pod["metadata"]
    owners = meta.get("ownerReferences") or ()
    kind = next((o.get("kind") for o in owners if o.get("controller")), None)
    over = (pod.get("status") or {}).get("phase") in OVER
    return kind in _MOVED and not over and not meta.get("deletionTimestamp")
