"""Recurring windows; claims under a reservation, and claims whose demand is foreseen anyway."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_NEW = ("under", "covers")


def upgrade() -> None:
    op.create_table(
        "recurring_window",
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("document", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("pool", "tenant", "name", name=op.f("pk_recurring_window")),
    )
    with op.batch_alter_table("reservation") as table:
        for name in _NEW:
            table.add_column(sa.Column(name, sa.String(), nullable=False, server_default=""))
    with op.batch_alter_table("reservation") as table:
        for name in _NEW:
            table.alter_column(name, server_default=None, existing_type=sa.String(), existing_nullable=False)


def downgrade() -> None:
    with op.batch_alter_table("reservation") as table:
        for name in _NEW:
            table.drop_column(name)
    op.drop_table("recurring_window")
