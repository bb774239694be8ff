"""On what tasks wait: the limits that sources keep, and when no quota held a task back any more."""

import sqlalchemy as sa
from alembic import op

from preprov.store.types import UtcDateTime

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "source_limit",
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("slots", sa.Float(), nullable=False),
        sa.Column("per_run", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("source", "cause", "name", name=op.f("pk_source_limit")),
    )
    with op.batch_alter_table("live_task") as table:
        table.add_column(sa.Column("slot_at", UtcDateTime(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("live_task") as table:
        table.drop_column("slot_at")
    op.drop_table("source_limit")
