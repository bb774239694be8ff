"""What holds Jobs and pods back before a node would help them, and until when it did.

A cluster says when Kueue set a quota aside, and when a suspended Job went on. When the gates of a pod were opened it
does not say: that is noted when a pass sees it.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from preprov.model.waits import Cause
from preprov.sources.kubernetes.reading import instant, of, owners

Json: TypeAlias = Mapping[str, Any]
Limit: TypeAlias = tuple[Cause, str]

QUEUE_LABEL: Final = "kueue.x-k8s.io/queue-name"
_GATE: Final = "gate:"
_IMAGE: Final = "image:"
_NOT_PULLED: Final = frozenset(
    {
        *("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "RegistryUnavailable"),
        *("ImageInspectError", "SignatureValidationFailed"),
    }
)
"""Reasons for which a container waits for its image."""
_NAN: Final = float("nan")


@dataclass(frozen=True)
class Known:
    """What has to be known besides a Job and its pods.

    Attributes:
        priorities: class -> value; "" = of what names none.
        queue_key: key of the node selector whose value is the queue that routes match; "" = none.
        reserved: uid -> when a quota was set aside for it, by the cluster's clock; NaN = it was, nobody says when.
        ungated: uid -> when its gates were open.
        images: uid -> the image that a pass has seen it wait for, as it could not be pulled.
    """

    priorities: Mapping[str, int] = field(default_factory=dict)
    queue_key: str = ""
    reserved: Mapping[str, float] = field(default_factory=dict)
    ungated: Mapping[str, float] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)

    def priority(self, spec: Json) -> int:
        """Of a pod: its own, which the server fills in as it is made, else that of its class."""
        told = spec.get("priority")
        if isinstance(told, int) and not isinstance(told, bool):
            return told
        return self.priorities.get(str(spec.get("priorityClassName") or ""), 0)

    def queue(self, spec: Json) -> str:
        """Which nodes a pod wants, as far as that is told apart; "" = any."""
        return str(of(spec, "nodeSelector").get(self.queue_key) or "") if self.queue_key else ""

    def at(self, meta: Json) -> float | None:
        """When it was; None if it was not, or nobody says when."""
        uid = str(meta.get("uid") or "")
        told = self.reserved.get(uid, self.ungated.get(uid, _NAN))
        return told if told == told else None


def limit_of(meta: Json, what: str) -> Limit:
    """Of what is held back: its queue's quota, else somebody did, by `what`."""
    queue = of(meta, "labels").get(QUEUE_LABEL)
    return (Cause.QUOTA, str(queue)) if queue else (Cause.HELD, what)


def condition(thing: Json, kind: str) -> Json:
    """Of an object; empty if it has none of that kind."""
    told = of(thing, "status").get("conditions") or ()
    return next((c for c in told if isinstance(c, Mapping) and c.get("type") == kind), {})


def reserved_by_kueue(workloads: Iterable[Json]) -> dict[str, float]:
    """Uids of Jobs and pods for which a quota is set aside (they wait for nodes, if for anything), and since when."""
    out: dict[str, float] = {}
    for workload in workloads:
        told = condition(workload, "QuotaReserved")
        if told.get("status") != "True":
            continue
        at = instant(told.get("lastTransitionTime"))
        for owner in owners(of(workload, "metadata")):
            if owner.get("kind") in ("Job", "Pod") and owner.get("uid"):
                out[str(owner["uid"])] = _NAN if at is None else at
    return out


def by_class(classes: Iterable[Json]) -> dict[str, int]:
    """Name -> value of priority classes; "" -> that of the class for what names none."""
    out: dict[str, int] = {}
    for one in classes:
        value, name = one.get("value"), of(one, "metadata").get("name")
        if not isinstance(value, int) or not name:
            continue
        out[str(name)] = value
        if one.get("globalDefault"):
            out[""] = value
    return out


def asks_kueue(thing: Json) -> bool:
    """True for what Kueue may hold, or may have held."""
    return QUEUE_LABEL in of(of(thing, "metadata"), "labels") or bool(of(thing, "spec").get("suspend"))


def noted_of(notebook: Mapping[str, str], uids: Collection[str]) -> dict[str, str]:
    """What the notebook says of these pods."""
    return {k: v for k, v in notebook.items() if k.startswith((_GATE, _IMAGE)) and k.partition(":")[2] in uids}


def gates(
    pods: Iterable[Json], notebook: Mapping[str, str], now: float
) -> tuple[dict[str, float], dict[str, str | None]]:
    """(uid -> when its gates were open, changes of the notebook).

    Args:
        pods: that are looked at. notebook: what was kept of them, and of those that are gone.
        now: epoch seconds by the cluster's clock.
    """
    ungated: dict[str, float] = {}
    notes: dict[str, str | None] = {k: None for k in notebook if k.startswith(_GATE)}
    for pod in pods:
        key = f"{_GATE}{of(pod, 'metadata').get('uid')}"
        held = notebook.get(key)
        notes.pop(key, None)
        if of(pod, "spec").get("schedulingGates"):
            if held is None:
                notes[key] = ""
        elif held is not None:
            placed = placed_at(pod)
            at = float(held) if held else now if placed is None else min(now, placed)
            ungated[key.removeprefix(_GATE)] = at
            if not held:
                notes[key] = str(at)
    return ungated, notes


def not_pulled(pods: Iterable[Json], notebook: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str | None]]:
    """(uid -> image that could not be pulled at once, changes of the notebook); what was seen of a pod is kept."""
    images: dict[str, str] = {}
    notes: dict[str, str | None] = {k: None for k in notebook if k.startswith(_IMAGE)}
    for pod in pods:
        uid = str(of(pod, "metadata").get("uid"))
        notes.pop(f"{_IMAGE}{uid}", None)
        held = notebook.get(f"{_IMAGE}{uid}", "")
        image = _lacking(of(pod, "status")) or held
        if image:
            images[uid] = image
        if image != held:
            notes[f"{_IMAGE}{uid}"] = image
    return images, notes


def _lacking(status: Json) -> str:
    """The first image that a container of a pod waits for; "" = none that is told of."""
    for which in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(which) or ():
            if not isinstance(container, Mapping):
                continue
            if of(of(container, "state"), "waiting").get("reason") in _NOT_PULLED:
                return str(container.get("image") or container.get("name") or "?")
    return ""


def placed_at(pod: Json) -> float | None:
    """When a pod was given its node; None if it was not."""
    told = condition(pod, "PodScheduled")
    return instant(told.get("lastTransitionTime")) if told.get("status") == "True" else None
