"""How groups were found, and who found them."""

import sqlalchemy as sa
from alembic import op

from preprov.store.types import BigKey, UtcDateTime

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "installation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_installation")),
    )
    op.create_table(
        "adoption",
        sa.Column("id", BigKey, nullable=False),
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("group", sa.String(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("released_at", UtcDateTime(), nullable=True),
        sa.Column("document", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adoption")),
    )
    op.create_index(
        "uq_adoption_in_force",
        "adoption",
        ["pool", "group"],
        unique=True,
        sqlite_where=sa.text("released_at IS NULL"),
        postgresql_where=sa.text("released_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_index("uq_adoption_in_force", table_name="adoption")
    op.drop_table("adoption")
    op.drop_table("installation")
