"""The arithmetic of room: what claims want together at their highest, none of them counted twice.

A claim under a window is part of the window: together they want the larger of the two at each instant. So is a claim
under a booking until it is committed, for then the booking itself has become smaller (`Reservation.used`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from preprov.model.errors import OverbookedError, ReservationError
from preprov.model.reservations import Purpose, Reservation, ReservationState
from preprov.model.resources import KINDS, Resources

Array: TypeAlias = NDArray[np.float64]
Span: TypeAlias = Sequence[float]
"""start, end (epoch microseconds), then the five amounts in the order of KINDS."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_FOREVER: Final = 1 << 62
_EPS: Final = 1e-9


def micros(at: datetime) -> int:
    """Microseconds since 1970-01-01T00:00Z, exactly."""
    return (at - _EPOCH) // _MICROSECOND


def instant(at: float) -> datetime:
    """The instant of so many microseconds."""
    return _EPOCH + int(at) * _MICROSECOND


@dataclass(frozen=True, slots=True)
class Claim:
    """A reservation as arithmetic sees it."""

    claim_id: str
    spans: Sequence[Span]
    purpose: str
    under: str = ""
    committed: bool = False

    def late(self, at: int) -> "Claim":
        """A task that is committed and should have ended by `at`: it still holds what it held last, until released."""
        last = self.spans[-1]
        if not self.committed or self.purpose != Purpose.TASK or last[1] > at:
            return self
        return Claim(self.claim_id, [*self.spans, [last[1], _FOREVER, *last[2:]]], self.purpose, self.under, True)


def claim_of(r: Reservation) -> Claim:
    """What a reservation claims."""
    committed = r.state is ReservationState.COMMITTED
    return Claim(r.reservation_id, spans_of(r), str(r.purpose), r.under, committed)


def spans_of(r: Reservation) -> list[list[float]]:
    """Its segments as numbers."""
    return [[micros(s.start), micros(s.end), *s.amount.as_tuple()] for s in r.segments]


def peak(claims: Iterable[Claim], start: int, end: int) -> Resources:
    """Element-wise peak of what claims want together within [start, end), in epoch microseconds."""
    plain, shares = _sorted_out(list(claims))
    spans = [s for group in (plain, *(g for pair in shares for g in pair)) for s in group]
    times = np.unique([t for s in spans for t in (max(s[0], start), min(s[1], end)) if start <= t < end])
    if not len(times):
        return Resources()
    total = _level(plain, times)
    for held, within in shares:
        total += np.maximum(_level(held, times), _level(within, times))
    return Resources.of(np.maximum(total.max(axis=0), 0.0).round(9).tolist())


def fits(claims: Sequence[Claim], start: int, end: int, room: Resources) -> Resources | None:
    """None if the claims fit into the room throughout [start, end); else what they want at their highest."""
    if len(claims) < _MANY and _bound(claims).fits_in(room):
        return None  # not even all at their highest at once would be too much
    top = peak(claims, start, end)
    return None if top.fits_in(room) else top


_MANY: Final = 64


def _bound(claims: Iterable[Claim]) -> Resources:
    """No less than the peak, and quick."""
    total = [0.0] * len(KINDS)
    for c in claims:
        if len(c.spans) == 1:
            for k, amount in enumerate(c.spans[0][2:]):
                total[k] += amount
        else:
            for k in range(len(KINDS)):
                total[k] += max(s[2 + k] for s in c.spans)
    return Resources(*total)


def _sorted_out(claims: list[Claim]) -> tuple[list[Span], list[tuple[list[Span], list[Span]]]]:
    """(spans that stand alone, [(spans of what is held, spans of what is within it), …])."""
    if not any(c.under for c in claims):
        return [s for c in claims for s in c.spans], []
    holders = {c.claim_id: c for c in claims if c.purpose != Purpose.TASK}
    within: dict[str, list[Span]] = {}
    plain: list[Span] = []
    for c in claims:
        holder = holders.get(c.under)
        if holder is not None and (holder.purpose == Purpose.WINDOW or not c.committed):
            within.setdefault(c.under, []).extend(c.spans)
    for c in claims:
        holder = holders.get(c.under)
        inside = holder is not None and (holder.purpose == Purpose.WINDOW or not c.committed)
        if not inside and c.claim_id not in within:
            plain.extend(c.spans)
    return plain, [(list(holders[i].spans), inner) for i, inner in within.items()]


def _level(spans: Sequence[Span], times: Array) -> Array:
    """(T, 5) what is claimed from each instant on."""
    change = np.zeros((len(times) + 1, len(KINDS)))
    if spans:
        rows = np.array([s[2:] for s in spans])
        # At an instant where one ends and one begins, the end counts first: spans are open on the right.
        np.add.at(change, np.searchsorted(times, [s[0] for s in spans]), rows)
        np.subtract.at(change, np.searchsorted(times, [s[1] for s in spans]), rows)
    return np.cumsum(change[:-1], axis=0)


def must_be_there(
    held: Iterable[Reservation], before: Reservation, after: Reservation, there: Mapping[str, float]
) -> None:
    """Refuse a claim on units that has more of them than before, if all of its type have more than there is.

    Args:
        held: all that are committed, `after` among them. before, after: the one that changes.
        there: by name, what there is; of what is not named, nothing.

    Raises:
        OverbookedError: it is so.
    """
    had = before.amounts if before.state is ReservationState.COMMITTED else {}
    more = [name for name, amount in after.amounts.items() if amount > had.get(name, 0.0)]
    every = [r.amounts for r in held]
    for name in more:
        wanted, room = sum(a.get(name, 0.0) for a in every), there.get(name, 0.0)
        if wanted > room + _EPS:
            what = f"{after.claimant} does not fit: {wanted:g} {name} of {room:g}"
            raise OverbookedError(what, where=after.pool, hint="wait for a release: preprov reservation list")


def must_take_room(new: Iterable[Reservation]) -> None:
    """Refuse to bind claims on units as if they were on a node's room: nobody would have counted them.

    Raises:
        ReservationError: one is.
    """
    for r in new:
        if r.units is not None:
            raise ReservationError(f"units of {r.units.kind} are bound by their type", where=r.reservation_id)
