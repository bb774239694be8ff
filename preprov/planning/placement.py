"""Which request goes on which node, how many nodes a demand needs, and why something fits nowhere."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from preprov.model.nodes import Node, Phase, PoolObservation
from preprov.model.offerings import Offering
from preprov.model.pools import Pool
from preprov.model.reservations import Reservation
from preprov.model.resources import KINDS, UNITS, ZERO, Resources
from preprov.planning.features import CONSTRAINT, meets, offered
from preprov.planning.held import foreign_by_node, held_by_node
from preprov.planning.packing import Mix, usable_of

Array: TypeAlias = NDArray[Any]

_DUST: Final = 1e-6
_MANY: Final = 10**6
_STRETCH: Final = 64


@dataclass(frozen=True, slots=True)
class NodeRoom:
    """What is free on a node that can take work now.

    Attributes:
        capacity: allocatable of the whole node: what could ever fit. labels: matched against affinity.
        preloaded: digests and dataset keys verified on its disk.
        foreign: what others have of it, beyond what is booked.
        lane: of its offering; requests of another lane look here last.
    """

    node_id: str
    free: Resources
    capacity: Resources
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    preloaded: frozenset[str] = frozenset()
    lane: int = 0
    foreign: Resources = ZERO


@dataclass(frozen=True, slots=True)
class PlacementRequest:
    """A claim that wants a node.

    Attributes:
        claimant: unique among the requests. gang: requests of one non-empty name are placed all or none.
        affinity: labels the node must have. preload: keys it would like to find on the disk. lane: see NodeRoom.
    """

    claimant: str
    amount: Resources
    gang: str = ""
    affinity: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    preload: frozenset[str] = frozenset()
    lane: int = 0


@dataclass(frozen=True, slots=True)
class Assignment:
    """claimant -> node id, and claimant -> why not (a sentence)."""

    placed: Mapping[str, str]
    unplaced: Mapping[str, str]


def nodes_for(
    demand: Array, offering: Offering, binding: Sequence[str] = KINDS, grain: Mix | Resources | None = None
) -> Array:
    """Nodes of one offering that hold a demand.

    Args:
        demand: (..., 5) amounts in the order of KINDS.
        binding: resources that limit how much fits on a node.
        grain: sizes of tasks: one, or a mix. Whole tasks must fit: where n of them fill a node, n times the task is
            all of it that can be used. None = demand is a liquid.

    Returns:
        (...) int64, the largest count over the binding resources. Where a resource is wanted that the offering has none
        of, a million: more than any cap allows.
    """
    usable = usable_capacity(offering, binding, grain)
    out = np.zeros(np.shape(demand)[:-1], dtype=np.float64)
    for name in binding:
        k = KINDS.index(name)
        have = usable[k]
        wanted = demand[..., k]
        if have > 0:
            np.maximum(out, wanted * (1.0 / have), out=out)
        else:
            np.maximum(out, np.where(wanted > _DUST, float(_MANY), 0.0), out=out)
    np.subtract(out, _DUST, out=out)
    np.ceil(out, out=out)
    return np.minimum(out, _MANY).astype(np.int64)


def usable_capacity(
    offering: Offering, binding: Sequence[str] = KINDS, grain: Mix | Resources | None = None
) -> tuple[float, ...]:
    """Allocatable amounts that whole tasks of size `grain` can use, in the order of KINDS.

    A grain that does not fit at all is ignored: it is for `misfit` to say so.
    """
    room = offering.allocatable
    amounts = room.as_tuple()
    if grain is None:
        return amounts
    if isinstance(grain, Mix):
        return usable_of(grain, offering, binding)
    fit = fit_count(grain, room, binding)
    if not 0 < fit < _MANY:
        return amounts
    # Only the resource that limits the count loses its remainder: the others serve other tasks.
    out = list(amounts)
    for name in binding:
        k = KINDS.index(name)
        want = grain.as_tuple()[k]
        if want > 0 and int(amounts[k] / want + _DUST) == fit:
            out[k] = fit * want
    return tuple(out)


def fit_count(request: Resources, room: Resources, binding: Iterable[str] = KINDS) -> int:
    """How many times a request fits into a room; a million if it wants nothing that binds."""
    best = float(_MANY)
    for name in binding:
        want, have = getattr(request, name), getattr(room, name)
        if want > 0:
            best = min(best, have / want)
    return int(best + _DUST)


def misfit(request: Resources, offerings: Iterable[Offering], binding: Iterable[str] = KINDS) -> str:
    """Why a request fits on none of the offerings; "" if it fits on one."""
    binding = tuple(binding)
    reasons = []
    for o in offerings:
        lacking = [k for k in binding if getattr(request, k) > getattr(o.allocatable, k) + _DUST]
        if not lacking:
            return ""
        reasons.append(f"{o.instance_type} has " + _amounts(o.allocatable, lacking))
    wanted = [k for k in binding if getattr(request, k) > 0]
    return f"wants {_amounts(request, wanted)}; " + ("; ".join(reasons) or "there is no offering")


OFFERING_LABELS: Final = ("instance_type", "zone", "group")
"""Labels that an offering tells beforehand; whatever else a node must have is only known of nodes."""


def holds(pool: Pool, group: str, offering: Offering, request: Resources, affinity: Mapping[str, str]) -> bool:
    """True if an empty node of the offering holds the request and has the labels, as far as they are known."""
    known = {"instance_type": offering.instance_type, "zone": offering.zone, "group": group}
    if any(known[k] != v for k, v in affinity.items() if known.get(k)):
        return False
    if affinity.get(CONSTRAINT) and not meets(pool, group, affinity[CONSTRAINT]):
        return False
    return request.fits_in(offering.allocatable, tuple(pool.binding))


def why_nowhere(pool: Pool, request: Resources, affinity: Mapping[str, str] = MappingProxyType({})) -> str:
    """Why a request fits on none of a pool's offerings, in a sentence; "" if it fits on one."""
    places = [(g, o) for g in pool.groups for o in g.offerings]
    if any(holds(pool, g.name, o, request, affinity) for g, o in places):
        return ""
    labelled = [o for g, o in places if holds(pool, g.name, o, ZERO, affinity)]
    wanted = ", ".join(f"{k}={v}" for k, v in sorted(affinity.items()))
    if not labelled:
        told = CONSTRAINT in affinity
        have = "; ".join(
            f"{o.instance_type} in {o.zone or 'any zone'} of group {g.name}{_features(pool, g.name) if told else ''}"
            for g, o in places
        )
        return f"must be on a node with {wanted}; there is {have}"
    return misfit(request, labelled, pool.binding) + (f" among those with {wanted}" if affinity else "")


