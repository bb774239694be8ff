"""Unlike tasks on unlike nodes: work that only some offerings hold is planned on those, in a lane of its own.

One offering for all would have to hold the largest task: a few tasks with a GPU would put every task on GPU nodes. So
kinds of tasks are parted where that is cheaper: those that a cheap offering holds, and the rest, which is parted again.
Lanes of a pool are planned together, like pools that share limits.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from preprov.model.limits import SharedLimit
from preprov.model.nodes import Node, PoolObservation
from preprov.model.offerings import Offering
from preprov.model.pools import Group, Pool
from preprov.model.reservations import Reservation
from preprov.model.resources import ZERO, Resources
from preprov.planning.inputs import Lane, PlanInputs, SharedRoom
from preprov.planning.packing import Kind, Mix, usable_of
from preprov.planning.placement import holds

Key: TypeAlias = tuple[str, str]
Usd: TypeAlias = Callable[[Offering], float | None]

WORTH: Final = 0.95
"""A parting has to cost less than this share of what one offering for all would."""
_MOST_LANES: Final = 4
_NO_NODE: Final = 1e12


@dataclass(frozen=True)
class LaneShape:
    """Kinds of tasks and the offerings, as (group, key), on which they are planned; the first is the cheapest.

    Attributes:
        rank: a task belongs to the lane of lowest rank whose first offering holds it.
    """

    kinds: tuple[Kind, ...]
    offerings: tuple[Key, ...]
    rank: int = 0


@dataclass(frozen=True)
class _Place:
    """An offering in its group; `usd` of a running hour, 1 where no price is known."""

    group: Group
    offering: Offering
    usd: float

    @property
    def key(self) -> Key:
        return (self.group.name, self.offering.key)


def lanes_of(pool: Pool, kinds: Sequence[Kind], usd: Usd) -> tuple[LaneShape, ...]:
    """The lanes of a pool, the one that most of its work is in first; one lane if parting would not pay.

    Tasks that must be on nodes with labels that some have not are parted from the rest in any case.

    Args:
        kinds: of tasks, with how much of each runs side by side. usd: price of a running hour; None = not known.
    """
    places = [_Place(g, o, 1.0 if (p := usd(o)) is None else p) for g in pool.groups for o in _choosable(g)]
    fitting = [k for k in kinds if any(_holds(pool, p, k) for p in places)]
    parted = _divide(pool, fitting, places, _MOST_LANES)[1]
    if len(parted) < 2:
        like = [p for p in places if all(_labelled(pool, p, k) for k in fitting)]
        parted = _divide(pool, fitting, places, _MOST_LANES, apart=True)[1] if len(like) < len(places) else parted
    if len(parted) < 2:
        rest = [p.key for p in places if p not in like] if like else []
        main = LaneShape(tuple(fitting), tuple(p.key for p in places if p.key not in rest))
        return (main, LaneShape((), tuple(rest), 1)) if rest else (main,)
    ranked = sorted(enumerate(parted), key=lambda part: -sum(k.count * k.request.cpu for k in part[1][0]))
    parted = [part for _, part in ranked]
    own: list[list[Key]] = [[best.key] for _, best in parted]
    taken = {best.key for _, best in parted}
    for place in (p for p in places if p.key not in taken):
        # Every other offering goes where it is nearest to the best, among the lanes all of whose tasks it holds.
        dearer = [_cost(pool, ks, place) / max(_cost(pool, ks, best), 1e-12) for ks, best in parted]
        own[dearer.index(min(dearer))].append(place.key)
    return tuple(LaneShape(tuple(ks), tuple(keys), rank) for (rank, (ks, _)), keys in zip(ranked, own, strict=True))


def lane_of(pool: Pool, shapes: Sequence[LaneShape], request: Resources, affinity: Mapping[str, str]) -> int | None:
    """Position of the lane that a task belongs to; None if it fits nowhere."""
    for i in sorted(range(len(shapes)), key=lambda i: shapes[i].rank):
        group, key = shapes[i].offerings[0]
        offering = next(o for o in pool.group(group).offerings if o.key == key)
        if holds(pool, group, offering, request, affinity):
            return i
    places = [(g, o) for g in pool.groups for o in g.offerings]
    fitting = {(g.name, o.key) for g, o in places if holds(pool, g.name, o, request, affinity)}
    return next((i for i, shape in enumerate(shapes) if fitting & set(shape.offerings)), None)


def _choosable(group: Group) -> tuple[Offering, ...]:
    """What a launch may name; a group that chooses by itself is as good as the least of what it has."""
    if group.chooses_offering:
        return group.offerings
    return (min(group.offerings, key=lambda o: (o.allocatable.gpu, o.allocatable.cpu, o.allocatable.memory)),)


def _divide(
    pool: Pool, kinds: Sequence[Kind], places: Sequence[_Place], most: int, *, apart: bool = False
) -> tuple[float, list[tuple[list[Kind], _Place]]]:
    """(USD per hour, kinds and the offering for them) of the cheapest way with at most so many lanes.

    Args:
        apart: one lane for all is taken only where there is no other way.
    """
    whole = [(_cost(pool, kinds, p), i) for i, p in enumerate(places)]
    cost, at = min(whole, default=(_NO_NODE, 0))
    best: tuple[float, list[tuple[list[Kind], _Place]]] = (
        _NO_NODE if apart else cost,
        [(list(kinds), places[at])] if places else [],
    )
    if most < 2:
        return best
    for p in places:
        general = [k for k in kinds if _holds(pool, p, k)]
        rest = [k for k in kinds if not _holds(pool, p, k)]
        if not general or not rest:
            continue
        rest_cost, rest_lanes = _divide(pool, rest, [x for x in places if x is not p], most - 1)
        total = _cost(pool, general, p) + rest_cost
        if total < WORTH * best[0]:
            best = (total, [(general, p), *rest_lanes])
    return best


def _cost(pool: Pool, kinds: Sequence[Kind], place: _Place) -> float:
    """USD per hour of the nodes of one offering that hold the kinds as they run side by side."""
    mix = Mix.of(kinds)
    if mix is None:
        return 0.0
    if not all(_holds(pool, place, k) for k in kinds):
        return _NO_NODE
    usable, total = usable_of(mix, place.offering, pool.binding), mix.total
    nodes = max(
        (getattr(total, k) / max(usable[i], 1e-12) for i, k in enumerate(total.as_dict()) if k in pool.binding),
        default=0.0,
    )
    return place.usd * nodes


def _holds(pool: Pool, place: _Place, kind: Kind) -> bool:
    return holds(pool, place.group.name, place.offering, kind.request, kind.affinity)


def _labelled(pool: Pool, place: _Place, kind: Kind) -> bool:
    """True if the offering has the labels that such tasks want, whether or not it is large enough."""
    return holds(pool, place.group.name, place.offering, ZERO, kind.affinity)


# --------------------------------------------------------------------------- inputs of the lanes


def split(inputs: PlanInputs) -> list[PlanInputs]:
    """The inputs of each lane, the main one first; the inputs as they are if there is one."""
    if not inputs.lanes:
        return [inputs]
    pool = inputs.pool
    keys = {(g.name, o.key) for g in pool.groups for o in g.offerings}
    special: set[Key] = set().union(*(lane.offerings for lane in inputs.lanes))
    shares = [("", frozenset(keys - special)), *((lane.name, lane.offerings) for lane in inputs.lanes)]
    home = _homes(pool, shares)
    nodes = {name: [n for n in inputs.observation.nodes if _lane_of(n, home) == name] for name, _ in shares}
    rooms = (*inputs.shared, *_rooms(pool, shares))
    first: set[str] = set()
    out = []
    for i, (name, mine) in enumerate(shares):
        groups = _groups(pool, mine, first)
        first |= {g.name for g in groups}
        lane = inputs.lanes[i - 1] if i else None
        out.append(_of_lane(inputs, name, groups, tuple(nodes[name]), rooms, lane))
    return out


def _of_lane(
    inputs: PlanInputs,
    name: str,
    groups: tuple[Group, ...],
    nodes: tuple[Node, ...],
    rooms: tuple[SharedRoom, ...],
    lane: Lane | None,
) -> PlanInputs:
    """Floors, booked capacity and money spent are the main lane's to know of; each knows its own nodes."""
    pool, seen = inputs.pool, inputs.observation
    observation = PoolObservation(seen.pool, seen.at, nodes, seen.complete, seen.problems)
    here = {n.node_id for n in nodes}
    elsewhere = {n.node_id for n in seen.nodes} - here
    if lane is None:
        return replace(
            inputs,
            pool=replace(pool, groups=groups),
            observation=observation,
            committed=tuple(r for r in inputs.committed if r.node_id not in elsewhere),
            shared=rooms,
            lanes=(),
            lane=name,
            held=inputs.held,
        )
    held = None if inputs.held is None else inputs.held.others.get(name)
    return replace(
        inputs,
        pool=replace(pool, groups=groups, floors=()),
        observation=observation,
        demand=lane.demand,
        committed=_on(inputs.committed, here),
        overrides=(),
        waiting=lane.waiting,
        wave=lane.wave,
        largest=lane.largest,
        grain=lane.grain,
        spent_today_usd=0.0,
        urgency=None,
        shared=rooms,
        lanes=(),
        lane=name,
        held=held,
    )


