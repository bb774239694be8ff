"""What is taken of nodes now, each thing counted once.

By reservations, where what runs under a booking or a window is in it; and by work that preprov has not started. Nobody
says for which work a booking was made. So what began on a node after a booking was bound there is taken to be its, as
far as the booking goes; what was there before, or is more, comes on top.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from preprov.model.foreign import Foreign
from preprov.model.nodes import PoolObservation
from preprov.model.reservations import Purpose, Reservation, ReservationState
from preprov.model.resources import ZERO, Resources, sum_of

_WHOLE_SECONDS: Final = timedelta(seconds=1)
"""Schedulers say no finer when something began."""


@dataclass(frozen=True)
class Holder:
    """A booking or window that is bound to a node. within: what runs under it takes. free: what is left in it."""

    reservation: Reservation
    within: Resources
    free: Resources

    @property
    def taken(self) -> Resources:
        """What the two take of the node together."""
        return self.free + self.within


def holders_of(reservations: Iterable[Reservation], at: datetime) -> Mapping[str, Holder]:
    """Bound bookings and windows by id, with what is left in each from `at` on.

    A booking has been made smaller by what was bound under it; a window has not.
    """
    committed = [r for r in reservations if r.state is ReservationState.COMMITTED and r.node_id]
    holders = {r.reservation_id: r for r in committed if r.purpose is not Purpose.TASK}
    within: dict[str, Resources] = {}
    for r in committed:
        holder = holders.get(r.under)
        if holder is not None and holder.purpose is Purpose.WINDOW and holder.node_id == r.node_id:
            within[r.under] = within.get(r.under, ZERO) + r.most_after(at)
    out = {}
    for name, r in holders.items():
        inside = within.get(name, ZERO)
        out[name] = Holder(r, inside, r.most_after(at).minus_clamped(inside))
    return out


def held_by_node(reservations: Iterable[Reservation], at: datetime) -> Mapping[str, Resources]:
    """What is taken of each node: by tasks, and by what is held for others, each counted once."""
    reservations = tuple(reservations)
    holders = holders_of(reservations, at)
    out: dict[str, Resources] = {}

    def take(node: str, amount: Resources) -> None:
        out[node] = out.get(node, ZERO) + amount

    for r in reservations:
        if r.state is ReservationState.COMMITTED and r.node_id and r.reservation_id not in holders:
            take(r.node_id, r.most_after(at))
    for h in holders.values():
        take(h.reservation.node_id or "", h.free)
    return out


def taken_by_node(observation: PoolObservation, reservations: Iterable[Reservation]) -> Mapping[str, Resources]:
    """What is taken of each node: by reservations, and by what others run there beyond them."""
    reservations = tuple(reservations)
    out = dict(held_by_node(reservations, observation.at))
    for node, amount in foreign_by_node(observation, reservations).items():
        out[node] = out.get(node, ZERO) + amount
    return out


def foreign_by_node(observation: PoolObservation, reservations: Iterable[Reservation]) -> Mapping[str, Resources]:
    """What others run on each node beyond what is booked there; nodes without any are left out."""
    used = {n.node_id: n.foreign for n in observation.nodes if n.foreign}
    if not used:
        return {}
    booked: dict[str, list[tuple[datetime, Resources]]] = {}
    for h in holders_of(reservations, observation.at).values():
        r = h.reservation
        if r.purpose is Purpose.BOOKING and r.node_id in used:
            booked.setdefault(r.node_id, []).append((r.bound_at or r.start, h.free))
    return {node: _beyond(work, booked.get(node, ())) for node, work in used.items()}


def _beyond(work: Sequence[Foreign], booked: Sequence[tuple[datetime, Resources]]) -> Resources:
    """What work holds less what bookings have room for that were bound before it began, the latest first."""
    left = sorted(work, key=lambda f: (f.since is None, f.since.timestamp() if f.since else 0.0))
    loose = accounted = ZERO
    for bound_at, free in sorted(booked, key=lambda b: b[0], reverse=True):
        while left and ((since := left[-1].since) is None or since + _WHOLE_SECONDS > bound_at):
            loose = loose + left.pop().amount
        mine = loose.minimum(free)
        loose, accounted = loose.minus_clamped(mine), accounted + mine
    return sum_of(f.amount for f in work).minus_clamped(accounted)


def held_by_tenant(reservations: Iterable[Reservation], at: datetime) -> Mapping[str, Resources]:
    """What each tenant has committed, each thing counted once."""
    reservations = tuple(reservations)
    of: dict[str, list[Reservation]] = {}
    for r in reservations:
        of.setdefault(r.tenant, []).append(r)
    out = {}
    for tenant, own in of.items():
        out[tenant] = sum_of(held_by_node(own, at).values())
    return out
