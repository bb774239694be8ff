"""Claims on storage volumes: at most one committed claim is on a volume of a pool."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_NEW = (("volume", sa.String(), "''"), ("volume_gib", sa.Float(), "0"), ("volume_kept", sa.Boolean(), sa.true()))
_HELD = sa.text("state = 'committed' AND volume <> ''")


def upgrade() -> None:
    with op.batch_alter_table("reservation") as table:
        for name, kind, default in _NEW:
            value = default if not isinstance(default, str) else sa.text(default)
            table.add_column(sa.Column(name, kind, nullable=False, server_default=value))
    with op.batch_alter_table("reservation") as table:
        for name, kind, _ in _NEW:
            table.alter_column(name, server_default=None, existing_type=kind, existing_nullable=False)
    op.create_index(
        "uq_reservation_volume",
        "reservation",
        ["pool", "volume"],
        unique=True,
        sqlite_where=_HELD,
        postgresql_where=_HELD,
    )


def downgrade() -> None:
    op.drop_index("uq_reservation_volume", table_name="reservation")
    with op.batch_alter_table("reservation") as table:
        for name, _, _ in _NEW:
            table.drop_column(name)