def _on(committed: Sequence[Reservation], nodes: set[str]) -> tuple[Reservation, ...]:
    return tuple(r for r in committed if r.node_id in nodes)


def _groups(pool: Pool, mine: frozenset[Key], before: set[str]) -> tuple[Group, ...]:
    """The groups with the offerings of this lane; a minimum is kept by the first lane that a group is in."""
    out = []
    for g in pool.groups:
        offerings = tuple(o for o in g.offerings if (g.name, o.key) in mine)
        if not g.chooses_offering and offerings:
            offerings = g.offerings
        if offerings:
            out.append(replace(g, offerings=offerings, min_nodes=0 if g.name in before else g.min_nodes))
    return tuple(out)


def _homes(pool: Pool, shares: Sequence[tuple[str, frozenset[Key]]]) -> Mapping[Key, str]:
    """(group, offering key) -> lane, and (group, "") -> the first lane that has the group."""
    home: dict[Key, str] = {}
    for name, mine in shares:
        for group, key in sorted(mine):
            home[(group, key)] = name
            home.setdefault((group, ""), name)
            if not pool.group(group).chooses_offering:
                home.update({(group, o.key): name for o in pool.group(group).offerings})
    return home


def _lane_of(node: Node, home: Mapping[Key, str]) -> str:
    """The lane of its offering; of one that is not configured any more, the first with its group; else the main one."""
    return home.get((node.group, node.offering.key)) or home.get((node.group, ""), "")


def _rooms(pool: Pool, shares: Sequence[tuple[str, frozenset[Key]]]) -> tuple[SharedRoom, ...]:
    """What the lanes share: the pool's guards, and groups that several are in."""
    guards = pool.guards
    everything = frozenset((pool.name, g.name) for g in pool.groups)
    money = frozenset() if guards.max_usd_per_day is None else frozenset({pool.name})
    limits = [SharedLimit(f"pool {pool.name}", everything, guards.max_nodes, None, money, guards.max_usd_per_day)]
    for g in pool.groups:
        if sum(any(group == g.name for group, _ in mine) for _, mine in shares) > 1:
            limits.append(SharedLimit(f"group {g.name}", frozenset({(pool.name, g.name)}), g.max_nodes))
    return tuple(SharedRoom(limit) for limit in limits)