def _features(pool: Pool, group: str) -> str:
    found = offered(pool, group)
    if found is None:
        return ""
    return f" with {', '.join(sorted(found))}" if found else " without features"


def labels_of(node: Node) -> Mapping[str, str]:
    """What affinity is matched against."""
    o = node.offering
    return {**node.tags, "instance_type": o.instance_type, "zone": o.zone, "group": node.group}


def rooms_of(observation: PoolObservation, reservations: Iterable[Reservation]) -> tuple[NodeRoom, ...]:
    """Rooms of the READY nodes, fullest first so that first fit packs tightly and leaves idle nodes idle.

    Args:
        observation: with what others run on its nodes. reservations: COMMITTED ones take their peak from their node;
            others are ignored.
    """
    reservations = tuple(reservations)
    used, foreign = held_by_node(reservations, observation.at), foreign_by_node(observation, reservations)
    rooms = []
    for n in observation.in_phase(Phase.READY):
        whole, others = n.offering.allocatable, foreign.get(n.node_id, ZERO)
        taken = used.get(n.node_id, ZERO) + others
        room = NodeRoom(
            n.node_id, whole.minus_clamped(taken), whole, labels_of(n), n.preloaded, foreign=others.minimum(whole)
        )
        rooms.append((-min(taken.share_of(whole, ("cpu", "memory")), 1.0), not n.is_busy, n.node_id, room))
    return tuple(r[-1] for r in sorted(rooms, key=lambda r: r[:3]))


