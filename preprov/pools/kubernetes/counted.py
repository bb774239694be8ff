"""Room by a count that the cluster's autoscaler keeps: the replicas of a CapacityBuffer, or of a static NodePool.

The count is changed as it was read (`resourceVersion`): where somebody else wrote it meanwhile ours is a ConflictError,
and the next pass reads again. What we added is written on the same object in the same request, so that it can be taken
off again by whoever comes next. Nothing in the cluster does that by itself.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import ClassVar, Final

from preprov.contracts import Capabilities, Clock, Finding, LaunchRequest
from preprov.kube.api import Custom, Json
from preprov.kube.reading import instant
from preprov.model.errors import NodeBusyError, NotFoundError, PoolError, QuotaExceededError
from preprov.model.offerings import Preload, Standby
from preprov.model.pools import Mode
from preprov.pools.kubernetes import manifests
from preprov.pools.kubernetes.options import KARPENTER, KubernetesGroup
from preprov.pools.kubernetes.orders import ORDERS, Orders, Slot, SlotRoom, bound, orders_of
from preprov.pools.kubernetes.rights import Rule
from preprov.pools.kubernetes.units import NO_WORK, Work
from preprov.pools.kubernetes.ways import Opened, keeps_nothing
from preprov.pools.kubernetes.work import refuse_work, work_on

BUFFER: Final = Custom("autoscaling.x-k8s.io", "v1beta1", "capacitybuffers", "CapacityBuffer", namespaced=True)
POOL: Final = Custom("karpenter.sh", "v1", "nodepools", "NodePool", namespaced=False)
CLAIM: Final = Custom("karpenter.sh", "v1", "nodeclaims", "NodeClaim", namespaced=False)
GOES_FIRST: Final = "karpenter.sh/deprovisioning-priority"
_FIRST: Final = "1000"
_RENEW_AT: Final = 0.5
_GOES_WITHIN_S: Final = 600.0
"""A node that was to go and is there after so long was spared: another one went."""
_SEEN: Final[tuple[Rule, ...]] = ((False, "", "nodes", ("list", "patch")), (False, "", "pods", ("list",)))


class CountedWay(ABC):
    """What both have in common.

    Args:
        group: as configured. cluster: gives it.
        clock: of what is told; it has to show the cluster's time.
    """

    kind: ClassVar[Custom]
    rules: tuple[Rule, ...]
    can = Capabilities(
        standby_states=frozenset({Standby.RUNNING}),
        mixes_states=False,
        chooses_offering=False,
        preloads=False,
        steps_down=False,
        reacts=False,
    )

    def __init__(self, group: KubernetesGroup, cluster: Opened, clock: Clock) -> None:
        self._group, self._open, self._clock = group, cluster, clock

    # ---- how they differ

    @abstractmethod
    def _counts(self, slot: Slot, busy: Collection[str]) -> bool:
        """Whether a slot that lives is one of the count."""

    @abstractmethod
    def _before_less(self, rooms: Sequence[SlotRoom]) -> None:
        """Done before the count goes down by these."""

    @abstractmethod
    def _most(self, thing: Json) -> int | None:
        """The most that the count may be, by the object itself."""

    @property
    @abstractmethod
    def _node_goes(self) -> bool:
        """True if its node goes with a slot; else the autoscaler takes it when it has idled for a while."""

    @abstractmethod
    def _taken(self, work: Mapping[str, Work]) -> set[str]:
        """Nodes that are no room for a slot which has none yet."""

    # ---- what exists

    def rooms(self) -> list[SlotRoom]:
        """As the contract says."""
        thing = self._thing()
        orders = self._orders(thing)
        if not orders.slots:
            return []
        cluster = self._open()
        nodes = {n["metadata"]["name"]: n for n in cluster.nodes(self._group.selector)}
        work = work_on(cluster, sorted(nodes))
        live = [s for s in orders.slots if s.lives]
        leaving = {s.node for s in orders.slots if not s.lives}
        found = bound(live, nodes, self._taken(work) | leaving, _replicas(thing, self._group) - orders.counted)
        out = []
        for s in orders.slots:
            node = found.get(s.name) if s.lives else nodes.get(s.node)
            there = work.get(node["metadata"]["name"], NO_WORK) if node is not None else NO_WORK
            out.append(SlotRoom(self._group, s, thing, node, there))
        return out

    def _thing(self) -> Json:
        try:
            return self._open().custom(self.kind, self._group.namespace, self._group.object)
        except NotFoundError as e:
            what = f"there is no {self.kind.kind} {self._group.object}, or no such kind"
            hint = "`preprov kubernetes manifests` prints what has to be there"
            raise NotFoundError(what, where=self._group.where, hint=hint) from e

    def _orders(self, thing: Json) -> Orders:
        mine = (self._group.pool.name, self._group.group.name)
        found = orders_of(thing)
        return found if found is not None and found.owner == mine else Orders(mine)

    # ---- the one way a count changes

    def _write(self, thing: Json, orders: Orders, busy: Collection[str]) -> None:
        now = self._clock.now()
        other = orders_of(thing)
        if other is not None and other.owner != orders.owner:
            what = f"{self.kind.kind} {self._group.object} is {'/'.join(other.owner)}'s"
            raise PoolError(what, where=self._group.where, hint="each group needs one of its own")
        counted = sum(s.lives and self._counts(s, busy) for s in orders.slots)
        after = replace(orders, counted=counted).tidy(now)
        replicas = max(_replicas(thing, self._group) - orders.counted + counted, 0)
        patch: Json = {"metadata": {"annotations": {ORDERS: after.written()}}, "spec": {"replicas": replicas}}
        self._open().patch_custom(self.kind, thing, patch)

    # ---- more, less

    def launch(self, request: LaunchRequest) -> tuple[str, ...]:
        """As the contract says: the count rises once per token."""
        rooms = {r.name: r for r in self.rooms()}
        thing = next((r.thing for r in rooms.values()), None) or self._thing()
        orders = self._orders(thing)
        names = [manifests.unit_name(request, i) for i in range(request.count)]
        missing = [n for n in names if n not in rooms]
        room = self._room(thing, sum(r.exists for r in rooms.values()))
        if missing and room < 1 and len(missing) == request.count:
            raise QuotaExceededError(
                f"the group has no room for more than {self._group.group.max_nodes} nodes",
                where=self._group.where,
                hint="raise max_nodes, or spec.limits.nodes of the NodePool",
            )
        made = missing[: max(room, 0)]
        if made:
            slots = tuple(self._slot(n, request) for n in made)
            busy = {r.name for r in rooms.values() if r.work}
            self._write(thing, replace(orders, slots=(*orders.slots, *slots)), busy)
        return tuple(n for n in names if n in made or (n in rooms and rooms[n].exists))

    def _room(self, thing: Json, there: int) -> int:
        most = self._most(thing)
        room = self._group.group.max_nodes - there
        return room if most is None else min(room, most - _replicas(thing, self._group))

    def _slot(self, name: str, request: LaunchRequest) -> Slot:
        now = self._clock.now()
        until = request.expires_at or now + timedelta(seconds=request.pool.lease_s)
        return Slot(name, request.token, dict(request.tags), now.isoformat(), until.isoformat())

    def start(self, rooms: Sequence[SlotRoom], preload: Preload) -> None:  # noqa: B027
        """A slot is there or not: there is nothing to start."""

    def keep(self, rooms: Sequence[SlotRoom], state: Standby) -> None:
        """Refused."""
        raise keeps_nothing(self._group, state)

    def end(self, rooms: Sequence[SlotRoom]) -> None:
        """The count goes down by these."""
        self._before_less(rooms)
        self._drop(rooms[0].thing, {r.name: r.on for r in rooms}, self._busy(self.rooms()))

    def _drop(self, thing: Json, going: Mapping[str, str], busy: Collection[str]) -> None:
        orders = self._orders(thing)
        slots = tuple(self._ended(s, going[s.name]) if s.name in going else s for s in orders.slots)
        self._write(thing, replace(orders, slots=slots), busy)

    def _ended(self, slot: Slot, node: str) -> Slot:
        return replace(slot, ended_at=self._clock.now().isoformat(), node=node if self._node_goes else "")

    @staticmethod
    def _busy(rooms: Sequence[SlotRoom]) -> set[str]:
        return {r.name for r in rooms if r.work}

    # ---- leases and upkeep

    def lease(self, until: datetime) -> None:
        """Refused: a count stays as it is until somebody writes it."""
        what = f"nothing in the cluster puts {self.kind.kind} {self._group.object} back by itself"
        raise PoolError(what, where=self._group.where, hint="use way = placeholder where that is needed")

    def tend(self, held: Collection[str]) -> tuple[str, ...]:
        """Which node a slot has is written down, leases are renewed, what nobody renewed in time is given back."""
        now = self._clock.now()
        rooms = self.rooms()
        late = [r for r in rooms if r.exists and (instant(r.slot.until) or now) <= now]
        late = [r for r in late if not r.work and r.name not in held]
        if late:
            self.end(late)
            rooms = self.rooms()
        given = tuple(f"{r.name} given back: nobody had renewed it" for r in late)
        return (*given, *(self._tend(rooms, now) if rooms else ()))

    def _tend(self, rooms: Sequence[SlotRoom], now: datetime) -> list[str]:
        thing = rooms[0].thing
        orders, busy = self._orders(thing), self._busy(rooms)
        slots = {r.name: self._tended(r, now) for r in rooms}
        lives = sum(s.lives and self._counts(s, busy) for s in slots.values())
        said = [f"{r.name} is {r.on}" for r in rooms if r.exists and r.on and r.on != r.slot.node]
        if lives != orders.counted:
            was = _replicas(thing, self._group)
            said.append(f"{self._group.object} replicas {was} -> {max(was - orders.counted + lives, 0)}")
        if said or tuple(slots.values()) != orders.slots:
            self._write(thing, replace(orders, slots=tuple(slots.values())), busy)
        return said

    def _tended(self, room: SlotRoom, now: datetime) -> Slot:
        slot, lease_s = room.slot, self._group.pool.lease_s
        if not room.exists:
            gone = (now - (instant(slot.ended_at) or now)).total_seconds() > _GOES_WITHIN_S
            return replace(slot, node="") if gone else slot
        if room.on and room.on != slot.node and room.ready_at is not None:
            slot = replace(slot, node=room.on, ready_at=room.ready_at.isoformat())
        until = instant(slot.until) or now
        if (until - now).total_seconds() < lease_s * _RENEW_AT:
            slot = replace(slot, until=(now + timedelta(seconds=lease_s)).isoformat())
        return slot

    # ---- before, and after

    def baseline(self) -> Mapping[str, object]:
        """The count without ours; what is being given back and is not gone yet is told with it."""
        thing = self._thing()
        orders = self._orders(thing)
        left = orders.counted if any(s.lives and s.released for s in orders.slots) else 0
        return {"replicas": _replicas(thing, self._group) - orders.counted + left}

    def restore(self, baseline: Mapping[str, object], held: Collection[str]) -> tuple[str, ...]:
        """The count as it was found; a slot that work has, or is promised to, stays one more until it is free."""
        rooms = self.rooms()
        thing = rooms[0].thing if rooms else self._thing()
        was, found = baseline.get("replicas"), _replicas(thing, self._group)
        if not isinstance(was, int):
            raise PoolError("what is to be put back is of another kind of group", where=self._group.where)
        going = [r for r in rooms if r.exists and not r.work and r.name not in held]
        if going:
            self._before_less(going)
        names = {r.name: r.on for r in going}
        before = self._orders(thing)
        slots = tuple(
            self._ended(s, names[s.name]) if s.name in names else replace(s, released=s.lives) for s in before.slots
        )
        orders = replace(before, slots=slots)
        base = {**thing, "spec": {**thing["spec"], "replicas": was + orders.counted}}
        if found - orders.counted != was or going or slots != before.slots:
            self._write(base, orders, self._busy(rooms))
        after = _replicas(self._thing(), self._group)
        said = (f"{self._group.object} replicas {found} -> {after}",) if after != found else ()
        return (*said, *(f"{n} given back" for n in sorted(names)))

    def examine(self) -> Iterator[Finding]:
        """Whether the object is there and has a count; and that a raise of it has no end, where there may be one."""
        what = f"{self._group.group.name}: {self.kind.kind} {self._group.object}"
        if self._group.pool.mode in (Mode.FLOOR, Mode.FULL):
            yield Finding(
                f"{self._group.group.name}: lease",
                "warn",
                "nothing in the cluster lowers the count if preprov dies: what it has raised is paid for until one is "
                "back",
                "way = placeholder where that is not enough; else see to it that preprov is started again",
            )
        try:
            yield Finding(what, "ok", f"replicas {_replicas(self._thing(), self._group)}")
        except PoolError as e:
            yield Finding(what, "bad", e.what, e.hint)

    def sent(self, request: LaunchRequest) -> Json:
        """The count as a launch writes it where it is 0."""
        mine = (self._group.pool.name, self._group.group.name)
        slots = tuple(self._slot(manifests.unit_name(request, i), request) for i in range(request.count))
        told = Orders(mine, request.count, slots).written()
        place = {"namespace": self._group.namespace} if self.kind.namespaced else {}
        return {
            "apiVersion": f"{self.kind.group}/{self.kind.version}",
            "kind": self.kind.kind,
            "metadata": {"name": self._group.object, **place, "annotations": {ORDERS: told}},
            "spec": {"replicas": request.count},
        }

    @abstractmethod
    def setup(self) -> list[Json]:
        """As the contract says."""


class BufferWay(CountedWay):
    """A CapacityBuffer (SIG Autoscaling: cluster autoscaler 1.35 and newer; Karpenter has it as a design).

    It keeps so much room *free*. So a slot that work has come to no longer counts, or another node would come for it.
    No node is ended by it: the autoscaler takes those away that have idled for a while.
    """

    kind = BUFFER
    rules = ((True, BUFFER.group, BUFFER.plural, ("get", "patch")), *_SEEN)
    _node_goes = False

    def _counts(self, slot: Slot, busy: Collection[str]) -> bool:
        return slot.name not in busy

    def _before_less(self, rooms: Sequence[SlotRoom]) -> None:
        """Nothing: less room to keep free ends no pod."""

    def _most(self, thing: Json) -> int | None:
        return None

    def _taken(self, work: Mapping[str, Work]) -> set[str]:
        return {name for name, found in work.items() if found.names}

    def setup(self) -> list[Json]:
        """Namespace, the shape of a node's room, and the buffer itself, empty."""
        place = {"name": self._group.object, "namespace": self._group.namespace}
        pod = manifests.pod(self._group, self._group.group.offerings[0])
        pod.pop("priorityClassName")
        return [
            manifests.namespace(self._group),
            {"apiVersion": "v1", "kind": "PodTemplate", "metadata": dict(place), "template": {"spec": pod}},
            {
                "apiVersion": f"{BUFFER.group}/{BUFFER.version}",
                "kind": BUFFER.kind,
                "metadata": dict(place),
                "spec": {"podTemplateRef": {"name": self._group.object}, "replicas": 0},
            },
        ]


