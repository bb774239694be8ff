"""Who holds what: reservations, leases, votes; and how long warming took."""

from datetime import datetime

from sqlalchemy import BigInteger, Index, UniqueConstraint
from sqlmodel import Field

from preprov.store.rows.base import Row, growing_key, instant, partial_index


class ReservationRow(Row, table=True):
    """A claim on capacity.

    `segments` is JSON: [[start, end, cpu, memory, gpu, disk_io, network], …], times in epoch microseconds; `units` is
    JSON of the amounts of `unit_kind` by name. `over_at`: when it became final; says nothing of a live one.
    """

    __tablename__ = "reservation"
    __table_args__ = (
        partial_index(
            "uq_reservation_live", "pool", "tenant", "claimant", where="state IN ('soft', 'committed')", unique=True
        ),
        partial_index("ix_reservation_node", "pool", "node_id", where="state = 'committed'"),
        partial_index("ix_reservation_gang", "gang", where="gang <> ''"),
        partial_index(
            "uq_reservation_volume", "pool", "volume", where="state = 'committed' AND volume <> ''", unique=True
        ),
        Index("ix_reservation_pool_start", "pool", "start"),
        partial_index("ix_reservation_over", "over_at", where="state IN ('released', 'expired')"),
        partial_index("ix_reservation_booked", "start", "reservation_id", where="purpose <> 'task'"),
        partial_index("ix_reservation_booked_by", "tenant", "start", "reservation_id", where="purpose <> 'task'"),
    )

    id: int | None = growing_key()
    reservation_id: str = Field(unique=True)
    pool: str
    claimant: str
    state: str
    tenant: str
    priority: int = Field(sa_type=BigInteger)
    start: datetime = instant()
    end: datetime = instant()
    segments: str
    expires_at: datetime | None = instant(default=None)
    node_id: str | None = None
    created_at: datetime | None = instant(default=None)
    reason: str = ""
    purpose: str = "booking"
    gang: str = ""
    under: str = ""
    covers: str = ""
    fingerprint: str = ""
    volume: str = ""
    volume_gib: float = 0.0
    volume_kept: bool = True
    unit_kind: str = ""
    units: str = ""
    bound_at: datetime | None = instant(default=None)
    over_at: datetime | None = instant(default=None)


class WindowRow(Row, table=True):
    """A recurring window, as JSON."""

    __tablename__ = "recurring_window"

    pool: str = Field(primary_key=True)
    tenant: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    document: str


class LeaseRow(Row, table=True):
    """Who passes over a pool, until when. `token` is new with every holding."""

    __tablename__ = "pool_lease"

    pool: str = Field(primary_key=True)
    holder: str
    token: str
    until: datetime = instant()


class VoteRow(Row, table=True):
    """Since when a node has been found superfluous."""

    __tablename__ = "scale_down_vote"

    pool: str = Field(primary_key=True)
    node_id: str = Field(primary_key=True)
    since: datetime = instant()


class LeadRow(Row, table=True):
    """One warming."""

    __tablename__ = "lead_observation"
    __table_args__ = (
        UniqueConstraint("node_id", "came_from", "at"),
        Index("ix_lead_observation_provider_at", "provider", "at"),
    )

    id: int | None = growing_key()
    at: datetime = instant()
    pool: str
    provider: str
    group: str
    zone: str
    instance_type: str
    image: str
    came_from: str
    seconds: float
    node_id: str
    stages: str
    outcome: str
    recorded: str = ""
