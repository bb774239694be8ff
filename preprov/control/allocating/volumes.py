"""Storage volumes: disks with a name that outlive nodes; each is its one claimant's, on one node at a time."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import structlog

from preprov.contracts import Allocatable, Holding, KeepsVolumes, NewVolume, Unit, Volume
from preprov.control.allocating.machines import must_take
from preprov.control.context import Context
from preprov.model.errors import ConflictError, NotFoundError, PoolError, RefusedError, ReservationError
from preprov.model.nodes import Node
from preprov.model.pools import UNLIMITED, Pool
from preprov.model.reservations import Purpose, Reservation, ReservationState, WantedVolume
from preprov.model.resources import KINDS, Resources

log = structlog.get_logger(__name__)

_ANY: Final = Resources.of({k: UNLIMITED for k in KINDS})
"""It takes no room of its node."""
_EPS: Final = 1e-9


class Volumes:
    """Volumes of a pool, of all its providers that have any.

    Nothing is made before it is allocated. Who waits for a volume that another has is given it after its release.
    """

    kind = "volume"

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    def observe(self, pool: Pool) -> tuple[Unit, ...]:
        """As the contract says; those that are only claimed so far are among them."""
        claims: dict[str, list[Reservation]] = {}
        for r in self._ctx.ports.ledger.reservations(pool.name):
            if r.volume is not None:
                claims.setdefault(r.volume.name, []).append(r)
        seen: dict[str, Volume] = {}
        blind = ""
        for keeper in self._keepers(pool):
            try:
                seen |= {v.name: v for v in keeper.volumes(pool)}
            except PoolError as e:
                log.warning("volumes cannot be listed", pool=pool.name, why=str(e))
                blind = f"not seen: {e.what}"
        return tuple(_unit(pool, n, claims.get(n, ()), seen.get(n), blind) for n in sorted({*claims, *seen}))

    def reserve(self, pool: Pool, claim: Reservation) -> Reservation:
        """As the contract says; refused where nothing has volumes, or if it is another tenant's."""
        wanted = _wanted(claim)
        if not any(self._keepers(pool)):
            raise RefusedError(f"nothing of pool {pool.name} has volumes", where=pool.name, hint="local and aws do")
        found = self._find(pool, wanted.name)
        if found is not None:
            _must_be_of(claim.tenant, found[1])
        held = self._ctx.ports.ledger.reserve(claim)
        if held.volume is None or held.volume.name != wanted.name:
            hint = "release it first, or give each its own claimant"
            raise ReservationError(f"{claim.claimant} has another live claim", where=held.reservation_id, hint=hint)
        return held

    def allocate(self, pool: Pool, claim: Reservation, node: Node) -> Reservation:
        """As the contract says: made if it is not there, grown if it is too small, attached.

        The books come first, so that nobody else can begin. What was begun in vain is undone; if that fails too, the
        claim stays, so that its release can be tried again.
        """
        wanted, ledger = _wanted(claim), self._ctx.ports.ledger
        must_take(node)
        keeper = self._keeper_of(pool, node)
        self._must_be_possible(pool, claim, node, keeper)
        begun = any(r.state is ReservationState.COMMITTED for r in ledger.get(claim.reservation_id))
        bound = ledger.commit(claim.reservation_id, node.node_id, _ANY, self._ctx.clock.now())
        has: Volume | None = None
        try:
            new = NewVolume(wanted.name, bound.tenant, wanted.gib, bound.reservation_id)
            has = keeper.create_volume(pool, node, new)
            if has.gib < wanted.gib - _EPS:
                has = keeper.grow_volume(pool, has.volume_id, wanted.gib)
            gib = has.gib
            keeper.attach_volume(pool, has.volume_id, node.node_id)
        except PoolError as e:
            if not begun:
                self._undo(keeper, pool, bound, has, e)
            raise
        return ledger.grow(bound.reservation_id, gib)

    def _undo(self, keeper: KeepsVolumes, pool: Pool, bound: Reservation, has: Volume | None, why: PoolError) -> None:
        try:
            has = has or _named(keeper.volumes(pool), _wanted(bound).name)
            if has is not None:
                mine = has.token == bound.reservation_id and not _wanted(bound).keep
                _give_up(keeper, pool, has, bound.node_id or "", delete=mine)
        except PoolError as e:
            log.warning("not undone: release it again", reservation=bound.reservation_id, pool=pool.name, why=str(e))
            return
        self._ctx.ports.ledger.release(bound.reservation_id, f"not attached: {why.what}")

    def resize(self, pool: Pool, claim: Reservation, node: Node, amount: Mapping[str, float]) -> Reservation:
        """As the contract says: it grows, and never shrinks. The volume comes first: what it has, it keeps."""
        wanted = _wanted(claim)
        if set(amount) != {"disk"}:
            raise RefusedError("of a volume only its disk is changed", where=claim.reservation_id, hint="in GiB")
        if amount["disk"] < wanted.gib - _EPS:
            hint = "claim a smaller one, and copy"
            raise RefusedError(f"a volume of {wanted.gib:g} GiB only grows", where=claim.reservation_id, hint=hint)
        if claim.state is not ReservationState.COMMITTED:
            raise ReservationError(f"cannot grow a {claim.state} volume", where=claim.reservation_id)
        found = self._find(pool, wanted.name)
        if found is None:
            raise NotFoundError(f"there is no volume {wanted.name} any more", where=pool.name, hint="release its claim")
        keeper, has = found
        grown = keeper.grow_volume(pool, has.volume_id, amount["disk"])
        return self._ctx.ports.ledger.grow(claim.reservation_id, grown.gib)

    def release(self, pool: Pool, claim: Reservation, node: Node | None, reason: str) -> Reservation:
        """As the contract says: detached, and deleted if the claim says so.

        One that waits in vain deletes nothing but what itself had made, before its node was lost.
        """
        ledger, name = self._ctx.ports.ledger, claim.reservation_id
        for held in ledger.get(name):
            found = self._find(pool, _wanted(held).name) if held.is_live else None
            if found is None:
                continue
            keeper, has = found
            bound = held.state is ReservationState.COMMITTED
            spare = has.token == name and not has.node_id
            if bound or spare:
                _give_up(keeper, pool, has, held.node_id or "", delete=not _wanted(held).keep)
        return ledger.release(name, reason)

    # ---- where

    def _keepers(self, pool: Pool) -> Iterator[KeepsVolumes]:
        for name in dict.fromkeys(g.provider for g in pool.groups) if self._ctx.live else ():
            provider: object = self._ctx.providers.get(name)
            if isinstance(provider, KeepsVolumes):
                yield provider

    def _keeper_of(self, pool: Pool, node: Node) -> KeepsVolumes:
        name = pool.group(node.group).provider
        provider: object = self._ctx.providers.get(name)
        if not isinstance(provider, KeepsVolumes):
            raise RefusedError(f"nodes of {name} have no volumes", where=node.node_id, hint="those of local and aws do")
        return provider

    def _find(self, pool: Pool, name: str) -> tuple[KeepsVolumes, Volume] | None:
        for keeper in self._keepers(pool):
            found = _named(keeper.volumes(pool), name)
            if found is not None:
                return keeper, found
        return None

    def _must_be_possible(self, pool: Pool, claim: Reservation, node: Node, keeper: KeepsVolumes) -> None:
        """Refuse what the volume, as it is, can never do there, before anything is changed."""
        found = self._find(pool, _wanted(claim).name)
        if found is None:
            return
        where, has = found
        _must_be_of(claim.tenant, has)
        zone = node.offering.zone
        if where is not keeper or (has.zone and zone and has.zone != zone):
            there = f"in {has.zone}" if where is keeper else "at another provider"
            hint = "take a node there, or another volume"
            raise RefusedError(f"volume {has.name} is {there}", where=node.node_id, hint=hint)
        if has.node_id not in ("", node.node_id) and not self._is_booked(pool, has.name):
            hint = "somebody attached it by hand: detach it there"
            raise ConflictError(f"volume {has.name} is attached to {has.node_id}", where=pool.name, hint=hint)

    def _is_booked(self, pool: Pool, name: str) -> bool:
        live = self._ctx.ports.ledger.reservations(pool.name)
        return any(r.volume and r.volume.name == name and r.state is ReservationState.COMMITTED for r in live)