def first_fit(
    requests: Sequence[PlacementRequest], rooms: Sequence[NodeRoom], binding: Sequence[str] = KINDS
) -> Assignment:
    """Place requests in the order given; among nodes that fit: own lane, most of the preload present, room order.

    Runs of like requests are placed at once, so thousands of instances of a task cost as much as one. A request that
    does not fit is passed over; later ones may still find room.
    """
    board = _Board(rooms, tuple(binding))
    placed: dict[str, str] = {}
    unplaced: dict[str, str] = {}
    for batch in _batches(requests):
        nodes = board.place(batch)
        gang = batch[0].gang
        if gang and (None in nodes):
            board.undo(nodes, batch)
            why = f"the gang {gang} needs room for {len(batch)} at once; {sum(n is not None for n in nodes)} fit"
            unplaced.update((r.claimant, board.why(r) if not board.could_fit(r) else why) for r in batch)
            continue
        reason = ""
        for request, row in zip(batch, nodes, strict=True):
            if row is None:
                reason = reason or board.why(request)
                unplaced[request.claimant] = reason
            else:
                placed[request.claimant] = rooms[row].node_id
    return Assignment(placed, unplaced)


def _batches(requests: Sequence[PlacementRequest]) -> list[list[PlacementRequest]]:
    """Whole gangs at the place of their first member; else runs of neighbours that differ in name only."""
    gangs: dict[str, list[PlacementRequest]] = {}
    out: list[list[PlacementRequest]] = []
    for r in requests:
        if r.gang:
            if r.gang not in gangs:
                gangs[r.gang] = []
                out.append(gangs[r.gang])
            gangs[r.gang].append(r)
        elif out and not out[-1][0].gang and _alike(out[-1][0], r):
            out[-1].append(r)
        else:
            out.append([r])
    return out


def _alike(a: PlacementRequest, b: PlacementRequest) -> bool:
    return a.amount == b.amount and a.preload == b.preload and a.affinity == b.affinity and a.lane == b.lane


def _kind(r: PlacementRequest) -> tuple[object, ...]:
    return (r.amount, r.preload, tuple(sorted(r.affinity.items())), r.lane)


class _Line:
    """The rooms in the order in which one kind of request looks at them, and where it has got to.

    Room only ever shrinks while requests are placed, so what lies behind the cursor never needs another look.
    """

    def __init__(self, want: Array, rows: Array) -> None:
        self.want = want
        self.rows = rows
        self.cursor = 0


