"""What was promised to a pool's owner."""

import sqlalchemy as sa
from alembic import op

from preprov.store.types import UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "promise",
        sa.Column("promise_id", sa.String(), nullable=False),
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("document", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("promise_id", name=op.f("pk_promise")),
    )
    op.create_index("ix_promise_pool_at", "promise", ["pool", "at"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_promise_pool_at", table_name="promise")
    op.drop_table("promise")