def _wanted(claim: Reservation) -> WantedVolume:
    if claim.volume is None:
        raise RefusedError("this claim is on no volume", where=claim.reservation_id)
    return claim.volume


def _named(volumes: Iterable[Volume], name: str) -> Volume | None:
    return next((v for v in volumes if v.name == name), None)


def _must_be_of(tenant: str, volume: Volume) -> None:
    if volume.tenant != tenant:
        raise RefusedError(f"volume {volume.name} is another tenant's", where=volume.pool, hint="take another name")


def _give_up(keeper: KeepsVolumes, pool: Pool, volume: Volume, node_id: str, *, delete: bool) -> None:
    """Take it from its node, and delete it or not. Every step may be done again."""
    if node_id:
        keeper.detach_volume(pool, volume.volume_id, node_id)
    if delete:
        keeper.delete_volume(pool, volume.volume_id)


def _unit(pool: Pool, name: str, claims: Iterable[Reservation], seen: Volume | None, blind: str) -> Unit:
    ordered = sorted(claims, key=lambda r: (r.state is not ReservationState.COMMITTED, r.start, r.reservation_id))
    has = [r for r in ordered if r.state is ReservationState.COMMITTED]
    holding = Holding.ALLOCATED if has else Holding.RESERVED if ordered else Holding.FREE
    holders = tuple(r.claimant for r in ordered)
    if seen is None:
        detail = blind or ("gone" if has else "not made yet")
        asked = max(r.volume.gib for r in ordered if r.volume is not None)
        return Unit(Volumes.kind, name, pool.name, "", holding, {"disk": asked}, holders, detail)
    detail = f"{seen.volume_id}: {seen.state}" + (f" as {seen.device}" if seen.device else "")
    return Unit(Volumes.kind, name, pool.name, seen.node_id, holding, {"disk": seen.gib}, holders, detail)


def types(ctx: Context) -> tuple[Allocatable, ...]:
    """What this module brings."""
    return (Volumes(ctx),)


def type_for(ctx: Context, pool: Pool, claim: Reservation, node: Node | None) -> Allocatable | None:
    """This one if a claim is on it."""
    return Volumes(ctx) if claim.purpose is Purpose.VOLUME else None
