"""Evidence about models: promotions, backtests, scores of issued forecasts, days kept out of training."""

import sqlalchemy as sa
from alembic import op

from preprov.store.types import BigKey, UtcDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "model_promotion",
        sa.Column("id", BigKey, nullable=False),
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("before", sa.String(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("backtest_id", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("rollback", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_promotion")),
    )
    op.create_index("ix_model_promotion_pool_kind", "model_promotion", ["pool", "kind"], unique=False)
    # A champion that stands already was promoted when it was made: it can be rolled back to.
    op.execute(
        """
        INSERT INTO model_promotion (pool, kind, version, before, at, reason, backtest_id, actor, rollback)
        SELECT pool, kind, version, '', created_at, reason, backtest_id, '', FALSE FROM model_version WHERE champion
        """
    )
    op.create_table(
        "model_backtest",
        sa.Column("id", BigKey, nullable=False),
        sa.Column("backtest_id", sa.String(), nullable=False),
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("document", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_backtest")),
        sa.UniqueConstraint("backtest_id", name=op.f("uq_model_backtest_backtest_id")),
    )
    op.create_index("ix_model_backtest_pool_at", "model_backtest", ["pool", "at"], unique=False)
    op.create_table(
        "forecast_score",
        sa.Column("forecast_id", sa.String(), nullable=False),
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("issued_at", UtcDateTime(), nullable=False),
        sa.Column("document", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("forecast_id", name=op.f("pk_forecast_score")),
    )
    op.create_index("ix_forecast_score_pool_issued_at", "forecast_score", ["pool", "issued_at"], unique=False)
    op.create_table(
        "quarantined_day",
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("day", sa.String(), nullable=False),
        sa.Column("document", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("pool", "day", name=op.f("pk_quarantined_day")),
    )


def downgrade() -> None:
    op.drop_table("quarantined_day")
    op.drop_index("ix_forecast_score_pool_issued_at", table_name="forecast_score")
    op.drop_table("forecast_score")
    op.drop_index("ix_model_backtest_pool_at", table_name="model_backtest")
    op.drop_table("model_backtest")
    op.drop_index("ix_model_promotion_pool_kind", table_name="model_promotion")
    op.drop_table("model_promotion")
