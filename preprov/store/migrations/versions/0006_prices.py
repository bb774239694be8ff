"""What clouds said that offerings cost."""

import sqlalchemy as sa
from alembic import op

from preprov.store.types import UtcDateTime

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "offering_price",
        sa.Column("instance_type", sa.String(), nullable=False),
        sa.Column("zone", sa.String(), nullable=False),
        sa.Column("capacity_type", sa.String(), nullable=False),
        sa.Column("since", UtcDateTime(), nullable=False),
        sa.Column("usd_per_hour", sa.Float(), nullable=True),
        sa.Column("interruptions_per_hour", sa.Float(), nullable=True),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("heard_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("instance_type", "zone", "capacity_type", "since", name=op.f("pk_offering_price")),
    )


def downgrade() -> None:
    op.drop_table("offering_price")
