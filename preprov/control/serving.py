"""Serve places that run work on a pool's nodes: their limits follow what is warm, a worker runs on each warm node."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

import structlog

from preprov.contracts import PlaceSeen, PutsBack, Serves
from preprov.control.context import Context
from preprov.control.observing import observe
from preprov.control.trust import in_force
from preprov.control.workers import GONE_FOR, Memory, have_worker, memory_of, others_on, say_farewell
from preprov.model.adoption import Adoption
from preprov.model.errors import PoolError
from preprov.model.nodes import Node, Phase, PoolObservation
from preprov.model.plans import Action, ActionKind, ActionRecord, stable_id
from preprov.model.pools import Mode, Pool
from preprov.model.reservations import Purpose, Reservation, ReservationState
from preprov.model.resources import ZERO, Resources
from preprov.planning.slots import Room, limit, slots, slots_of

log = structlog.get_logger(__name__)

_BACK_OFF: Final = timedelta(seconds=5)
"""A place that did not answer is left alone for so long, and twice as long each time, up to the longest."""
_LONGEST: Final = timedelta(minutes=1)


@dataclass(frozen=True)
class Served:
    """What a place is to be, beside what it is.

    Attributes:
        wanted: setting -> value. changes: those of them that differ. nodes: warm ones. slots: of all of them.
    """

    place: Serves
    seen: PlaceSeen
    slots: int
    nodes: tuple[str, ...]
    wanted: Mapping[str, object]

    @property
    def changes(self) -> dict[str, object]:
        """What differs."""
        return {k: v for k, v in self.wanted.items() if self.seen.settings.get(k) != v}


def serve(
    ctx: Context, pool: Pool, observation: PoolObservation, records: Iterable[ActionRecord] = ()
) -> tuple[ActionRecord, ...]:
    """One round for each place of the pool: workers on warm nodes, then limits, as far as the pool's mode allows.

    Args:
        ctx: the context.
        pool: the pool.
        observation: what exists now.
        records: what this pass has done: nodes that were put away are no longer warm.

    A place that does not answer is asked again later, and stays as it is. In mode observe none is asked.
    """
    places = ctx.served.get(pool.name, ())
    if not places or not ctx.live:
        return ()
    mode = in_force(ctx, pool)
    if mode is Mode.OBSERVE or ctx.ports.intent.halted():
        return ()
    gone = {i for r in records if r.result == "done" and not r.action.kind.raises for i in r.node_ids}
    warm = [n for n in _warm(ctx, pool, observation) if n.node_id not in gone]
    return tuple(r for place in places for r in _serve(ctx, pool, place, warm, mode))


def _warm(ctx: Context, pool: Pool, observation: PoolObservation) -> list[Node]:
    drained = ctx.ports.intent.drains(pool.name)
    return [n for n in observation.in_phase(Phase.READY) if "*" not in drained and n.node_id not in drained]


def _serve(ctx: Context, pool: Pool, place: Serves, warm: list[Node], mode: Mode) -> list[ActionRecord]:
    memory, now = memory_of(ctx, place), ctx.clock.now()
    memory.left = {n: at for n, at in memory.left.items() if n in memory.on or now - at < GONE_FOR}
    stay = [n for n in warm if n.node_id not in memory.left]
    if place.service.workers and mode in (Mode.FLOOR, Mode.FULL):
        for node in stay:
            have_worker(ctx, pool, place, memory, node)
    rooms = _rooms(ctx, pool, stay)
    ready = tuple(sorted((n, slots_of(r.free, place.service.run)) for n, r in rooms.items()))
    if memory.next is not None and now < memory.next and (ready == memory.ready or memory.seen is None):
        return []
    memory.next = now + timedelta(seconds=place.service.every_s)
    try:
        memory.seen = place.look()
        memory.ready = ready
        done = _follow(ctx, pool, served(place, memory.seen, rooms, mode), mode, memory)
        memory.fails = 0
        return done
    except PoolError as e:
        memory.seen, memory.next = None, now + min(_BACK_OFF * 2 ** min(memory.fails, 10), _LONGEST)
        memory.fails += 1
        log.warning("a place could not be served", pool=pool.name, place=place.service.name, problem=str(e))
        return []


def served(place: Serves, seen: PlaceSeen, rooms: Mapping[str, Room], mode: Mode) -> Served:
    """What a place is to be.

    Where it has workers of its own its runs may well be what others see as foreign: a limit that took them for
    somebody else's would fall with every run that begins.

    Args:
        place: the place. seen: as it is.
        rooms: warm nodes by name.
        mode: of the pool; floor only raises.
    """
    service = place.service
    strange = 0 if service.workers else max(seen.held.values(), default=0)
    total = slots(rooms.values(), service.run, service.least, service.most, among_others=strange)
    wanted: dict[str, object] = dict(service.fills)
    for name, share in service.shares.items():
        now = seen.settings.get(name)
        found = now if isinstance(now, int) else None
        wanted[name] = limit(found, total, share, seen.held.get(name, 0), lowers=mode is not Mode.FLOOR)
    return Served(place, seen, total, tuple(sorted(rooms)), wanted)


def rooms_of(ctx: Context, pool: Pool, observation: PoolObservation) -> dict[str, Room]:
    """What of each warm node is not taken, by tasks that preprov itself has placed there or by others."""
    return _rooms(ctx, pool, _warm(ctx, pool, observation))


def _rooms(ctx: Context, pool: Pool, nodes: Iterable[Node]) -> dict[str, Room]:
    taken: dict[str, Resources] = {}
    now = ctx.clock.now()
    for r in ctx.ports.ledger.reservations(pool.name):
        if _is_task(r):
            taken[r.node_id or ""] = taken.get(r.node_id or "", ZERO) + r.most_after(now)
    others = others_on(ctx, pool)
    out: dict[str, Room] = {}
    for n in nodes:
        unclaimed = pool.claimable(n.offering).minus_clamped(taken.get(n.node_id, ZERO))
        out[n.node_id] = Room(unclaimed, unclaimed.minus_clamped(others.get(n.node_id, ZERO)))
    return out


def _is_task(r: Reservation) -> bool:
    return r.purpose is Purpose.TASK and r.state is ReservationState.COMMITTED and r.node_id is not None


def _follow(ctx: Context, pool: Pool, found: Served, mode: Mode, memory: Memory) -> list[ActionRecord]:
    changes = found.changes
    if mode is Mode.RECOMMEND:
        if not changes or memory.told == changes:
            return []
        memory.told = changes
        return [_record(ctx, pool, found, changes, "recommended", "mode is recommend")]
    if changes:
        _adopt(ctx, pool, found.place, found.seen)
    _hold_lease(ctx, pool, found.place)
    if not changes:
        return []
    found.place.write(changes)
    memory.seen = replace(found.seen, settings={**found.seen.settings, **changes})
    return [_record(ctx, pool, found, changes, "done", "")]


def _hold_lease(ctx: Context, pool: Pool, place: Serves) -> None:
    """Before a limit is changed, and at every look as long as it is: if we are gone it is put back as it was found."""
    held = ctx.ports.adoptions.in_force(pool.name).get(group_of(place))
    if held is not None and isinstance(place, PutsBack):
        place.hold_lease({k: v for k, v in held.baseline.items() if k in place.service.shares})


def _record(
    ctx: Context, pool: Pool, found: Served, changes: Mapping[str, object], result: str, detail: str
) -> ActionRecord:
    now, was = ctx.clock.now(), found.seen.settings
    said = "; ".join(f"{k} {_shown(was.get(k))} -> {_shown(v)}" for k, v in sorted(changes.items()))
    reason = f"{found.place.service.name} follows {len(found.nodes)} warm nodes, {found.slots} slots"
    record = _noted(ctx, pool, stable_id(pool.name, "serve", said, now.isoformat()), reason, result, detail or said)
    log.info("served", pool=pool.name, place=found.place.service.name, result=result, changes=said)
    return record


def _noted(ctx: Context, pool: Pool, action_id: str, reason: str, result: str, detail: str) -> ActionRecord:
    now = ctx.clock.now()
    action = Action(action_id, ActionKind.HOLD, now, pool.groups[0].name, 0, reason)
    record = ActionRecord(action, pool.name, "", ctx.actor, now, result, detail)
    ctx.ports.audit.record(record)
    return record


def _shown(value: object) -> str:
    return "none" if value is None else str(value)


# ------------------------------------------------------------------ as it was


def group_of(place: Serves) -> str:
    """Under which name the settings of a place are recorded, beside the pool's groups."""
    return f"serve {place.service.name}"