class _Board:
    """Free amounts of all rooms as one matrix (N, B)."""

    def __init__(self, rooms: Sequence[NodeRoom], binding: tuple[str, ...]) -> None:
        self.rooms = rooms
        self.binding = binding
        self.free = np.array([[getattr(r.free, k) for k in binding] for r in rooms]).reshape(len(rooms), len(binding))
        self.whole = np.array([[getattr(r.capacity, k) for k in binding] for r in rooms]).reshape(self.free.shape)
        self._masks: dict[tuple[tuple[str, str], ...], Array] = {}
        self._lines: dict[object, _Line] = {}
        self._reasons: dict[object, str] = {}

    def place(self, batch: list[PlacementRequest]) -> list[int | None]:
        """Row of each request, taken from the board; None where there is no room."""
        if all(_alike(batch[0], r) for r in batch[1:]):
            return self._place_alike(batch[0], len(batch))
        return [row for r in batch for row in self._place_alike(r, 1)]

    def undo(self, rows: list[int | None], batch: list[PlacementRequest]) -> None:
        """Give back what a gang had taken."""
        for row, r in zip(rows, batch, strict=True):
            if row is not None:
                self.free[row] += self._want(r)
        for line in self._lines.values():
            line.cursor = 0

    def could_fit(self, r: PlacementRequest) -> bool:
        """True if some node that matches would hold it when empty."""
        fits = (self.whole + _DUST >= self._want(r)).all(axis=1) & self._mask(r)
        return bool(fits.any())

    def why(self, r: PlacementRequest) -> str:
        """One sentence on why there is no room."""
        key = _kind(r)
        if key not in self._reasons:
            self._reasons[key] = self._explain(r)
        return self._reasons[key]

    def _explain(self, r: PlacementRequest) -> str:
        if not self.rooms:
            return "no node is ready"
        mask = self._mask(r)
        if not mask.any():
            return "no ready node has the labels " + ", ".join(f"{k}={v}" for k, v in sorted(r.affinity.items()))
        top = self.whole[mask].max(axis=0)
        short = [k for j, k in enumerate(self.binding) if getattr(r.amount, k) > top[j] + _DUST]
        if short:
            biggest = Resources.of({k: float(top[self.binding.index(k)]) for k in short})
            return f"wants {_amounts(r.amount, short)}; the largest ready node has {_amounts(biggest, short)}"
        if not self.could_fit(r):
            return f"no ready node has {_amounts(r.amount, self.binding)} together"
        return f"{int(mask.sum())} ready nodes have no room for {_amounts(r.amount, self.binding)} now"

    def _want(self, r: PlacementRequest) -> Array:
        return np.array([getattr(r.amount, k) for k in self.binding])

    def _place_alike(self, r: PlacementRequest, n: int) -> list[int | None]:
        line = self._line(r)
        if n == 1:
            return [self._place_one(line)]
        ahead = line.rows[line.cursor :]
        slots = self._slots(line.want, ahead, n)
        before = np.cumsum(slots) - slots
        take = np.clip(n - before, 0, slots)
        self.free[ahead] -= take[:, None] * line.want
        out: list[int | None] = [int(i) for i in np.repeat(ahead, take)]
        # The last room taken from may have more; the ones before it are full for this kind.
        line.cursor += int(np.flatnonzero(take)[-1]) if len(out) == n else len(ahead)
        return out + [None] * (n - len(out))

    def _place_one(self, line: _Line) -> int | None:
        """The next room that fits, looked for in stretches: it is mostly near."""
        while line.cursor < len(line.rows):
            ahead = line.rows[line.cursor : line.cursor + _STRETCH]
            fits: Array = np.all(self.free[ahead] + _DUST >= line.want, axis=1)
            i = int(fits.argmax())
            if fits[i]:
                line.cursor += i
                row = int(ahead[i])
                self.free[row] -= line.want
                return row
            line.cursor += len(ahead)
        return None

    def _slots(self, want: Array, rows: Array, n: int) -> Array:
        """How many of them each room holds, at most n."""
        positive = want > 0
        if not positive.any():
            return np.full(len(rows), n, dtype=np.int64)
        slots = np.floor((self.free[rows][:, positive] + _DUST) / want[positive]).min(axis=1)
        out: Array = np.clip(slots, 0, n).astype(np.int64)
        return out

    def _line(self, r: PlacementRequest) -> _Line:
        key = _kind(r)
        line = self._lines.get(key)
        if line is None:
            order = self._order(r)
            line = self._lines[key] = _Line(self._want(r), order[self._mask(r)[order]])
        return line

    def _mask(self, r: PlacementRequest) -> Array:
        key = tuple(sorted(r.affinity.items()))
        if key not in self._masks:
            self._masks[key] = np.array(
                [all(room.labels.get(k) == v for k, v in key) for room in self.rooms], dtype=bool
            )
        return self._masks[key]

    def _order(self, r: PlacementRequest) -> Array:
        """Rows of its own lane first, then by how much of the preload is present, room order within."""
        hits = np.array([len(r.preload & room.preloaded) for room in self.rooms], dtype=np.int64)
        strange = np.array([room.lane != r.lane for room in self.rooms], dtype=bool)
        order: Array = np.lexsort((-hits, strange))
        return order


def _amounts(r: Resources, names: Iterable[str]) -> str:
    return ", ".join(f"{getattr(r, k):g} {UNITS[k]} of {k}" if k != "cpu" else f"{r.cpu:g} cores" for k in names)