class NodePoolWay(CountedWay):
    """A NodePool of Karpenter with static capacity (feature gate StaticCapacity, alpha).

    When the count goes down Karpenter ends a node: empty ones first. So those that are to go are cordoned, looked at
    once more, and named first (`karpenter.sh/deprovisioning-priority`), before the count is written.
    """

    kind = POOL
    rules = (
        (False, POOL.group, POOL.plural, ("get", "patch")),
        (False, CLAIM.group, CLAIM.plural, ("list", "patch")),
        *_SEEN,
    )
    _node_goes = True

    def _counts(self, slot: Slot, busy: Collection[str]) -> bool:
        return True

    def _before_less(self, rooms: Sequence[SlotRoom]) -> None:
        cluster = self._open()
        names = [r.on for r in rooms if r.on]
        for name in names:
            cluster.apply_node(manifests.cordoned(name))
        try:
            refuse_work(cluster, names, self._group.where, "work came as it was to end; look again")
        except NodeBusyError:
            for name in names:
                cluster.apply_node(manifests.uncordoned(name))
            raise
        for claim in cluster.customs(CLAIM, f"{KARPENTER}={self._group.object}"):
            if (claim.get("status") or {}).get("nodeName") in names:
                cluster.patch_custom(CLAIM, claim, {"metadata": {"annotations": {GOES_FIRST: _FIRST}}})

    def _most(self, thing: Json) -> int | None:
        limit = (thing["spec"].get("limits") or {}).get("nodes")
        return None if limit is None else int(limit)

    def _taken(self, work: Mapping[str, Work]) -> set[str]:
        return set()

    def setup(self) -> list[Json]:
        """The namespace of the account only: a NodePool names a node class of your cloud, so it is yours to write."""
        return [manifests.namespace(self._group)]


def _replicas(thing: Json, group: KubernetesGroup) -> int:
    found = (thing.get("spec") or {}).get("replicas")
    if not isinstance(found, int):
        what = f"{thing.get('kind')} {group.object} has no spec.replicas"
        hint = "set it (0 will do); a NodePool can be given it only when it is made"
        raise PoolError(what, where=group.where, hint=hint)
    return found
