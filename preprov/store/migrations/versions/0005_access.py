"""Tokens and told events; what a reservation is for, gangs of them, and claimants of each tenant's own."""

import sqlalchemy as sa
from alembic import op

from preprov.store.types import BigKey, UtcDateTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_LIVE = sa.text("state IN ('soft', 'committed')")
_NEW = ("purpose", "gang", "fingerprint")


def upgrade() -> None:
    op.create_table(
        "api_token",
        sa.Column("token_id", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("scopes", sa.String(), nullable=False),
        sa.Column("pools", sa.String(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=True),
        sa.Column("revoked_at", UtcDateTime(), nullable=True),
        sa.Column("used_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("token_id", name=op.f("pk_api_token")),
    )
    op.create_index("ix_api_token_tenant", "api_token", ["tenant"], unique=False)
    op.create_table(
        "work_event",
        sa.Column("id", BigKey, nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("document", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_work_event")),
        sa.UniqueConstraint("tenant", "source", "event_id", name=op.f("uq_work_event_tenant_source_event_id")),
    )
    op.create_index("ix_work_event_run", "work_event", ["tenant", "run_id"], unique=False)
    _reservations()


def _reservations() -> None:
    op.drop_index("uq_reservation_live", table_name="reservation", sqlite_where=_LIVE, postgresql_where=_LIVE)
    with op.batch_alter_table("reservation") as table:
        for name in _NEW:
            table.add_column(sa.Column(name, sa.String(), nullable=False, server_default=""))
    # Until now what a claim is for was told by how its claimant is named.
    op.execute("UPDATE reservation SET purpose = CASE WHEN claimant LIKE '%/%#%' THEN 'task' ELSE 'booking' END")
    with op.batch_alter_table("reservation") as table:
        for name in _NEW:
            table.alter_column(name, server_default=None, existing_type=sa.String(), existing_nullable=False)
    _live_index("pool", "tenant", "claimant")
    named = sa.text("gang <> ''")
    op.create_index(
        "ix_reservation_gang", "reservation", ["gang"], unique=False, sqlite_where=named, postgresql_where=named
    )


def downgrade() -> None:
    op.drop_index("ix_reservation_gang", table_name="reservation")
    op.drop_index("uq_reservation_live", table_name="reservation", sqlite_where=_LIVE, postgresql_where=_LIVE)
    with op.batch_alter_table("reservation") as table:
        for name in _NEW:
            table.drop_column(name)
    _live_index("pool", "claimant")
    op.drop_index("ix_work_event_run", table_name="work_event")
    op.drop_table("work_event")
    op.drop_index("ix_api_token_tenant", table_name="api_token")
    op.drop_table("api_token")


def _live_index(*columns: str) -> None:
    op.create_index(
        "uq_reservation_live", "reservation", list(columns), unique=True, sqlite_where=_LIVE, postgresql_where=_LIVE
    )
