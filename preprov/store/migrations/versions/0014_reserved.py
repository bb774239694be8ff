"""Slots of a limit that are kept for others for a time."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("source_limit") as table:
        table.add_column(sa.Column("reserved", sa.String(), nullable=False, server_default=sa.text("'[]'")))


def downgrade() -> None:
    with op.batch_alter_table("source_limit") as table:
        table.drop_column("reserved")