def _adopt(ctx: Context, pool: Pool, place: Serves, seen: PlaceSeen) -> None:
    """Record what is there before the first write; a setting that is served only since later is added."""
    held = ctx.ports.adoptions.in_force(pool.name).get(group_of(place))
    missing = seen.settings.keys() - (held.baseline.keys() if held else ())
    if held is not None and missing:
        ctx.ports.adoptions.release(pool.name, group_of(place), ctx.clock.now())
    if held is None or missing:
        baseline = {**seen.settings, **(held.baseline if held else {})}
        ctx.ports.adoptions.adopt(Adoption(pool.name, group_of(place), baseline, ctx.clock.now(), ctx.actor))


@dataclass(frozen=True)
class PlaceGivenBack:
    """What came of giving a place back: lines said, settings that still differ, why it could not be done."""

    name: str
    said: tuple[str, ...] = ()
    differs: Mapping[str, tuple[object, object]] = field(default_factory=dict)
    error: str = ""


def give_places_back(ctx: Context, pool: Pool) -> tuple[PlaceGivenBack, ...]:
    """Settings as they were found, and every worker asked to leave; what was never written is left alone."""
    out = []
    places = ctx.served.get(pool.name, ())
    if places:
        observe(ctx, pool)
    for place in places:
        memory = memory_of(ctx, place)
        for node_id, serial in list(memory.on.items()):
            memory.left[node_id] = ctx.clock.now()
            say_farewell(ctx, pool, place, node_id, serial)
        held = ctx.ports.adoptions.in_force(pool.name).get(group_of(place))
        if held is not None:
            out.append(_give_back(ctx, pool, place, held))
    return tuple(out)


def _give_back(ctx: Context, pool: Pool, place: Serves, held: Adoption) -> PlaceGivenBack:
    name, now = group_of(place), ctx.clock.now()
    reason, action_id = f"{name} is given back as it was found", stable_id(pool.name, "given back", name, str(now))
    try:
        seen = place.look()
        changes = {k: v for k, v in held.baseline.items() if seen.settings.get(k) != v and k in seen.settings}
        if changes:
            place.write(changes)
        if isinstance(place, PutsBack):
            place.end_lease()
        after = place.look().settings
    except PoolError as e:
        _noted(ctx, pool, action_id, reason, "failed", str(e))
        return PlaceGivenBack(name, error=str(e))
    said = tuple(f"{k} {_shown(seen.settings.get(k))} -> {_shown(v)}" for k, v in sorted(changes.items()))
    differs = {k: (v, after.get(k)) for k, v in held.baseline.items() if after.get(k) != v}
    _noted(ctx, pool, action_id, reason, "done", "; ".join(said))
    return PlaceGivenBack(name, said, differs)
