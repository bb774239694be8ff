"""Claims on units of resource types that count in their own terms."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_NEW = ("unit_kind", "units")


def upgrade() -> None:
    with op.batch_alter_table("reservation") as table:
        for name in _NEW:
            table.add_column(sa.Column(name, sa.String(), nullable=False, server_default=sa.text("''")))
    with op.batch_alter_table("reservation") as table:
        for name in _NEW:
            table.alter_column(name, server_default=None, existing_type=sa.String(), existing_nullable=False)


def downgrade() -> None:
    with op.batch_alter_table("reservation") as table:
        for name in _NEW:
            table.drop_column(name)
