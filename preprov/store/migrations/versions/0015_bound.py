"""When reservations were bound and when they were over, so that what is long over can be forgotten; lists in pages."""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from preprov.store.types import UtcDateTime

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_OVER = sa.text("state IN ('released', 'expired')")
_BOOKED = sa.text("purpose <> 'task'")
_INDEXES = (
    ("ix_reservation_over", ["over_at"], _OVER),
    ("ix_reservation_booked", ["start", "reservation_id"], _BOOKED),
    ("ix_reservation_booked_by", ["tenant", "start", "reservation_id"], _BOOKED),
)


def upgrade() -> None:
    # Nobody has noted when the ones of before were over: now, at the latest. As a default it costs no row a write.
    now = sa.text(f"'{datetime.now(UTC):%Y-%m-%d %H:%M:%S}{_zone()}'")
    with op.batch_alter_table("reservation") as table:
        table.add_column(sa.Column("bound_at", UtcDateTime(), nullable=True))
        table.add_column(sa.Column("over_at", UtcDateTime(), nullable=True, server_default=now))
    with op.batch_alter_table("reservation") as table:
        table.alter_column("over_at", server_default=None, existing_type=UtcDateTime(), existing_nullable=True)
    for name, columns, where in _INDEXES:
        op.create_index(name, "reservation", columns, sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    for name, _, _ in _INDEXES:
        op.drop_index(name, table_name="reservation")
    with op.batch_alter_table("reservation") as table:
        table.drop_column("over_at")
        table.drop_column("bound_at")


def _zone() -> str:
    """SQLite has no zone of its own."""
    return ".000000" if op.get_bind().dialect.name == "sqlite" else "+00"
