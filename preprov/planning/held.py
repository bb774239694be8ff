"""What reservations hold on nodes now, where what runs under a booking or a window is counted once."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from preprov.model.reservations import Purpose, Reservation, ReservationState
from preprov.model.resources import ZERO, Resources, sum_of


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
