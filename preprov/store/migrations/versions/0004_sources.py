"""Places where work lives: how far they were read, their runs, and schedules of every kind."""

import sqlalchemy as sa
from alembic import op

from preprov.store.types import BigKey, UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "source",
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("zone", sa.String(), nullable=False),
        sa.Column("cursor", sa.String(), nullable=False),
        sa.Column("read_at", UtcDateTime(), nullable=True),
        sa.Column("tried_at", UtcDateTime(), nullable=True),
        sa.Column("error", sa.String(), nullable=False),
        sa.Column("pools", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_source")),
    )
    op.create_table(
        "source_run",
        sa.Column("id", BigKey, nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("dag_id", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("submit", sa.Double(), nullable=False),
        sa.Column("ended", sa.Double(), nullable=False),
        sa.Column("over", sa.Boolean(), nullable=False),
        sa.Column("task_count", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("claims", sa.String(), nullable=False),
        sa.Column("content", sa.String(), nullable=False),
        sa.Column("block", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_source_run")),
        sa.UniqueConstraint("source", "run_id", "pool", name=op.f("uq_source_run_source_run_id_pool")),
    )
    op.create_index("ix_source_run_submit", "source_run", ["submit"], unique=False)
    for name, columns, where in (
        ("ix_source_run_open", ["source"], "NOT over"),
        ("ix_source_run_unfolded", ["pool", "submit"], "block IS NULL"),
    ):
        op.create_index(
            name,
            "source_run",
            columns,
            unique=False,
            sqlite_where=sa.text(where),
            postgresql_where=sa.text(where),
        )
    op.create_table(
        "source_shape",
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("dag_id", sa.String(), nullable=False),
        sa.Column("content", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("source", "pool", "dag_id", name=op.f("pk_source_shape")),
    )
    op.create_table(
        "source_note",
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("source", "key", name=op.f("pk_source_note")),
    )
    with op.batch_alter_table("schedule") as schedule:
        schedule.add_column(sa.Column("source", sa.String(), nullable=False, server_default=""))
        schedule.add_column(sa.Column("every_s", sa.Float(), nullable=True))
        schedule.add_column(sa.Column("anchor", UtcDateTime(), nullable=True))
        schedule.add_column(sa.Column("turns", sa.String(), nullable=False, server_default="[]"))


def downgrade() -> None:
    with op.batch_alter_table("schedule") as schedule:
        for name in ("turns", "anchor", "every_s", "source"):
            schedule.drop_column(name)
    op.drop_table("source_note")
    op.drop_table("source_shape")
    for name in ("ix_source_run_unfolded", "ix_source_run_open", "ix_source_run_submit"):
        op.drop_index(name, table_name="source_run")
    op.drop_table("source_run")
    op.drop_table("source")
