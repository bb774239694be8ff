"""The reservation ledger in memory, exact under threads."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from threading import RLock

from preprov.model.errors import OverbookedError, ReservationError
from preprov.model.reservations import Binding, Purpose, Quota, Reservation, ReservationState
from preprov.model.resources import Resources
from preprov.model.room import claim_of, fits, micros, must_be_there, must_take_room


def _wall() -> datetime:
    return datetime.now(UTC)


class MemoryLedger:
    """ReservationLedger in memory."""

    def __init__(self, now: Callable[[], datetime] = _wall) -> None:
        self._now = now
        self._rows: dict[str, Reservation] = {}
        self._over: dict[str, datetime] = {}
        self._live: dict[str, dict[tuple[str, str, str], str]] = {}
        self._gangs: dict[str, dict[str, None]] = {}
        self._lock = RLock()

    def reserve(self, reservation: Reservation, capacity: Resources | None = None) -> Reservation:
        """Add a soft claim, or return the live one of the same claimant."""
        held = self.reserve_all([reservation], capacity)[0]
        if not held.is_live:
            raise ReservationError(f"this reservation is {held.state}", where=held.reservation_id, hint="use a new id")
        return held

    def reserve_all(
        self, gang: Sequence[Reservation], capacity: Resources | None = None, quota: Quota | None = None
    ) -> tuple[Reservation, ...]:
        """Add soft claims, all or none."""
        for r in gang:
            if r.state is not ReservationState.SOFT:
                raise ReservationError(f"cannot reserve a {r.state} claim", where=r.reservation_id)
        with self._lock:
            if held := self._in_the_way(gang):
                return held
            if capacity is not None:
                _must_fit([*self._of(gang[0].pool), *gang], gang, capacity, gang[0].pool)
            if quota is not None:
                mine = [r for r in self._of(quota.pool) if r.tenant == quota.tenant and _is_held(r)]
                _must_fit([*mine, *(r for r in gang if _is_held(r))], gang, quota.limit, f"quota of {quota.tenant}")
            for r in gang:
                self._put(r)
            return tuple(gang)

    def get(self, reservation_id: str) -> tuple[Reservation, ...]:
        """One, or all of a gang."""
        with self._lock:
            if reservation_id in self._rows:
                return (self._rows[reservation_id],)
            return tuple(self._rows[i] for i in self._gangs.get(reservation_id, ()))

    def commit(self, reservation_id: str, node_id: str, allocatable: Resources, at: datetime) -> Reservation:
        """Bind to a node."""
        return self.commit_all([Binding(reservation_id, node_id, allocatable)], at)[0]

    def commit_all(
        self, bindings: Sequence[Binding], at: datetime, quota: Quota | None = None
    ) -> tuple[Reservation, ...]:
        """Bind to nodes, all or none."""
        nodes = {b.node_id: b.allocatable for b in bindings}
        with self._lock:
            bound = {b.reservation_id: self._get(b.reservation_id).commit(b.node_id, at) for b in bindings}
            changed = [r for i, r in bound.items() if r is not self._rows[i]]
            must_take_room(changed)
            after = {r.reservation_id: r for r in changed}
            for r in changed:
                self._use_up(r, after)
            if changed:
                others = [after.get(r.reservation_id, r) for r in self._of(changed[0].pool)]
                committed = [r for r in others if r.state is ReservationState.COMMITTED]
                if any(r.volume for r in changed):
                    _must_be_alone(committed)
                for node, allocatable in nodes.items():
                    mine = [r for r in changed if r.node_id == node]
                    if mine:
                        _must_fit([r for r in committed if r.node_id == node], mine, allocatable, node, at)
                if quota is not None:
                    of_tenant = [r for r in committed if r.tenant == quota.tenant]
                    _must_fit(of_tenant, changed, quota.limit, f"quota of {quota.tenant}")
            for r in after.values():
                self._put(r)
            return tuple(bound[b.reservation_id] for b in bindings)

    def _use_up(self, bound: Reservation, after: dict[str, Reservation]) -> None:
        if not bound.under:
            return
        holder = after.get(bound.under) or self._get(bound.under)
        if (holder.pool, holder.tenant) != (bound.pool, bound.tenant):
            raise ReservationError("it is under another tenant's reservation", where=bound.reservation_id)
        after[holder.reservation_id] = holder.used(bound.most, bound.start)

    def release(self, reservation_id: str, reason: str = "") -> Reservation:
        """Give back."""
        with self._lock:
            return self._put(self._get(reservation_id).release(reason))

    def resize(self, reservation_id: str, amount: Resources, allocatable: Resources, at: datetime) -> Reservation:
        """Let a committed task claim so much from now on."""
        with self._lock:
            before = self._get(reservation_id)
            after = before.resized(amount, at)
            if after is not before:
                others = [r for r in self._of(after.pool) if r.state is ReservationState.COMMITTED]
                on_node = [after if r is before else r for r in others if r.node_id == after.node_id]
                if not before.covers_resized(amount, at):
                    _must_fit(on_node, [after], allocatable, after.node_id or "", at)
                self._put(after)
            return after

    def grow(self, reservation_id: str, gib: float) -> Reservation:
        """A committed claim on a volume has so much now."""
        with self._lock:
            return self._put(self._get(reservation_id).grown(gib))

    def allot(
        self, reservation_id: str, node_id: str, amounts: Mapping[str, float], there: Mapping[str, float], at: datetime
    ) -> Reservation:
        """Bind a claim on units, or change what it has."""
        with self._lock:
            before = self._get(reservation_id)
            after = before.commit(node_id, at).allotted(amounts)
            if after is not before:
                others = [r for r in self._of(after.pool) if _is_beside(r, before)]
                must_be_there([after, *others], before, after, there)
                self._put(after)
            return after

    def rebook(self, reservation_id: str, expires_at: datetime, reason: str) -> Reservation:
        """Back to soft."""
        with self._lock:
            return self._put(self._get(reservation_id).rebook(expires_at, reason))

    def expire(self, pool: str, at: datetime) -> int:
        """Void soft claims whose time is over, and end what was held until now."""
        with self._lock:
            before = self._of(pool)
            after = [self._put(r.expire(at)) for r in before]
            return sum(1 for a, b in zip(before, after, strict=True) if a is not b)

    def reservations(
        self, pool: str | None = None, *, live: bool = True, node_id: str | None = None
    ) -> tuple[Reservation, ...]:
        """Reservations by start."""
        with self._lock:
            held = [self._live.get(pool, {})] if pool is not None else list(self._live.values())
            rows = [self._rows[i] for of in held for i in of.values()] if live else list(self._rows.values())
        found = [r for r in rows if pool in (None, r.pool) and node_id in (None, r.node_id)]
        return tuple(sorted(found, key=lambda r: (r.start, r.reservation_id)))

    def page(
        self,
        purposes: Collection[Purpose],
        *,
        limit: int,
        after: tuple[datetime, str] | None = None,
        tenant: str | None = None,
        pools: Sequence[str] = (),
        live: bool = True,
    ) -> tuple[tuple[Reservation, ...], ...]:
        """Some of the reservations by start, gangs whole."""
        gangs: dict[str, list[Reservation]] = {}
        with self._lock:
            for r in self._rows.values():
                wanted = r.purpose in purposes and tenant in (None, r.tenant) and (not pools or r.pool in pools)
                if wanted and (r.is_live or not live):
                    gangs.setdefault(f"gang {r.gang}" if r.gang else r.reservation_id, []).append(r)
        placed = ((_place(members), members) for members in gangs.values())
        rest = sorted((p for p in placed if after is None or p[0] > after), key=lambda p: p[0])
        return tuple(tuple(members) for _, members in rest[:limit])

    def forget(self, before: datetime, limit: int) -> int:
        """Drop some that were over before then."""
        with self._lock:
            done = 0
            for name in sorted(self._over, key=self._over.__getitem__):
                r = self._rows.get(name)
                members = list(self._gangs.get(r.gang, ())) if r is not None and r.gang else [name]
                if r is None or done >= limit or any(self._over.get(m, before) >= before for m in members):
                    continue
                for m in members:
                    del self._rows[m]
                self._gangs.pop(r.gang, None)
                done += len(members)
            self._over = {name: at for name, at in self._over.items() if name in self._rows}
            return done

    def _of(self, pool: str) -> list[Reservation]:
        return [self._rows[i] for i in self._live.get(pool, {}).values()]

    def _in_the_way(self, gang: Sequence[Reservation]) -> tuple[Reservation, ...]:
        if known := self.get(gang[0].gang or gang[0].reservation_id):
            return known
        for r in gang:
            if held := self._live.get(r.pool, {}).get(_claimant(r)):
                return self.get(self._rows[held].gang or held)
        return ()

    def _get(self, reservation_id: str) -> Reservation:
        held = self._rows.get(reservation_id)
        if held is None:
            raise ReservationError(f"no reservation {reservation_id}", hint="preprov reservation list")
        return held

    def _put(self, r: Reservation) -> Reservation:
        self._rows[r.reservation_id] = r
        if r.gang:
            self._gangs.setdefault(r.gang, {})[r.reservation_id] = None
        live = self._live.setdefault(r.pool, {})
        if r.is_live:
            live[_claimant(r)] = r.reservation_id
        elif live.get(_claimant(r)) == r.reservation_id:
            del live[_claimant(r)]
        if not r.is_live:
            self._over.setdefault(r.reservation_id, self._now())
        return r


def _place(members: Sequence[Reservation]) -> tuple[datetime, str]:
    first = min(members, key=lambda r: r.reservation_id)
    return first.start, first.reservation_id


def _claimant(r: Reservation) -> tuple[str, str, str]:
    return r.pool, r.tenant, r.claimant


def _is_beside(r: Reservation, of: Reservation) -> bool:
    same = r.units is not None and of.units is not None and r.units.kind == of.units.kind
    return same and r.state is ReservationState.COMMITTED and r is not of


def _is_held(r: Reservation) -> bool:
    return r.state is ReservationState.COMMITTED or r.purpose is not Purpose.TASK


def _must_be_alone(committed: Iterable[Reservation]) -> None:
    """At most one is on each volume."""
    held: set[str] = set()
    for r in committed:
        if r.volume is not None and r.volume.name in held:
            hint = "wait for its release: preprov reservation list"
            raise OverbookedError(f"volume {r.volume.name} is somebody else's", where=r.pool, hint=hint)
        held |= {r.volume.name} if r.volume is not None else set()


def _must_fit(
    claims: Iterable[Reservation],
    new: Sequence[Reservation],
    room: Resources,
    where: str,
    at: datetime | None = None,
) -> None:
    start, end = micros(min(r.start for r in new)), micros(max(r.end for r in new))
    wanted = [claim_of(r) for r in claims]
    if at is not None:
        wanted, end = [c.late(micros(at)) for c in wanted], max(end, micros(at) + 1)
    top = fits(wanted, start, end, room)
    if top is not None:
        raise OverbookedError(
            f"{new[0].claimant} does not fit: {top.as_dict()} of {room.as_dict()}",
            where=where,
            hint="another node or time",
        )
