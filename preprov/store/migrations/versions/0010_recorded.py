"""Lead times that a vendor or a scheduler had on record before preprov looked."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("lead_observation") as table:
        table.add_column(sa.Column("recorded", sa.String(), nullable=False, server_default=""))
    with op.batch_alter_table("lead_observation") as table:
        table.alter_column("recorded", server_default=None)


def downgrade() -> None:
    with op.batch_alter_table("lead_observation") as table:
        table.drop_column("recorded")
