"""What preprov has added to a count that is not its own: kept on the object itself, and written with the count at once.

A *slot* is one of so many. Which of the cluster's nodes it is, is found out: nodes that no slot has, the oldest of them
left to those who had the count before, are given to slots that have none. Once seen it is written down.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from preprov.kube.api import Json
from preprov.kube.reading import annotations, instant
from preprov.model.nodes import Node, Phase
from preprov.pools.kubernetes.manifests import KEPT_S
from preprov.pools.kubernetes.options import KubernetesGroup
from preprov.pools.kubernetes.units import NO_WORK, Work, is_cordoned_by_us, is_ready

ORDERS: Final = "preprov.io/orders"
"""Annotation of the object whose count is written."""


@dataclass(frozen=True)
class Slot:
    """One node more than there would be without us.

    Attributes:
        made_at, until: RFC 3339: who tends it next after that gives it back, unless it has work.
        node: of the cluster; "" = not known yet.
        ended_at: given back; it is remembered for a while, so that its launch is not made again.
        released: the group was given back while it had work.
    """

    name: str
    token: str
    tags: Mapping[str, str]
    made_at: str
    until: str
    node: str = ""
    ready_at: str = ""
    ended_at: str = ""
    released: bool = False

    @property
    def lives(self) -> bool:
        """True until it is given back."""
        return not self.ended_at


@dataclass(frozen=True)
class Orders:
    """All slots of a group.

    Attributes:
        owner: (pool, group) of them. counted: so many of the count are ours, as it was written last.
    """

    owner: tuple[str, str]
    counted: int = 0
    slots: tuple[Slot, ...] = ()

    def written(self) -> str | None:
        """As an annotation; None = none is needed."""
        if not self.slots and not self.counted:
            return None
        told = {"pool": self.owner[0], "group": self.owner[1], "counted": self.counted}
        return json.dumps({**told, "slots": [asdict(s) for s in self.slots]}, separators=(",", ":"))

    def tidy(self, now: datetime) -> "Orders":
        """Without what need not be remembered any more."""
        since = now - timedelta(seconds=KEPT_S)
        kept = (s for s in self.slots if s.lives or (instant(s.ended_at) or now) > since)
        return replace(self, slots=tuple(kept))


def orders_of(thing: Json) -> Orders | None:
    """What an object says; None = nothing of ours."""
    try:
        told = json.loads(annotations(thing).get(ORDERS, ""))
        slots = tuple(Slot(**s) for s in told["slots"])
        return Orders((str(told["pool"]), str(told["group"])), int(told["counted"]), slots)
    except (ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True)
class SlotRoom:
    """A slot as it was seen; implements `ways.Room`.

    Attributes:
        thing: the object it is written on, as it was read. node: the cluster's; None = it has none now.
        pods: work on it.
    """

    group: KubernetesGroup
    slot: Slot
    thing: Json = field(repr=False)
    node: Json | None
    pods: Work = NO_WORK

    @property
    def work(self) -> tuple[str, ...]:
        """Pods, "namespace/name"."""
        return self.pods.names

    @property
    def exists(self) -> bool:
        """False if it is only remembered."""
        return self.slot.lives

    @property
    def name(self) -> str:
        """Of the slot."""
        return self.slot.name

    @property
    def on(self) -> str:
        """Name of its node."""
        return str(self.node["metadata"]["name"]) if self.node is not None else ""

    @property
    def ready_at(self) -> datetime | None:
        """Since when its node could be used by it."""
        if self.node is None:
            return None
        made = instant(self.slot.made_at)
        since = instant(self.slot.ready_at) or _became_ready(self.node)
        return max(t for t in (made, since) if t is not None) if made or since else None

    def shown(self, now: datetime) -> Node:
        """As a node of the pool."""
        made = instant(self.slot.made_at) or now
        ready_at = self.ready_at
        if self.node is None or ready_at is None:
            phase, reason = Phase.WARMING, f"{self.group.object} has no node for it yet"
        elif (self.node.get("spec") or {}).get("unschedulable"):
            phase, reason = Phase.DRAINING, "cordoned"
        else:
            phase, reason = Phase.READY, ""
        return Node(
            node_id=self.name,
            pool=self.group.pool.name,
            group=self.group.group.name,
            offering=self.group.group.offerings[0],
            phase=phase,
            created_at=made,
            since=made if phase is Phase.WARMING else ready_at or made,
            ready_at=None if phase is Phase.WARMING else ready_at,
            running=self.work,
            foreign=self.pods.foreign,
            last_seen=now,
            token=self.slot.token,
            reason=reason,
            tags=dict(self.slot.tags),
            address=self.on,
        )


def _became_ready(node: Json) -> datetime | None:
    for c in (node.get("status") or {}).get("conditions") or ():
        if c.get("type") == "Ready":
            return instant(c.get("lastTransitionTime")) or instant(node["metadata"].get("creationTimestamp"))
    return None


def bound(slots: Iterable[Slot], nodes: Mapping[str, Json], taken: Collection[str], theirs: int) -> dict[str, Json]:
    """Slot -> its node, of those that have one.

    Args:
        slots: that live, in the order they were made.
        nodes: of the cluster, by name.
        taken: nodes that are no room for a slot that has none yet.
        theirs: so many of the others, the oldest, are not ours.
    """
    slots = list(slots)
    out = {s.name: nodes[s.node] for s in slots if s.node in nodes}
    had = {s.node for s in slots}
    free = [n for name, n in nodes.items() if name not in had and name not in taken and _takes_pods(n)]
    free.sort(key=lambda n: (n["metadata"].get("creationTimestamp", ""), n["metadata"]["name"]))
    waiting = [s for s in slots if s.name not in out]
    out.update({s.name: n for s, n in zip(waiting, free[max(theirs, 0) :], strict=False)})
    return out


def _takes_pods(node: Any) -> bool:
    meta, spec = node["metadata"], node.get("spec") or {}
    cordoned = spec.get("unschedulable") and not is_cordoned_by_us(node)  # ours: it was drained before it was noted
    return is_ready(node) and not cordoned and not meta.get("deletionTimestamp")
