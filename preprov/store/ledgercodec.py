"""Reservations as rows of their table, and back."""

import json
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Table

from preprov.model.reservations import Purpose, Reservation, ReservationState, Segment, WantedUnits, WantedVolume
from preprov.model.resources import Resources
from preprov.model.room import Claim, instant, spans_of
from preprov.store.rows import ReservationRow

TABLE: Final[Table] = ReservationRow.__table__  # type: ignore[attr-defined]
COLUMNS: Final = tuple(c.name for c in TABLE.columns if c.name != "id")
"""What `values` gives."""


def state_values(r: Reservation, now: datetime | None = None) -> dict[str, Any]:
    """The columns that change in a reservation's life; those of its claim seldom do. now: since when, if it is over."""
    return {
        "state": str(r.state),
        "node_id": r.node_id,
        "reason": r.reason,
        "expires_at": r.expires_at,
        "bound_at": r.bound_at,
        "over_at": None if r.is_live else now,
    }


def values(r: Reservation, now: datetime | None = None) -> dict[str, Any]:
    """The columns of a reservation."""
    return {
        **state_values(r, now),
        "reservation_id": r.reservation_id,
        "pool": r.pool,
        "claimant": r.claimant,
        "tenant": r.tenant,
        "priority": r.priority,
        "start": r.start,
        "end": r.end,
        "segments": json.dumps(spans_of(r), separators=(",", ":")),
        "created_at": r.created_at,
        "purpose": str(r.purpose),
        "gang": r.gang,
        "under": r.under,
        "covers": r.covers,
        "fingerprint": r.fingerprint,
        "volume": r.volume.name if r.volume else "",
        "volume_gib": r.volume.gib if r.volume else 0.0,
        "volume_kept": r.volume.keep if r.volume else True,
        "unit_kind": r.units.kind if r.units else "",
        "units": json.dumps(dict(r.units.amounts)) if r.units else "",
    }


def reservation(row: Any) -> Reservation:
    """The reservation of a row."""
    segments = tuple(
        Segment(instant(start), instant(end), Resources.of(amount)) for start, end, *amount in json.loads(row.segments)
    )
    return Reservation(
        reservation_id=row.reservation_id,
        pool=row.pool,
        claimant=row.claimant,
        segments=segments,
        state=ReservationState(row.state),
        tenant=row.tenant,
        priority=row.priority,
        expires_at=row.expires_at,
        node_id=row.node_id,
        created_at=row.created_at,
        reason=row.reason,
        purpose=Purpose(row.purpose),
        gang=row.gang,
        under=row.under,
        covers=row.covers,
        fingerprint=row.fingerprint,
        volume=WantedVolume(row.volume, row.volume_gib, row.volume_kept) if row.volume else None,
        units=WantedUnits.of(row.unit_kind, json.loads(row.units)) if row.unit_kind else None,
        bound_at=row.bound_at,
    )


def claim(row: Any) -> Claim:
    """What the reservation of a row claims."""
    committed = row.state == ReservationState.COMMITTED
    return Claim(row.reservation_id, json.loads(row.segments), row.purpose, row.under, committed)
