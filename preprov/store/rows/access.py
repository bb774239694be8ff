"""Who may ask over HTTP, and what was told that way."""

from datetime import datetime

from sqlalchemy import Index, UniqueConstraint
from sqlmodel import Field

from preprov.store.rows.base import Row, growing_key, instant


class TokenRow(Row, table=True):
    """A token: its digest, never its secret. `scopes` and `pools` are JSON lists."""

    __tablename__ = "api_token"
    __table_args__ = (Index("ix_api_token_tenant", "tenant"),)

    token_id: str = Field(primary_key=True)
    digest: str
    tenant: str
    scopes: str
    pools: str
    node_id: str
    note: str
    created_at: datetime = instant()
    expires_at: datetime | None = instant(default=None)
    revoked_at: datetime | None = instant(default=None)
    used_at: datetime | None = instant(default=None)


class EventRow(Row, table=True):
    """What an orchestrator told of a run, as JSON; only ever added."""

    __tablename__ = "work_event"
    __table_args__ = (
        UniqueConstraint("tenant", "source", "event_id"),
        Index("ix_work_event_run", "tenant", "run_id"),
    )

    id: int | None = growing_key()
    tenant: str
    source: str
    event_id: str
    run_id: str
    at: datetime = instant()
    document: str
